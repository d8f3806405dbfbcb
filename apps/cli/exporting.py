"""Bundles that commands export or take as they are, the size of their pictures, and what calibrates them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mue_edge import machine, targets
from mue_edge.apps.cli.catalogue import resolve_model
from mue_edge.apps.cli.terminal import export_progress, progress, say
from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.bundle.manifest import MANIFEST
from mue_edge.errors import UsageError
from mue_edge.export import room
from mue_edge.files import sha256

if TYPE_CHECKING:
    from mue_edge.calibrate.certificate.claim import Conditions
    from mue_edge.calibrate.data.samples import Samples
    from mue_edge.calibrate.metrics.cider import Frequencies
    from mue_edge.calibrate.plans.times import ProfileRequest
    from mue_edge.calibrate.policies.evaluator import PolicyEvaluator
    from mue_edge.export.build import Exported
    from mue_edge.inputs.image import PictureSource

TRACES, PROFILE, BUNDLE = "traces", "profile.json", "bundle"  # in the folder of a calibration


def parse_size(text: str | None) -> dict[str, int]:
    """ "480" or "384x512" (height x width) as options of a plan. Raises UsageError."""
    if text is None:
        return {}
    size = re.fullmatch(r"(\d{1,5})(?:[xX](\d{1,5}))?", text)
    if size is None:
        raise UsageError(f"--image-size {text!r} is neither N nor HxW, as in 480 or 384x512")
    return {"height": int(size[1]), "width": int(size[2] or size[1])}


def export(
    model: Path,
    folder: Path,
    target: str,
    options: Mapping[str, Any],
    name: str,
    pictures: Sequence[PictureSource] = (),
) -> Exported:
    """Export a model folder, with progress on a terminal; pictures: to scan ranges on."""
    build, _ = room()
    exported: Exported = build.export(model, folder, target, dict(options), export_progress(), name, pictures)
    return exported


def resolve_source(name: str) -> Path:
    """The folder of a bundle, or of a model."""
    return Path(name) if (Path(name) / MANIFEST).is_file() else resolve_model(name)


def check_output(folder: Path, marker: str, content: str) -> None:
    """Raises UsageError for an output folder that holds something else than what it is for."""
    if folder.exists() and any(folder.iterdir()) and not (folder / marker).is_dir():
        raise UsageError(f"{folder} is there and holds no {content}; give another --out, or remove it")


@contextmanager
def policy_evaluator(
    bundle: Bundle,
    folder: Path,
    request: ProfileRequest,
    tune: Samples,
    frequencies: Frequencies | None,
    workers: int | None,
) -> Iterator[tuple[PolicyEvaluator, Conditions]]:
    """What evaluates policies on a bundle by the profile that is requested, and the profile's conditions.

    tune: whose pictures a profile is made on. The traces are kept in the folder.
    """
    from mue_edge.calibrate.plans import times
    from mue_edge.calibrate.policies.evaluator import PolicyEvaluator

    processes = workers or machine.cores()
    with targets.open_session(bundle.path, threads=request.threads) as session:
        profile, conditions = times.obtain(session, tune, request, progress, say)
        yield (
            PolicyEvaluator(session, profile, folder / TRACES, frequencies, progress, processes, request.clock),
            conditions,
        )


def bundle_of(source: Path, folder: Path, target: str, options: Mapping[str, Any], name: str) -> Bundle:
    """A bundle itself; of a model folder the bundle that an earlier run exported to `folder`, or a new one.

    Raises UsageError if that bundle is of another model, target or plan.
    """
    if (source / MANIFEST).is_file():
        return open_bundle(source)
    if not (folder / MANIFEST).is_file():
        say(f"exporting {name} for {target}")
        return export(source, folder, target, options, name).bundle
    bundle = open_bundle(folder)
    m = bundle.manifest
    same = all(m.plan.get(key) == value for key, value in options.items() if key != "ends")
    if not same or m.target != target or m.model.get("sha256") != sha256(source / "model.safetensors"):
        raise UsageError(
            f"{folder} was made from another model, target or plan; give another --out, or remove {folder.parent}"
        )
    return bundle


def golden_pixels(bundle: Bundle) -> list[object]:
    """The network's inputs for a bundle's golden pictures, [1, 3, H, W] each."""
    from mue_edge.targets import golden

    pictures, _ = golden.read(bundle)
    return [golden.pixels(picture, bundle.manifest.preprocess) for picture in pictures]

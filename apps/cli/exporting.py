"""What the commands that export share: a model's bundle, and the size of its pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mue_edge.apps.cli.terminal import export_progress, say
from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.bundle.manifest import MANIFEST
from mue_edge.errors import UsageError
from mue_edge.export import room
from mue_edge.files import sha256

if TYPE_CHECKING:
    from mue_edge.export.build import Exported
    from mue_edge.inputs.image import PictureSource


def parse_size(text: str | None) -> dict[str, int]:
    """ "480" or "384x512" (height x width) as options of a plan. Raises UsageError."""
    if text is None:
        return {}
    size = re.fullmatch(r"(\d{1,5})(?:[xX](\d{1,5}))?", text)
    if size is None:
        raise UsageError(f"--image-size {text!r} is neither N nor HxW, as in 480 or 384x512")
    return {"height": int(size[1]), "width": int(size[2] or size[1])}


def export(
    model: Path, place: Path, target: str, options: Mapping[str, Any], name: str,
    pictures: Sequence[PictureSource] = (),
) -> Exported:  # fmt: skip
    """Export a model folder, with progress on a terminal; pictures: to scan ranges on."""
    build, _ = room()
    exported: Exported = build.export(model, place, target, dict(options), export_progress(), name, pictures)
    return exported


def bundle_of(source: Path, place: Path, target: str, options: Mapping[str, Any], name: str) -> Bundle:
    """A bundle itself; of a model folder the bundle that an earlier run exported to `place`, or a new one.

    Raises UsageError if that bundle is of another model, target or plan.
    """
    if (source / MANIFEST).is_file():
        return open_bundle(source)
    if not (place / MANIFEST).is_file():
        say(f"exporting {name} for {target}")
        return export(source, place, target, options, name).bundle
    bundle = open_bundle(place)
    m = bundle.manifest
    same = all(m.plan.get(key) == value for key, value in options.items() if key != "ends")
    if not same or m.target != target or m.model.get("sha256") != sha256(source / "model.safetensors"):
        raise UsageError(
            f"{place} was made from another model, target or plan; give another --out, or remove "
            f"{place.parent}"
        )
    return bundle

"""Segments to Core ML: ML packages with a function a segment, equal weights once in each package.

For iOS 18 two packages, `encoder` and `decoder`, of several functions each; for iOS 17 one for each segment.
Unless the precision is fp32, halves are the type of calculation, inputs and outputs, but for scores (see
`island`), ids and the picture, which is an image (8-bit RGB)."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mue_edge.arrays import Array
from mue_edge.bundle.manifest import Manifest, Port, Preprocess, Segment
from mue_edge.errors import UsageError, VerificationError, missing_extra
from mue_edge.export.coreml.island import FLOAT32, Island
from mue_edge.export.coreml.lints import lint
from mue_edge.export.formats import Call, Written, calls, entry, quiet
from mue_edge.export.progress import Progress
from mue_edge.models.cut import Cut, Piece
from mue_edge.targets.coreml.packages import LEVELS, MODEL, package_of
from mue_edge.targets.coreml.runtime import Evaluated, levels
from mue_edge.targets.executorch.methods import method_name
from mue_edge.targets.mil.program import read


@contextmanager
def silent() -> Iterator[None]:
    """coremltools warns of what it lacks on this system, and draws bars."""
    with quiet(), redirect_stderr(io.StringIO()):
        yield


try:
    with silent():
        import coremltools as ct
        import coremltools.optimize.coreml as cto
except ImportError as problem:
    raise missing_extra("coremltools", "coreml") from problem

PACKAGES = ("coremltools", "torch")
# Which segments the package `decoder` holds, by their contract's names; `encoder` has the rest.
DECODER = ("cross_kv", "decoder", "fill", "mix", "ramp", "embed", "head")
# Smaller weights stay as they are: their scales would cost what they save.
COMPRESSED_FROM = 512
# Precisions that coremltools quantises linearly to.
LINEAR: Mapping[str, Mapping[str, Any]] = {
    "int8": {"dtype": "int8", "granularity": "per_channel"},
    "int4": {"dtype": "int4", "granularity": "per_block", "block_size": 32},
}
SYSTEMS = {"ios18": "iOS18", "ios17": "iOS17"}
# The stem's port, which is given as a picture.
PIXELS = "pixels"


class Levelled(torch.nn.Module):
    """A stem for grey levels, of which Core ML has taken 255 · mean (a bias that halves hold exactly for a
    mean of 1/2; ImageNet's leave errors of 0.05 levels, and pixels 2e-3 from float32's). It scales images by
    one number in all, so each channel is divided by its deviation here."""

    scale: torch.Tensor

    def __init__(self, stem: torch.nn.Module, picture: Preprocess) -> None:
        super().__init__()
        self.stem = stem
        self.register_buffer("scale", torch.tensor([1 / (255 * std) for std in picture.std])[:, None, None])

    def forward(self, pixels: torch.Tensor) -> Any:
        return self.stem(pixels * self.scale)


def write(cut: Cut, manifest: Manifest, folder: Path, progress: Progress) -> Written:
    system, precision = str(manifest.plan["backend"]), manifest.precision
    if precision == "int4" and system != "ios18":
        raise UsageError("int4 needs iOS 18; for iOS 17 take --precision int8")
    segments: dict[str, Segment] = {}
    with tempfile.TemporaryDirectory() as scratch:
        single = {}
        for i, piece in enumerate(cut.pieces):
            progress(piece.name, i, len(cut.pieces))
            single[piece.name] = Path(scratch) / f"{method_name(piece.name)}.mlpackage"
            model = converted(piece, precision, system, preprocess=manifest.preprocess)
            save(compressed(model, precision), single[piece.name])
            segments[piece.name] = described(piece, system, precision, single[piece.name])
        progress("packing", 0, 1)
        (folder / "segments").mkdir()
        for package, names in by_package(segments).items():
            merge({name: single[name] for name in names}, folder / package, several=system == "ios18")
    weights = {p.name: frozenset(x.numel() for x in p.module.state_dict().values()) for p in cut.pieces}
    return Written(segments, summary=lint(segments, folder, precision, weights))


def caller(manifest: Manifest, folder: Path) -> Call:
    call = calls(Evaluated(folder, manifest.segments), manifest)

    def call_with_pictures(name: str, inputs: Sequence[Array]) -> Sequence[Array]:
        ports = manifest.segments[name].inputs.values()
        grey = [levels(x, manifest.preprocess) if p.dtype == LEVELS else x for x, p in zip(inputs, ports)]
        return call(name, grey)

    return call_with_pictures


def converted(
    piece: Piece,
    precision: str,
    system: str,
    island: Callable[[Any], bool] | None = None,
    preprocess: Preprocess | None = None,
) -> Any:
    """The ML program of a segment, its ports named. island: whether an operation becomes half. preprocess:
    of the picture that is given for the port `pixels`; without it the port takes numbers."""
    picture = preprocess if PIXELS in piece.inputs else None
    half = precision != "fp32"

    def typed(port: str, shape: tuple[int, ...] | None, whole: bool) -> Any:
        if picture is not None and shape:
            return ct.ImageType(port, shape, bias=[-255 * mean for mean in picture.mean])
        floating = np.float16 if half and port not in FLOAT32 else np.float32
        return ct.TensorType(port, shape, dtype=np.int32 if whole else floating)

    module = piece.module if picture is None else Levelled(piece.module, picture)
    with torch.no_grad(), silent():
        program = torch.export.export(module.eval(), tuple(piece.inputs.values()))
        # Not to core operators: coremltools knows layers as such, and would be given their parts.
        program = program.run_decompositions({})
        forbid(program, piece.name)
        calculation = ct.transform.FP16ComputePrecision(island or Island()) if half else ct.precision.FLOAT32
        return ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=getattr(ct.target, SYSTEMS[system]),
            inputs=[typed(p, tuple(x.shape), not x.is_floating_point()) for p, x in piece.inputs.items()],
            outputs=[ct.TensorType(port) if port == "top_ids" else typed(port, None, False) for port in piece.outputs],
            compute_precision=calculation,
            skip_model_load=True,
        )


def forbid(program: torch.export.ExportedProgram, name: str) -> None:
    """Raises VerificationError for a cosine that Core ML would calculate by a product of squared norms,
    which no half can hold."""
    for node in program.graph.nodes:
        if "cosine_similarity" in str(node.target):
            raise VerificationError(
                f"segment {name} uses cosine_similarity, which overflows in half precision: its score would "
                "be 0 and nothing would exit; normalise both vectors first"
            )


def compressed(model: Any, precision: str) -> Any:
    """The program with its weights in fewer bits, as the precision says."""
    if precision in LINEAR:
        options = {"mode": "linear_symmetric", "weight_threshold": COMPRESSED_FROM, **LINEAR[precision]}
        config, compress = cto.OpLinearQuantizerConfig(**options), cto.linear_quantize_weights
    elif precision == "palette6":
        config = cto.OpPalettizerConfig(mode="kmeans", nbits=6, weight_threshold=COMPRESSED_FROM)
        compress = cto.palettize_weights
    else:
        return model
    with silent():
        return compress(model, cto.OptimizationConfig(global_config=config))


def save(model: Any, package: Path) -> None:
    """Write a package, without what coremltools adds for debuggers."""
    with silent():
        model.save(str(package))
    _tidy(package)


def merge(single: Mapping[str, Path], package: Path, *, several: bool) -> None:
    """One package of the segments' packages; if not `several`, there is one, and it is moved."""
    if not several:
        (path,) = single.values()
        shutil.move(path, package)
        return
    parts = ct.utils.MultiFunctionDescriptor()
    for name, path in single.items():
        parts.add_function(str(path), src_function_name="main", target_function_name=method_name(name))
    parts.default_function_name = method_name(next(iter(single)))
    with silent():
        ct.utils.save_multifunction(parts, str(package))
    _tidy(package)


def by_package(segments: Mapping[str, Segment]) -> dict[str, list[str]]:
    packages: dict[str, list[str]] = {}
    for name, segment in segments.items():
        packages.setdefault(package_of(segment), []).append(name)
    return packages


def described(piece: Piece, system: str, precision: str, package: Path) -> Segment:
    """The manifest's entry: ports in the types that the package has."""
    stage = "decoder" if piece.name.partition(".")[0] in DECODER else "encoder"
    name = stage if system == "ios18" else method_name(piece.name)
    file = f"segments/{name}.mlpackage/{MODEL}"
    segment = entry(piece, file, read(package).functions["main"].weight_bytes())
    half = precision != "fp32"
    return replace(segment, inputs=_ports(segment.inputs, half), outputs=_ports(segment.outputs, half))


def _ports(ports: Mapping[str, Port], half: bool) -> dict[str, Port]:
    names = {"int64": "int32"} | ({"float32": "float16"} if half else {})
    fixed = {PIXELS: LEVELS} | dict.fromkeys(FLOAT32, "float32")
    return {
        name: replace(port, dtype=fixed.get(name) or names.get(port.dtype, port.dtype)) for name, port in ports.items()
    }


def _tidy(package: Path) -> None:
    (package / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
    for path in package.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)

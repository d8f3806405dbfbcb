"""What rivals are given: a model folder, and its graphs as ONNX files, made once for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mue_edge import models
from mue_edge.bundle.manifest import Manifest, Preprocess
from mue_edge.errors import UsageError
from mue_edge.export import lacking
from mue_edge.loop.search import SearchSettings

if TYPE_CHECKING:
    from mue_edge.models.cut import Piece


@dataclass(frozen=True)
class RivalJob:
    """The model, what it is asked (ids), and how, as the bundle is; graphs: the folder of the ONNX files;
    precision: fp32 or int8."""

    model: Path
    graphs: Path
    prompt: tuple[int, ...]
    preprocess: Preprocess
    search: SearchSettings
    precision: str
    threads: int

    def graph(self, name: str, precision: str = "fp32") -> Path:
        """The file of one of PARTS, weights inside."""
        return self.graphs / f"{name}.{precision}.onnx"

    def pieces(self) -> tuple[Piece, Piece, Piece]:
        """Stem, encoder and decoder as torch modules (`Family.whole`). Raises UsageError for a family without."""
        from mue_edge.models.cut import CutRequest

        request = CutRequest(self.preprocess.height, self.preprocess.width, {}, self.search, self.prompt)
        return models.whole(models.load(self.model), request)


def make(model: Path, manifest: Manifest, graphs: Path, rivals: Sequence[str], threads: int) -> RivalJob:
    """The job of a bundle's model, with the graphs that the rivals read: of an int8 bundle in int8 too.

    Raises UsageError for a bundle that writes no captions, EnvironmentLacksError without the extra export.
    """
    try:
        from mue_edge.export.onnx.format import trace
        from mue_edge.export.onnx.quantise import in_int8, int8
        from mue_edge.export.prompts import read_prompt
    except ImportError as problem:
        raise lacking(problem) from problem
    prompt = read_prompt(model, manifest.task).ids
    if prompt is None or manifest.search.answers:
        raise UsageError(f"rivals write captions; {manifest.name} is for the task {manifest.task!r}")
    precision = "int8" if manifest.precision == "int8" else "fp32"
    job = RivalJob(model, graphs, prompt, manifest.preprocess, manifest.search, precision, threads)
    for piece in job.pieces() if set(rivals) - {"torch"} else ():
        graph = trace(piece, _varying(piece, manifest.search.max_length))
        job.graph(piece.name).write_bytes(graph.SerializeToString())
        if precision == "int8" and "onnxruntime" in rivals:
            job.graph(piece.name, precision).write_bytes((int8(graph) if in_int8(piece) else graph).SerializeToString())
    return job


def _varying(piece: Piece, longest: int) -> tuple[object, ...]:
    """torch.export's `dynamic_shapes`: the words so far."""
    from torch.export import Dim

    words = Dim("words", min=0, max=longest)
    varying = [{2: words} if name.startswith("past_") else None for name in piece.inputs]
    # The decoder takes its first input, and all others as one tuple.
    return (varying[0], tuple(varying[1:])) if varying[1:] else (varying[0],)

"""Times as they would be if a model's head had many more words: a projection, since nothing of the kind runs.

What such a head costs is measured on a random model of a real size, in decoder layers of its own; the
profile's head then costs as many of its decoder layers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mue_edge.loop.protocol import DECODER, Stage
from mue_edge.loop.search import SearchSettings
from mue_edge.measuring import bench
from mue_edge.measuring.profile import Profile
from mue_edge.models.cut import CutRequest, Piece

HEAD, LAYER, TWIN = "head", f"{DECODER}.1", "twin"
ROUNDS = 12
PROMPT = (0, 4, 2)


@dataclass(frozen=True)
class LargeHead:
    """A call of a head over so many words, in decoder layers of the model `size`; `twin`: its layer against
    itself."""

    words: int
    layers: float
    size: str
    twin: float


def measured(words: int, size: str = "", step: Callable[[], object] = lambda: None) -> LargeHead:
    """By ONNX Runtime here, on one thread, by CPU time; in proportion where `size` has other words. `step` is
    called after each of ROUNDS. size: of a random model; by default the first family's base size."""
    from mue_edge import models

    size = size or next(known for family in models.families() for known in family.sizes if known.endswith("-base"))
    pieces, own = _pieces(size)
    systems = {name: _system(pieces[name]) for name in (HEAD, LAYER)} | {TWIN: _system(pieces[LAYER])}
    samples = bench.interleave(systems, LAYER, range(ROUNDS), step=step)
    head, twin = (bench.ratios(samples[name], samples[LAYER]).median for name in (HEAD, TWIN))
    return LargeHead(words, head * words / own, size, twin)


def _pieces(size: str) -> tuple[dict[str, Piece], int]:
    """The head and a decoder layer of a random model, and its words."""
    from mue_edge import models
    from mue_edge.models import importing

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / size
        importing.write(importing.ImportRequest(size=size, decomposed=True), place)
        model = models.load(place)
        family, p = models.family_of(model), models.describe(model)
        ends = {stack: tuple(range(1, shape.layers + 1)) for stack, shape in family.stacks(model).items()}
        request = CutRequest(p.preprocess.height, p.preprocess.width, ends, SearchSettings(), PROMPT)
        return {piece.name: piece for piece in family.cut(model, request).pieces}, p.vocab_size


def _system(piece: Piece) -> bench.System:
    """Runs a segment on random inputs, as a host does."""
    from mue_edge.export.onnx.format import Exporter
    from mue_edge.targets import host

    options, draw = host.session_options(), np.random.default_rng(0)
    options.intra_op_num_threads = 1
    session = host.onnxruntime().InferenceSession(Exporter().graph(piece).SerializeToString(), options)
    inputs = {name: draw.normal(0, 0.1, value.shape).astype(np.float32) for name, value in piece.inputs.items()}
    return lambda _round: session.run(None, inputs)


def repriced(profile: Profile, stages: Sequence[Stage], large: LargeHead) -> Profile:
    """The profile, its head as dear as the large one; stages: the decoder's."""
    layer = sum(profile.segments[stage.name].median for stage in stages) / stages[-1].depth
    head = profile.segments[HEAD]
    factor = large.layers * layer / head.median
    dear = replace(head, median=factor * head.median, p95=factor * head.p95, spread=factor * head.spread)
    return replace(profile, segments={**profile.segments, HEAD: dear})

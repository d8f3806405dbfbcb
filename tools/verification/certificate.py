"""The certificate on real traces: `make evidence` runs it.

A bundle captions pictures under policies that leave the picture's encoder and the decoder earlier and
earlier, through the memo tree. Their CIDEr-D, picture by picture, are the pools that `simulate` draws from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from mue_edge.calibrate.certificate.losses import observed_drop
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.metrics.cider import Frequencies, Scorer
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies import candidates
from mue_edge.calibrate.traces.tracing import SampleRuns, traced_runs
from mue_edge.loop import replay
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.loop.protocol import DECODER
from mue_edge.loop.replay import midpoint_quantile
from mue_edge.sessions.captioner import FULL, Captioner
from tools.verification.simulate import Case, Pool

# Shares of the decoder's traced tests that pass; None: it stops after its first layer.
QUANTILES = (0.5, 0.7, 0.9, None)


def policies(captioner: Captioner, tune: Samples) -> list[Policy]:
    """The picture's encoder to each other depth, times the decoder at each of QUANTILES of these pictures'
    gaps."""
    traced = []
    for sample in tune.samples:
        captioner.runtime.set_pixels(captioner.pixels(sample.picture))
        traced.append(replay.run(captioner.layout, captioner.settings(), FULL, captioner.runtime, trace=True).decisions)
    picture = captioner.layout.picture
    known = candidates.distances(traced, picture.name).decoder
    found = []
    for depth, share in product(picture.ends[::2], QUANTILES):
        if share is None:
            name, own, rule = f"{picture.name} {depth}, {DECODER} 1", StackExit(depth=1), "fixed"
        else:
            name, rule = f"{picture.name} {depth}, {DECODER} at {share:.0%}", "mue"
            own = StackExit(1 - midpoint_quantile(known, share))
        exits = {picture.name: StackExit(depth=depth), DECODER: own}
        found.append(Policy(rule, exits, beta=1.0, name=name))
    return found


def pools(
    captioner: Captioner,
    folder: Path,
    chosen: Sequence[Policy],
    part: Samples,
    known: Frequencies,
    workers: int = 1,
    progress: Callable[[SampleRuns], None] | None = None,
) -> dict[str, Pool]:
    """Each policy's scores on a part's pictures, by its name, from the one that runs most multiply-adds to
    the one that runs least. Answers are kept in `folder`."""
    assert part.references is not None
    runs = []
    for found in traced_runs(captioner.bundle.path, folder, [FULL, *chosen], part.samples, workers=workers):
        runs.append(found)
        if progress is not None:
            progress(found)
    score, segments = Scorer(part.references, known), captioner.bundle.manifest.segments
    scores, macs = [], []
    for i in range(len(chosen) + 1):
        texts = [captioner.tokenizer.caption(found.runs[i].tokens).strip().lower() for found in runs]
        scores.append(np.asarray(score(texts)))
        macs.append(sum(segments[name].macs for found in runs for name in found.runs[i].segments))
    order = sorted(range(len(chosen)), key=lambda i: -macs[i + 1])
    return {chosen[i].name: Pool(scores[0], scores[i + 1], part.clusters) for i in order}


def cases(known: Mapping[str, Pool], places: Sequence[tuple[float, float]]) -> list[Case]:
    """For each (wished δ, ε) the policy whose true drop is nearest, each at most once."""
    drops = {name: observed_drop(pool.full, pool.exits, Clusters(pool.clusters)) for name, pool in known.items()}
    left, found = {name for name, drop in drops.items() if drop > 0}, []
    for wished, error in places:
        name = min(sorted(left), key=lambda name: abs(drops[name] - wished))
        left.remove(name)
        found.append(Case(name, known[name], error))
    return found

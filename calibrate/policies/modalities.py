"""Which modality may leave early: MuE's exits in the picture's encoder alone, in the text's, in both.

The question is the paper's; its answer depends on the task: captions need the picture's layers, entailment
the text's. Exits are by MuE's own score, at the threshold that half of a stack's tests pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from mue_edge.calibrate.policies import tuning
from mue_edge.calibrate.policies.setting import FULL, Setting, runs_of, score_of, speak
from mue_edge.calibrate.policies.tuning import Judged
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.loop.protocol import DECODER, ExitDecision
from mue_edge.loop.replay import midpoint_quantile

SHARE = 0.5  # of a stack's tests, that pass


def policies(traces: Sequence[Sequence[ExitDecision]]) -> list[Policy]:
    """`image only`, `text only`, `both`, as far as full depth's traces have tests there."""
    distances: dict[str, list[float]] = {}
    for decision in (d for found in traces for d in found if d.stack != DECODER and d.distances):
        distances.setdefault(decision.stack, []).append(max(decision.distances))
    exits = {
        stack: StackExit(1 - midpoint_quantile(values, SHARE)) for stack, values in sorted(distances.items())
    }
    made = [Policy("mue", {stack: own}, name=f"{stack} only") for stack, own in exits.items()]
    return [*made, Policy("mue", exits, name="both")] if len(exits) == 2 else made


def judged(setting: Setting, traces: Sequence[Sequence[ExitDecision]]) -> list[Judged]:
    """Those policies on *tune*."""
    wanted = policies(traces)
    found = runs_of(setting, [FULL, *wanted], setting.tune, "one modality, the other, both")
    spoken = speak(setting)
    score = score_of(setting, setting.tune, [spoken(runs.runs[0].tokens) for runs in found])
    return tuning.judge([FULL, *wanted], found, setting.tune.clusters, setting.profile, score, spoken)[1:]

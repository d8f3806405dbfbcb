"""Lossless captions of the bundled model: whether they are full depth's, token by token, on every held-out
picture, and what they cost beside it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from mue_edge import targets
from mue_edge.apps.stickers import model_folder
from mue_edge.calibrate.metrics.bootstrap import change_of_means
from mue_edge.calibrate.report.pages import table
from mue_edge.calibrate.traces.tracing import Sample
from mue_edge.loop.lossless import Payoff
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.measuring import measure as measuring
from mue_edge.sessions.captioner import FULL, Caption, Captioner
from proving.bundles import BUNDLES, cli
from proving.rendering import Record
from proving.savings_data import data, spoken

TIMED, WARM_UP = 300, 8
DRAFTS = (
    Policy("fixed", {"decoder": StackExit(depth=1)}, name="1 layer"),
    Policy("fixed", {"decoder": StackExit(depth=2)}, name="2 layers"),
    Policy("calm-softmax", {"decoder": StackExit(0.9)}, name="margin > 0.9"),
)
QUIET = True
Say = Callable[[Any], Caption]


def measure() -> dict[str, Any]:
    """Identity on all held-out pictures, CPU time in turns on some."""
    place = BUNDLES / "stickers-lossless"
    cli("export", str(model_folder()), "--lossless", "--out", str(place))
    samples = data(spoken(place)).held.samples
    with targets.open(place, threads=1) as captioner:
        shown = measuring.network_inputs(captioner, [s.picture for s in samples])
        profile, _ = measuring.measure(captioner, shown, clock="cpu")
        contenders = _contenders(captioner, Payoff(captioner.layout, profile.call_seconds))
        same, calls = _identity(contenders, samples)
        seconds = _in_turns(contenders, samples[:: max(1, len(samples) // TIMED)])
    base = seconds["full depth"]
    groups = [str(i) for i in range(len(base))]
    rows = [
        {
            "system": name,
            "same": same.get(name, len(samples)),
            "calls": round(calls[name], 2),
            "time": _interval(change_of_means(own, base, groups)),
        }
        for name, own in seconds.items()
    ]
    return {"pictures": len(samples), "timed": len(base), "rows": rows}


def _contenders(captioner: Captioner, payoff: Payoff) -> dict[str, Say]:
    def full(picture: Any) -> Caption:
        return captioner.caption(picture, policy=FULL)

    def drafted(policy: Policy, by: bool | Payoff) -> Say:
        return lambda picture: captioner.caption(picture, policy=policy, lossless=by)

    found: dict[str, Say] = {"full depth": full, "twin": full}
    found |= {f"drafts of {policy.name}": drafted(policy, True) for policy in DRAFTS}
    return found | {f"drafts of {DRAFTS[1].name} while that pays": drafted(DRAFTS[1], payoff)}


def _identity(contenders: Mapping[str, Say], samples: Sequence[Sample]) -> tuple[dict[str, int], dict[str, float]]:
    """Pictures whose tokens are full depth's, and mean calls a caption, by system."""
    same, calls = dict.fromkeys(contenders, 0), dict.fromkeys(contenders, 0)
    with click.progressbar(samples, label="token by token") as bar:
        for sample in bar:
            answers = {name: say(sample.picture) for name, say in contenders.items()}
            for name, answer in answers.items():
                same[name] += answer.tokens == answers["full depth"].tokens
                calls[name] += answer.calls
    return same, {name: count / len(samples) for name, count in calls.items()}


def _in_turns(contenders: Mapping[str, Say], samples: Sequence[Sample]) -> dict[str, NDArray[np.float64]]:
    """CPU seconds of every caption, systems in random order on each picture."""
    order, found = random.Random(0), {name: np.zeros(len(samples)) for name in contenders}
    with click.progressbar(samples, label="in turns") as bar:
        for i, sample in enumerate(bar):
            for name in order.sample(list(contenders), len(contenders)):
                begin = time.process_time()
                contenders[name](sample.picture)
                found[name][i] = time.process_time() - begin
    return {name: own[WARM_UP:] for name, own in found.items()}


def _interval(change: Any) -> dict[str, float]:
    return {name: round(1 + getattr(change, name), 4) for name in ("mean", "low", "high")}


def render(record: Record) -> str:
    """Identity and time, a system a row."""
    from mue_edge.calibrate.report import comparison_page as page

    f = record["figures"]
    words = (
        f"The bundled model on {f['pictures']} held-out pictures; time: CPU time over full depth's of "
        f"{f['timed']} of them in turns.\n\n"
    )
    rows = [
        [row["system"], f"{row['same']} of {f['pictures']}", f"{row['calls']:.1f}", page.interval(row["time"], 1, 2)]
        for row in f["rows"]
    ]
    return words + table(["system", "same tokens", "calls a caption", "time"], rows)

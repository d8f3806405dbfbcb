"""Systems beside each other for `bench`: bundles under policies, and rivals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from mue_edge import targets
from mue_edge.apps.cli.rivals import STEM, Rivalry
from mue_edge.bundle.folder import Bundle
from mue_edge.errors import VerificationError
from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.driver import Runtime, drive, stepwise
from mue_edge.loop.lossless import lossless_loop
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import DECODER, Outcome
from mue_edge.loop.replay import run
from mue_edge.loop.search import BeamSearch
from mue_edge.measuring import bench
from mue_edge.measuring.bench import TimeSample

# Names of the systems in records and tables; the twin is the A/A control.
FULL, CONTROL, EXITS, WHOLE, LOSSLESS = "full depth", "twin", "exits", "monolithic", "lossless"
# Allocation luck alone moves a session's time by some percent, so sessions are made anew this often.
SESSIONS = 3
# The network's input for a picture, by its number.
Read = Callable[[int], object]


@dataclass(frozen=True)
class Contender:
    """One system: a bundle, and the policy that it runs with."""

    bundle: Bundle
    policy: Policy
    lossless: bool = False


def measure(
    contenders: Mapping[str, Contender],
    read: Read,
    pictures: int,
    *,
    rounds: int,
    threads: int,
    rivals: Rivalry | None = None,
) -> tuple[dict[str, list[Outcome]], dict[str, list[TimeSample]]]:
    """What every system decides on every picture, and its samples, and those of rivals, over all sessions."""
    outcomes: dict[str, list[Outcome]] = {}
    samples: dict[str, list[TimeSample]] = defaultdict(list)
    for session in range(SESSIONS):
        with ExitStack() as stack:
            own: dict[str, Callable[[int], Outcome]] = {}
            for name, contender in contenders.items():
                runtime = stack.enter_context(closing(targets.open_runtime(contender.bundle, threads)))
                own[name] = partial(_caption, contender, runtime, read)
            outcomes = outcomes or {name: list(map(run, range(pictures))) for name, run in own.items()}
            systems: dict[str, bench.System] = {**own}
            if rivals is not None:
                runtime = stack.enter_context(closing(targets.open_runtime(contenders[FULL].bundle, threads)))
                systems |= rivals.systems(stack)
                systems[STEM] = partial(_stem, contenders[FULL], runtime, read)
            part = range(session * rounds // SESSIONS, (session + 1) * rounds // SESSIONS)
            for name, times in bench.interleave(systems, FULL, part, seed=session).items():
                samples[name] += times
    return outcomes, samples


def _caption(contender: Contender, runtime: Runtime, read: Read, i: int) -> Outcome:
    layout, settings = contender.bundle.manifest.layout, contender.bundle.manifest.search
    runtime.set_pixels(read(i))
    if contender.lossless:
        return drive(lossless_loop(layout, contender.policy, BeamSearch(settings)), runtime)
    return run(layout, settings, contender.policy, runtime)


def _stem(contender: Contender, runtime: Runtime, read: Read, i: int) -> None:
    """A caption's first request."""
    manifest = contender.bundle.manifest
    runtime.set_pixels(read(i))
    with stepwise(runtime):  # else nothing would run yet
        runtime.execute(next(caption_loop(manifest.layout, contender.policy, BeamSearch(manifest.search))))


def check_equal(outcomes: Mapping[str, Sequence[Outcome]], precision: str) -> None:
    """Systems at full depth must give the same tokens: the control always, lossless captions and the
    monolithic graphs in fp32."""
    for name in (CONTROL, WHOLE, LOSSLESS) if precision == "fp32" else (CONTROL,):
        if name in outcomes and _same(outcomes[name], outcomes[FULL]) < len(outcomes[FULL]):
            raise VerificationError(
                f"{name} and {FULL} give different captions, so their times cannot be compared; "
                "check the bundle with: mue-edge verify BUNDLE"
            )


def _same(a: Sequence[Outcome], b: Sequence[Outcome]) -> int:
    return sum(x.hypotheses[0].tokens == y.hypotheses[0].tokens for x, y in zip(a, b))


def systems_record(
    outcomes: Mapping[str, Sequence[Outcome]], samples: Mapping[str, Sequence[TimeSample]]
) -> dict[str, dict[str, Any]]:
    """What is recorded of every system; means over pictures."""
    record = {}
    for name, runs in outcomes.items():
        steps = [s.depth for run in runs for s in run.steps]
        layers = {stack: sum(run.depths[stack] for run in runs) / len(runs) for stack in runs[0].depths}
        record[name] = {
            "layers": layers | {DECODER: sum(steps) / len(steps)},
            "steps": len(steps) / len(runs),
            "calls": sum(run.calls for run in runs) / len(runs),
            "same_captions": _same(runs, outcomes[FULL]),
            "cpu_ms": bench.quartiles([s.cpu * 1000 for s in samples[name]]).median,
            "cpu_ratio": asdict(bench.ratios(samples[name], samples[FULL])),
            "wall_ratio": asdict(bench.ratios(samples[name], samples[FULL], "wall")),
        }
    return record

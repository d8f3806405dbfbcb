"""`mue-edge bench`: measure what early exits save, against a noise control."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from mue_edge import machine, targets
from mue_edge.apps.cli.catalogue import DEFAULT, resolve_model
from mue_edge.apps.cli.completion import models
from mue_edge.apps.cli.exporting import export, golden_pixels
from mue_edge.apps.cli.options import NewFile, common, option, shared, takes
from mue_edge.apps.cli.terminal import print_result, table
from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.errors import UsageError, VerificationError
from mue_edge.export import room
from mue_edge.files import atomic_write, sha256
from mue_edge.inputs import gathering
from mue_edge.loop.driver import Runtime, drive
from mue_edge.loop.lossless import lossless_loop
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import DECODER, Outcome
from mue_edge.loop.replay import run
from mue_edge.loop.search import BeamSearch
from mue_edge.measuring import bench
from mue_edge.measuring.bench import Quartiles, TimeSample

# Names of the systems in records and tables; the twin is the A/A control.
FULL, CONTROL, EXITS, WHOLE, LOSSLESS = "full depth", "twin", "exits", "monolithic", "lossless"
# Allocation luck alone moves a session's time by some percent, so sessions are made anew this often.
SESSIONS = 3
# What --target is compared with.
RIVAL = "host"


@dataclass(frozen=True)
class Contender:
    """One system: a bundle, and the policy that it runs with."""

    bundle: Bundle
    policy: Policy
    lossless: bool = False


@dataclass(frozen=True)
class BenchOptions:
    bundle: str | None = shared(click.argument("bundle", shell_complete=models, required=False))
    images: tuple[str, ...] = shared(common.images_argument)
    target: str | None = shared(
        common.target_option(None, "Without BUNDLE: export --model for it, and compare with host.")
    )
    against: str | None = option("Also measure this bundle of the same model.", metavar="BUNDLE")
    policy: str | None = shared(common.policy_option("the bundle's, or the median distance's"))
    rounds: int = option(type=click.IntRange(3, 10000), default=21)
    model: str | None = option("Also measure monolithic graphs of this model.", metavar="FOLDER|NAME")
    lossless: bool = option("Also measure lossless captions, drafted by the policy.")
    as_json: bool = shared(common.json_option("The record as JSON."))
    out: Path | None = option("Write the record to this file too.", type=NewFile())
    force: bool = option("Print even if the control is off; the result is marked as noisy.")


@click.command("bench")
@takes(BenchOptions)
@common.max_pixels_option
def command(o: BenchOptions) -> None:
    """Time a BUNDLE at full depth and with exits, on IMAGES or its golden pictures.

    Ratios of the process's CPU time at one thread, of the loop over the segments; reading and
    resizing pictures is not in it. Rounds are interleaved, ratios paired. An A/A control, full depth
    once more (the twin in the table), is measured too: if it does not come out as 1, the figures are
    noise and are not printed (exit code 6). With --target every argument is an image.
    """
    bundle, images, against, model = o.bundle, o.images, o.against, o.model
    with ExitStack() as stack:
        if o.target is not None:
            images, model = (*filter(None, (bundle,)), *images), model or DEFAULT
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            bundle, against = (_export(folder / name, name, model) for name in (o.target, RIVAL))
        if bundle is None:
            raise UsageError("name a BUNDLE, or what to export with --target; see: mue-edge bench --help")
        record = _record(o, bundle, images, against, model)
    if o.out:
        atomic_write(o.out, json.dumps(record, indent=1) + "\n")
    print_result(o.as_json, record, _text(record))


def _export(folder: Path, target: str, model: str) -> str:
    targets.target(target)
    export(resolve_model(model), folder, target, {}, Path(model).name)
    return str(folder)


def _record(
    o: BenchOptions, bundle: str, images: Sequence[str], against: str | None, model: str | None
) -> dict[str, Any]:
    import mue_edge

    with mue_edge.open(bundle, threads=1) as captioner:
        opened = captioner.bundle
        pictures = [captioner.pixels(file) for file in gathering.gather(images)] if images else None
        pictures = pictures or golden_pixels(opened)
        if o.policy is None:
            policy, origin = bench.exiting_policy(captioner, pictures)
        else:
            policy, origin = captioner.policy(o.policy), f"{o.policy}, given"
    full = Policy("never", name="full")
    contenders = {FULL: Contender(opened, full), CONTROL: Contender(opened, full)}
    contenders[EXITS] = Contender(opened, policy)
    if o.lossless:
        contenders[LOSSLESS] = Contender(opened, policy, lossless=True)
    if against is not None:
        contenders |= _rival(opened, against, full, policy)
    load = machine.load_average()
    with _monolithic(opened, model) as whole:
        if whole is not None:
            contenders[WHOLE] = Contender(whole, full)
        outcomes, samples = _measure(contenders, pictures, o.rounds)
    problem = bench.control_problem(bench.ratios(samples[CONTROL], samples[FULL]))
    if problem is not None and not o.force:
        raise VerificationError(
            f"{problem}. The machine is too restless to compare anything (load average "
            f"{machine.load_average():.1f}); "
            "wait until it is quiet, take more --rounds, or see the noise with --force"
        )
    m = opened.manifest
    _check_equal(outcomes, m.precision)
    about = {"bundle": m.name, "target": m.target, "precision": m.precision, "beam": m.search.beam}
    about |= {"plan": m.plan_hash, "pictures": len(pictures), "rounds": o.rounds, "sessions": SESSIONS}
    about |= {"threads": 1, "policy": policy.to_json(), "policy_origin": origin}
    about |= {"load_average": [load, machine.load_average()], "cores": os.cpu_count()}
    about |= {"versions": machine.versions(), "noisy": problem}
    return about | {"systems": _systems(outcomes, samples)}


def _rival(opened: Bundle, against: str, full: Policy, exits: Policy) -> dict[str, Contender]:
    """Another bundle at full depth and with the same exits. Raises UsageError if it is another model's."""
    rival = open_bundle(against)
    mine, theirs = opened.manifest, rival.manifest
    if (mine.model.get("sha256"), mine.preprocess) != (theirs.model.get("sha256"), theirs.preprocess):
        raise UsageError(f"{against} was not made from the model of {opened.path} at its image size")
    name = f"{theirs.target} {theirs.precision}"
    return {name: Contender(rival, full), f"{name}, exits": Contender(rival, exits)}


@contextmanager
def _monolithic(bundle: Bundle, model: str | None) -> Iterator[Bundle | None]:
    """The same model and plan with one graph a stack, in a folder that goes away."""
    if model is None:
        yield None
        return

    folder, manifest = resolve_model(model), bundle.manifest
    if sha256(folder / "model.safetensors") != manifest.model.get("sha256"):
        raise UsageError(f"{model} is not the model that {bundle.path} was made from")
    with tempfile.TemporaryDirectory() as work:
        options = {"screened": False, **manifest.plan, "ends": "whole"}
        yield room()[0].export(folder, Path(work) / "whole", manifest.target, options).bundle


def _measure(
    contenders: Mapping[str, Contender], pictures: Sequence[object], rounds: int
) -> tuple[dict[str, list[Outcome]], dict[str, list[TimeSample]]]:
    """What every system decides on every picture, and its samples over all sessions."""
    outcomes: dict[str, list[Outcome]] = {}
    samples: dict[str, list[TimeSample]] = {name: [] for name in contenders}
    for session in range(SESSIONS):
        with ExitStack() as stack:
            systems: dict[str, Callable[[int], Outcome]] = {}
            for name, contender in contenders.items():
                runtime = stack.enter_context(closing(targets.open_runtime(contender.bundle, 1)))
                systems[name] = partial(_caption, contender, runtime, pictures)
            if not outcomes:
                outcomes = {name: list(map(run, range(len(pictures)))) for name, run in systems.items()}
            part = range(session * rounds // SESSIONS, (session + 1) * rounds // SESSIONS)
            for name, times in bench.interleave(systems, FULL, part, seed=session).items():
                samples[name] += times
    return outcomes, samples


def _caption(contender: Contender, runtime: Runtime, pictures: Sequence[object], i: int) -> Outcome:
    layout, settings = contender.bundle.manifest.layout, contender.bundle.manifest.search
    runtime.set_pixels(pictures[i % len(pictures)])
    if contender.lossless:
        return drive(lossless_loop(layout, contender.policy, BeamSearch(settings)), runtime)
    return run(layout, settings, contender.policy, runtime)


def _check_equal(outcomes: Mapping[str, Sequence[Outcome]], precision: str) -> None:
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


def _systems(
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


def _text(record: dict[str, Any]) -> Iterator[str]:
    versions = ", ".join(f"{k} {v}" for k, v in record["versions"].items())
    before, after = record["load_average"]
    yield f"{record['bundle']} on {record['target']}, {record['precision']}, beam {record['beam']}, 1 thread"
    yield f"{record['pictures']} pictures, {record['rounds']} rounds, sessions made {SESSIONS} times"
    yield f"load average {before:.1f} before, {after:.1f} after; {versions}"
    yield f"exits by policy {record['policy_origin']}"
    yield ""
    rows = [("system", "layers run", "steps", "calls", "same captions", "CPU ms", "CPU time / full", "wall")]
    for name, s in record["systems"].items():
        layers = ", ".join(f"{k} {v:.2f}" for k, v in s["layers"].items())
        same = f"{s['same_captions']} of {record['pictures']}"
        ratios = [str(Quartiles(**s[key])) for key in ("cpu_ratio", "wall_ratio")]
        cpu, wall = ("1", "1") if name == FULL else ratios
        rows.append((name, layers, f"{s['steps']:.1f}", f"{s['calls']:.1f}", same, f"{s['cpu_ms']:.2f}", cpu, wall))
    yield from table(rows)
    if WHOLE not in record["systems"]:
        yield "(monolithic graphs were not measured: name the model with --model)"
    if record["noisy"]:
        yield f"NOISY: {record['noisy']}. These figures compare nothing."

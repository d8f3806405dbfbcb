"""`mue-edge bench`: measure what early exits save, against a noise control."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import mue_edge
from mue_edge.apps.cli.catalogue import DEFAULT
from mue_edge.apps.cli.completion import models
from mue_edge.apps.cli.options.common import json_option, policy_option, target_option
from mue_edge.apps.cli.options.pixels import max_pixels_option
from mue_edge.apps.cli.options.types import NewFile
from mue_edge.loop.protocol import DECODER

if TYPE_CHECKING:
    from mue_edge.bundle.folder import Bundle
    from mue_edge.loop.policy import Policy
    from mue_edge.loop.protocol import Outcome
    from mue_edge.measuring.bench import TimeSample
    from mue_edge.sessions.captioner import Captioner

FULL, TWIN, EXITS, WHOLE, LOSSLESS = "full depth", "twin", "exits", "monolithic", "lossless"
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


@click.command("bench")
@click.argument("bundle", shell_complete=models, required=False)
@click.argument("images", nargs=-1)
@target_option(None, "Without BUNDLE: export --model for it, and compare with host.")
@click.option("--against", metavar="BUNDLE", help="Also measure this bundle of the same model.")
@policy_option("the bundle's, or the median gap's")
@click.option("--rounds", type=click.IntRange(3, 10_000), default=21, show_default=True)
@click.option("--model", metavar="FOLDER|NAME", help="Also measure monolithic graphs of this model.")
@click.option("--lossless", is_flag=True, help="Also measure lossless captions, drafted by the policy.")
@max_pixels_option
@json_option("The record as JSON.")
@click.option("--out", type=NewFile(), help="Write the record to this file too.")
@click.option("--force", is_flag=True, help="Print even if the twin is off; the result is marked as noisy.")
def command(
    bundle: str | None, images: tuple[str, ...], target: str | None, against: str | None, policy: str | None,
    rounds: int, model: str | None, lossless: bool, as_json: bool, out: Path | None, force: bool,
) -> None:  # fmt: skip
    """Time a BUNDLE at full depth and with exits, on IMAGES or its golden pictures.

    Ratios of the process's CPU time at one thread, of the loop over the segments; reading and
    resizing pictures is not in it. Rounds are interleaved, ratios paired. An identical twin of the
    full-depth system is measured too: if it does not come out as 1, the figures are noise and are
    not printed (exit code 6). With --target every argument is an image.
    """
    from mue_edge.errors import UsageError
    from mue_edge.files import atomic_write

    with ExitStack() as places:
        if target is not None:
            images, model = (*(image for image in (bundle,) if image), *images), model or DEFAULT
            folder = Path(places.enter_context(tempfile.TemporaryDirectory()))
            bundle, against = (_export(folder, name, model) for name in (target, RIVAL))
        if bundle is None:
            raise UsageError("name a BUNDLE, or what to export with --target; see: mue-edge bench --help")
        record = _record(bundle, images, policy, rounds, model, against, lossless, force)
    if out:
        atomic_write(out, json.dumps(record, indent=1) + "\n")
    click.echo(json.dumps(record, indent=1) if as_json else _table(record))


def _export(folder: Path, target: str, model: str) -> str:
    """The bundle of a model for a target, in a folder that goes away."""
    from mue_edge import targets
    from mue_edge.apps.cli.catalogue import resolve_model
    from mue_edge.apps.cli.exporting import export

    targets.target(target)
    export(resolve_model(model), folder / target, target, {}, Path(model).name)
    return str(folder / target)


def _record(
    bundle: str, images: tuple[str, ...], policy: str | None, rounds: int, model: str | None,
    against: str | None, lossless: bool, force: bool,
) -> dict[str, Any]:  # fmt: skip
    from mue_edge import machine
    from mue_edge.errors import VerificationError
    from mue_edge.loop.policy import Policy
    from mue_edge.measuring import bench

    with mue_edge.open(bundle, threads=1) as captioner:
        opened = captioner.bundle
        pictures = _pictures(captioner, images)
        if policy is None:
            chosen, origin = bench.exiting_policy(captioner, pictures)
        else:
            chosen, origin = captioner.policy(policy), f"{policy}, given"
    full = Policy("never", name="full")
    contenders = {FULL: Contender(opened, full), TWIN: Contender(opened, full)}
    contenders[EXITS] = Contender(opened, chosen)
    if lossless:
        contenders[LOSSLESS] = Contender(opened, chosen, lossless=True)
    if against is not None:
        contenders |= _rival(opened, against, full, chosen)
    load = machine.load_average()
    with _monolithic(opened, model) as whole:
        if whole is not None:
            contenders[WHOLE] = Contender(whole, full)
        outcomes, samples = measure(contenders, pictures, rounds)
    twin = bench.ratios(samples[TWIN], samples[FULL])
    problem = bench.control_problem(twin)
    if problem is not None and not force:
        raise VerificationError(
            f"{problem}. The machine is too restless to compare anything (load average "
            f"{machine.load_average():.1f}); "
            "wait until it is quiet, take more --rounds, or see the noise with --force"
        )
    check_equal(outcomes, opened.manifest.precision)
    return {
        "bundle": opened.manifest.name, "target": opened.manifest.target,
        "precision": opened.manifest.precision, "beam": opened.manifest.search.beam,
        "plan": opened.manifest.plan_hash, "pictures": len(pictures), "rounds": rounds,
        "sessions": SESSIONS, "threads": 1, "policy": chosen.to_json(), "policy_origin": origin,
        "load_average": [load, machine.load_average()], "cores": os.cpu_count(),
        "versions": machine.versions(),
        "noisy": problem, "systems": _systems(outcomes, samples),
    }  # fmt: skip


def _rival(opened: Bundle, against: str, full: Policy, chosen: Policy) -> dict[str, Contender]:
    """Another bundle at full depth and with the same exits. Raises UsageError if it is another model's."""
    from mue_edge.bundle.folder import open_bundle
    from mue_edge.errors import UsageError

    rival = open_bundle(against)
    mine, theirs = opened.manifest, rival.manifest
    if (mine.model.get("sha256"), mine.preprocess) != (theirs.model.get("sha256"), theirs.preprocess):
        raise UsageError(f"{against} was not made from the model of {opened.path} at its image size")
    name = f"{theirs.target} {theirs.precision}"
    return {name: Contender(rival, full), f"{name}, exits": Contender(rival, chosen)}


def measure(
    contenders: Mapping[str, Contender], pictures: Sequence[object], rounds: int
) -> tuple[dict[str, list[Outcome]], dict[str, list[TimeSample]]]:
    """What every system decides on every picture, and its samples over all sessions."""
    from mue_edge import targets
    from mue_edge.measuring import bench

    outcomes: dict[str, list[Outcome]] = {}
    samples: dict[str, list[TimeSample]] = {name: [] for name in contenders}
    for session in range(SESSIONS):
        runtimes = {name: targets.open_runtime(c.bundle, 1) for name, c in contenders.items()}
        systems = {name: _system(c, runtimes[name], pictures) for name, c in contenders.items()}
        if not outcomes:
            outcomes = {name: [run(i) for i in range(len(pictures))] for name, run in systems.items()}
        part = range(session * rounds // SESSIONS, (session + 1) * rounds // SESSIONS)
        for name, found in bench.interleave(systems, FULL, part, seed=session).items():
            samples[name] += found
        for runtime in runtimes.values():
            runtime.close()
    return outcomes, samples


def _system(contender: Contender, runtime: Any, pictures: Sequence[object]) -> Any:
    from mue_edge.loop.driver import drive
    from mue_edge.loop.lossless import lossless_loop
    from mue_edge.loop.replay import run
    from mue_edge.loop.search import BeamSearch

    manifest = contender.bundle.manifest
    layout, settings = manifest.layout, manifest.search

    def caption(i: int) -> Outcome:
        runtime.set_pixels(pictures[i % len(pictures)])
        if contender.lossless:
            return drive(lossless_loop(layout, contender.policy, BeamSearch(settings)), runtime)
        return run(layout, settings, contender.policy, runtime)

    return caption


def check_equal(outcomes: Mapping[str, Sequence[Outcome]], precision: str) -> None:
    """Systems at full depth must give the same tokens: the twin always, lossless captions and the monolithic
    graphs in fp32."""
    from mue_edge.errors import VerificationError

    for name in (TWIN, WHOLE, LOSSLESS) if precision == "fp32" else (TWIN,):
        if name in outcomes and _same(outcomes[name], outcomes[FULL]) < len(outcomes[FULL]):
            raise VerificationError(
                f"{name} and {FULL} give different captions, so their times cannot be compared; "
                "check the bundle with: mue-edge verify BUNDLE"
            )


def _same(a: Sequence[Outcome], b: Sequence[Outcome]) -> int:
    return sum(x.hypotheses[0].tokens == y.hypotheses[0].tokens for x, y in zip(a, b))


def _pictures(captioner: Captioner, images: tuple[str, ...]) -> list[object]:
    from mue_edge.inputs import gathering
    from mue_edge.targets import golden

    if images:
        return [captioner.pixels(file) for file in gathering.gather(images)]
    shown, _ = golden.read(captioner.bundle)
    return [golden.pixels(picture, captioner.bundle.manifest.preprocess) for picture in shown]


@contextmanager
def _monolithic(bundle: Bundle, model: str | None) -> Iterator[Bundle | None]:
    """The same model and plan with one graph a stack, in a folder that goes away."""
    if model is None:
        yield None
        return
    from mue_edge.apps.cli.catalogue import resolve_model
    from mue_edge.errors import UsageError
    from mue_edge.export import room
    from mue_edge.files import sha256

    build, _ = room()
    folder, manifest = resolve_model(model), bundle.manifest
    if sha256(folder / "model.safetensors") != manifest.model.get("sha256"):
        raise UsageError(f"{model} is not the model that {bundle.path} was made from")
    with tempfile.TemporaryDirectory() as place:
        options = {**manifest.plan, "ends": "whole"}
        made: Bundle = build.export(folder, Path(place) / "whole", manifest.target, options).bundle
        yield made


def _systems(
    outcomes: Mapping[str, Sequence[Outcome]], samples: Mapping[str, Sequence[TimeSample]]
) -> dict[str, dict[str, Any]]:
    from mue_edge.measuring import bench

    found = {}
    for name, runs in outcomes.items():
        stacks = runs[0].depths
        steps = [s.depth for run in runs for s in run.steps]
        found[name] = {
            "layers": {k: sum(run.depths[k] for run in runs) / len(runs) for k in stacks}
            | {DECODER: sum(steps) / len(steps)},
            "steps": len(steps) / len(runs),
            "calls": sum(run.calls for run in runs) / len(runs),
            "same_captions": _same(runs, outcomes[FULL]),
            "cpu_ms": bench.quartiles([s.cpu * 1000 for s in samples[name]]).median,
            "cpu_ratio": asdict(bench.ratios(samples[name], samples[FULL])),
            "wall_ratio": asdict(bench.ratios(samples[name], samples[FULL], "wall")),
        }
    return found


def _table(record: dict[str, Any]) -> str:
    from mue_edge.measuring.bench import Quartiles

    versions = ", ".join(f"{k} {v}" for k, v in record["versions"].items())
    before, after = record["load_average"]
    lines = [
        f"{record['bundle']} on {record['target']}, {record['precision']}, beam {record['beam']}, 1 thread",
        f"{record['pictures']} pictures, {record['rounds']} rounds, sessions made {SESSIONS} times",
        f"load average {before:.1f} before, {after:.1f} after; {versions}",
        f"exits by policy {record['policy_origin']}",
        "",
    ]
    rows = [("system", "layers run", "steps", "calls", "same captions", "CPU ms", "CPU time / full", "wall")]
    for name, s in record["systems"].items():
        cpu, wall = Quartiles(**s["cpu_ratio"]), Quartiles(**s["wall_ratio"])
        rows.append(
            (
                name, ", ".join(f"{k} {v:.2f}" for k, v in s["layers"].items()),
                f"{s['steps']:.1f}", f"{s['calls']:.1f}", f"{s['same_captions']} of {record['pictures']}",
                f"{s['cpu_ms']:.2f}", "1" if name == FULL else str(cpu), "1" if name == FULL else str(wall),
            )
        )  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    if WHOLE not in record["systems"]:
        lines.append("(monolithic graphs were not measured: name the model with --model)")
    if record["noisy"]:
        lines.append(f"NOISY: {record['noisy']}. These figures compare nothing.")
    return "\n".join(lines)

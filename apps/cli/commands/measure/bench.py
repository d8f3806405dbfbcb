"""`mue-edge bench`: measure what early exits save, against a noise control."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from PIL import Image

from mue_edge import machine, targets
from mue_edge.apps.cli.catalogue import DEFAULT, resolve_model
from mue_edge.apps.cli.completion import models
from mue_edge.apps.cli.contenders import (
    CONTROL,
    EXITS,
    FULL,
    LOSSLESS,
    SESSIONS,
    WHOLE,
    Contender,
    check_equal,
    measure,
    systems_record,
)
from mue_edge.apps.cli.exporting import export
from mue_edge.apps.cli.options import NewFile, common, option, shared, takes
from mue_edge.apps.cli.rivals import Rivalry, rival_rows, rivalry
from mue_edge.apps.cli.terminal import print_result, table
from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.errors import UsageError, VerificationError
from mue_edge.export import room
from mue_edge.export.rivals import RIVALS
from mue_edge.files import atomic_write, sha256
from mue_edge.inputs import gathering
from mue_edge.inputs.image import NamedPicture
from mue_edge.loop.policy import Policy
from mue_edge.measuring import bench
from mue_edge.measuring.bench import Quartiles
from mue_edge.targets import golden

# What --target is compared with.
OTHER = "host"


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
    model: str | None = option(
        "What BUNDLE was made from: also measure it with one graph a stack, or by the rivals.", metavar="FOLDER|NAME"
    )
    rival: tuple[str, ...] = option(
        "Also measure --model whole by this runtime, in a process of its own.", type=click.Choice(list(RIVALS))
    )
    threads: int = shared(common.threads_option(1))
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
    resizing pictures is in it with --rival only. Rounds are interleaved, ratios paired. An A/A control,
    full depth once more (the twin in the table), is measured too: if it does not come out as 1, the
    figures are noise and are not printed (exit code 6). With --target every argument is an image.
    """
    bundle, images, against, model = o.bundle, o.images, o.against, o.model
    with ExitStack() as stack:
        if o.target is not None:
            images, model = (*filter(None, (bundle,)), *images), model or DEFAULT
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            bundle, against = (_export(folder / name, name, model) for name in (o.target, OTHER))
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

    with mue_edge.open(bundle, threads=o.threads) as captioner:
        opened = captioner.bundle
        sources = gathering.gather(images) if images else _golden_files(opened)
        pictures: Sequence[object] = [captioner.pixels(source) for source in sources]
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
        contenders |= _other(opened, against, full, policy)
    load = machine.load_average()
    rivals = None
    with tempfile.TemporaryDirectory() as work:
        if o.rival:
            rivals = _rivals(o, opened, model, sources, Path(work))
        elif model is not None:
            contenders[WHOLE] = Contender(_monolithic(opened, model, Path(work)), full)

        def read(i: int) -> object:
            i %= len(pictures)
            return pictures[i] if rivals is None else captioner.pixels(rivals.files[i])

        outcomes, samples = measure(contenders, read, len(pictures), rounds=o.rounds, threads=o.threads, rivals=rivals)
    problem = bench.control_problem(bench.ratios(samples[CONTROL], samples[FULL]))
    if problem is not None and not o.force:
        raise VerificationError(
            f"{problem}. The machine is too restless to compare anything (load average "
            f"{machine.load_average():.1f}); "
            "wait until it is quiet, take more --rounds, or see the noise with --force"
        )
    m = opened.manifest
    check_equal(outcomes, m.precision)
    about = {"bundle": m.name, "target": m.target, "precision": m.precision, "beam": m.search.beam}
    about |= {"plan": m.plan_hash, "pictures": len(pictures), "rounds": o.rounds, "sessions": SESSIONS}
    about |= {"threads": o.threads, "policy": policy.to_json(), "policy_origin": origin}
    about |= {"load_average": [load, machine.load_average()], "cores": os.cpu_count()}
    about |= {"versions": machine.versions(), "noisy": problem}
    about |= {"systems": systems_record(outcomes, samples)}
    if rivals is not None:
        own = [name for name in (FULL, EXITS, LOSSLESS) if name in outcomes]
        about["rivals"] = rivals.record(own, [run.hypotheses[0].tokens for run in outcomes[FULL]], samples)
    return about


def _other(opened: Bundle, against: str, full: Policy, exits: Policy) -> dict[str, Contender]:
    """Another bundle at full depth and with the same exits. Raises UsageError if it is another model's."""
    other = open_bundle(against)
    mine, theirs = opened.manifest, other.manifest
    if (mine.model.get("sha256"), mine.preprocess) != (theirs.model.get("sha256"), theirs.preprocess):
        raise UsageError(f"{against} was not made from the model of {opened.path} at its image size")
    name = f"{theirs.target} {theirs.precision}"
    return {name: Contender(other, full), f"{name}, exits": Contender(other, exits)}


def _golden_files(bundle: Bundle) -> list[NamedPicture]:
    """A bundle's golden pictures as files that are not on disk."""
    files = []
    for i, picture in enumerate(golden.read(bundle)[0]):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        files.append(NamedPicture(f"golden picture {i}", file.getvalue))
    return files


def _model_of(bundle: Bundle, model: str | None) -> Path:
    """The folder of the model that the bundle was made from. Raises UsageError for another."""
    if model is None:
        raise UsageError(f"rivals run the model itself: name what {bundle.path} was made from with --model")
    folder = resolve_model(model)
    if sha256(folder / "model.safetensors") != bundle.manifest.model.get("sha256"):
        raise UsageError(f"{model} is not the model that {bundle.path} was made from")
    return folder


def _monolithic(bundle: Bundle, model: str, work: Path) -> Bundle:
    """The same model and plan with one graph a stack."""
    folder, options = _model_of(bundle, model), {"screened": False, **bundle.manifest.plan, "ends": "whole"}
    whole: Bundle = room()[0].export(folder, work / "whole", bundle.manifest.target, options).bundle
    return whole


def _rivals(
    o: BenchOptions, bundle: Bundle, model: str | None, sources: Sequence[Path | NamedPicture], work: Path
) -> Rivalry:
    """The rivals that are asked for, each once."""
    names = tuple(dict.fromkeys(o.rival))
    return rivalry(names, _model_of(bundle, model), bundle, sources, work, o.threads)


def _text(record: dict[str, Any]) -> Iterator[str]:
    versions = ", ".join(f"{k} {v}" for k, v in record["versions"].items())
    before, after = record["load_average"]
    threads = f"{record['threads']} thread{'s' * (record['threads'] > 1)}"
    yield f"{record['bundle']} on {record['target']}, {record['precision']}, beam {record['beam']}, {threads}"
    yield f"{record['pictures']} pictures, {record['rounds']} rounds, sessions made {SESSIONS} times"
    yield f"load average {before:.1f} before, {after:.1f} after; {versions}"
    yield f"exits by policy {record['policy_origin']}"
    yield ""
    lines = [("system", "layers run", "steps", "calls", "same captions", "CPU ms", "CPU time / full", "wall")]
    for name, s in record["systems"].items():
        layers = ", ".join(f"{k} {v:.2f}" for k, v in s["layers"].items())
        same = f"{s['same_captions']} of {record['pictures']}"
        ratios = [str(Quartiles(**s[key])) for key in ("cpu_ratio", "wall_ratio")]
        cpu, wall = ("1", "1") if name == FULL else ratios
        lines.append((name, layers, f"{s['steps']:.1f}", f"{s['calls']:.1f}", same, f"{s['cpu_ms']:.2f}", cpu, wall))
    yield from table(lines)
    if "rivals" in record:
        yield from rival_rows(record["rivals"], record["pictures"])
    elif WHOLE not in record["systems"]:
        yield "(monolithic graphs were not measured: name the model with --model)"
    if record["noisy"]:
        yield f"NOISY: {record['noisy']}. These figures compare nothing."

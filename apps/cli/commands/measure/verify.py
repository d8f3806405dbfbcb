"""`mue-edge verify`: check that a bundle is whole and gives its golden answers here."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from mue_edge import targets
from mue_edge.apps.cli.default_bundle import bundle_folder
from mue_edge.apps.cli.options import NewFile
from mue_edge.apps.cli.options.common import bundle_argument, json_option, threads_option
from mue_edge.apps.cli.terminal import print_result
from mue_edge.bundle.folder import open_bundle
from mue_edge.bundle.manifest import Manifest
from mue_edge.errors import UsageError
from mue_edge.measuring import profile
from mue_edge.targets import choice
from mue_edge.targets.verify import SCORE_TOLERANCE, Verified, sign_off, signoff_path, verify


@click.command("verify")
@bundle_argument
@json_option("The figures as JSON.")
@threads_option()
@click.option("--device", is_flag=True, help="On the device: measure too, and sign off.")
@click.option("--out", type=NewFile(), help="With --device.  [default: BUNDLE.device.json]")
def command(bundle: str, as_json: bool, threads: int | None, device: bool, out: Path | None) -> None:
    """Hash every file of a BUNDLE, then replay its golden answers through this machine's runtime.

    With --device, on the device that the bundle is for: latency, calls, memory and energy too, all in a JSON
    file that says that the hardware was reached.

    Exit code 4: a file is missing or was changed. Exit code 6: the answers differ, or this processor does not
    sum int8 products exactly.
    """
    opened = open_bundle(bundle_folder(bundle), paranoid=True)
    manifest = opened.manifest
    measure = None
    if device:
        measure = getattr(importlib.import_module(targets.module_name(manifest.target)), "measure", None)
        if measure is None:
            raise UsageError(f"target {manifest.target} has no sign-off on a device; leave out --device")
    with closing(targets.open_runtime(opened, threads)) as runtime:
        verified = verify(opened, runtime)
        if measure is not None:
            path = out or signoff_path(Path(bundle))
            record = sign_off(opened, runtime, verified, measure, path)
            chosen = choice.lines(choice.keep(opened, path, profile.path_of(Path(bundle))))
            print_result(as_json, record, _signed_off(record, path, chosen))
            return
    promised = manifest.precision in SCORE_TOLERANCE
    record = {"bundle": str(opened.path), "files": len(manifest.files), "rung": manifest.evidence.rung}
    record |= {"promised": promised} | vars(verified)
    print_result(as_json, record, _text(bundle, manifest, verified, promised))


def _text(bundle: str, m: Manifest, v: Verified, promised: bool) -> Iterator[str]:
    size = sum(entry.bytes for entry in m.files.values())
    yield f"files    {len(m.files)} whole, {size / 1e6:.1f} MB"
    yield (
        f"replay   {v.replay_same_tokens} of {v.logs} logs give the same tokens; "
        f"{v.scores} scores differ by up to {v.max_score_error:.1e}, p99 {v.p99_score_error:.1e}"
    )
    yield (
        f"free run {v.free_same_tokens} of {v.logs} captions and {v.free_same_exits} of "
        f"{v.logs} exit patterns are the same"
    )
    for name, times in v.sums.items():
        yield f"int8     {name}: error {times:.3f} times that of exact sums"
    yield f"export   reached level {m.evidence.rung}"
    if promised:
        yield f"{bundle} is verified on this machine ({m.target}, {m.precision})"
    else:
        yield f"{m.precision} promises no equality with the reference: the figures are for reading"


def _signed_off(record: Mapping[str, Any], path: Path, chosen: list[str]) -> Iterator[str]:
    gold, edge, measured = record["golden"], record["knife_edge"], record["measured"]
    yield f"{record['bundle']} on {record['device']}, {record['precision']}"
    yield (
        f"replay     {gold['replay_same_tokens']} of {gold['logs']} logs give the same tokens; "
        f"scores differ by up to {gold['max_score_error']:.1e}, p99 {gold['p99_score_error']:.1e}"
    )
    yield (
        f"free run   {gold['free_same_tokens']} of {gold['logs']} captions and {gold['free_same_exits']} "
        f"exit patterns are the same; {edge['close']} of {edge['tests']} tests within {edge['within']:.1e} "
        "of their threshold"
    )
    yield from _gpu(measured) if "calls" in measured else _units(measured)
    yield from chosen or ["next       mue-edge profile BUNDLE, which keeps what was chosen"]
    yield f"wrote {path}: signed off on this device"


def _units(measured: Mapping[str, Any]) -> Iterator[str]:
    """A line a unit of Core ML, and one of what each stack runs best on."""
    for unit, checks in measured["units"].items():
        seconds = sum(f["seconds"] for f in checks["functions"].values())
        psnr = min(f["psnr"] for f in checks["functions"].values())
        yield f"{unit:<10} all functions once: {seconds * 1e3:.2f} ms; nearest to noise {psnr:.0f} dB"
    yield "fastest    " + ", ".join(f"{k.partition('.')[2]} {u}" for k, u in measured["chosen"].items())


def _gpu(measured: Mapping[str, Any]) -> Iterator[str]:
    for name, value in measured["mode"].items():
        yield f"mode       {name} {value}"
    calls = {name.removesuffix("_us"): value for name, value in measured["calls"].items()}
    yield "calls      " + ", ".join(f"{name} {value:.1f} µs" for name, value in calls.items())
    for policy, ways in measured["captions"].items():
        for way, f in ways.items():
            energy = "" if f["joules"] is None else f", {f['joules']:.3f} J"
            times = f"median {f['median_s'] * 1e3:.2f} ms, p95 {f['p95_s'] * 1e3:.2f} ms"
            yield f"caption    {policy}, {way}: {times}{energy}"
    waits = measured["waits"]  # ways of waiting for the device
    for way, f in waits["ways"].items():
        times = f"median {f['median_s'] * 1e3:.2f} ms, CPU {f['cpu_s'] * 1e3:.2f} ms"
        yield f"waits      {way}: {times}, read and wait {f['read_and_wait_us']:.1f} µs"
    if (fastest := waits["fastest"]) != waits["used"]:
        yield f"           {fastest} was the fastest; use it with: MUE_EDGE_WAITS={fastest}"
    memory = ", ".join(f"{name} {value / 1e6:.1f} MB" for name, value in measured["memory"].items())
    yield f"memory     {memory}"

"""`mue-edge verify`: check that a bundle is whole and gives its golden answers here."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from mue_edge.apps.cli.options.common import bundle_argument, json_option, threads_option
from mue_edge.apps.cli.options.types import NewFile


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
    from mue_edge import targets
    from mue_edge.apps.cli.default_bundle import bundle_folder
    from mue_edge.bundle.folder import open_bundle
    from mue_edge.measuring import profile
    from mue_edge.targets import choice
    from mue_edge.targets.verify import SCORE_TOLERANCE, sign_off, signoff_path, verify

    opened = open_bundle(bundle_folder(bundle), paranoid=True)
    manifest = opened.manifest
    measure = _measure(manifest.target) if device else None
    runtime = targets.open_runtime(opened, threads)
    try:
        found = verify(opened, runtime)
        if measure is not None:
            place = out or signoff_path(Path(bundle))
            signed = sign_off(opened, runtime, found, measure, place)
            chosen = choice.keep(opened, place, profile.path_of(Path(bundle)))
            click.echo(json.dumps(signed, indent=1) if as_json else _signed(signed, place, chosen))
            return
    finally:
        runtime.close()
    promised = manifest.precision in SCORE_TOLERANCE
    if as_json:
        record = {"bundle": str(opened.path), "files": len(manifest.files), "rung": manifest.evidence.rung}
        click.echo(json.dumps(record | {"promised": promised} | vars(found), indent=1))
        return
    size = sum(entry.bytes for entry in manifest.files.values())
    click.echo(f"files    {len(manifest.files)} whole, {size / 1e6:.1f} MB")
    click.echo(
        f"replay   {found.replay_same_tokens} of {found.logs} logs give the same tokens; "
        f"{found.scores} scores differ by up to {found.max_score_error:.1e}, p99 {found.p99_score_error:.1e}"
    )
    click.echo(
        f"free run {found.free_same_tokens} of {found.logs} captions and {found.free_same_exits} of "
        f"{found.logs} exit patterns are the same"
    )
    for name, times in found.sums.items():
        click.echo(f"int8     {name}: error {times:.3f} times that of exact sums")
    click.echo(f"export   reached rung {manifest.evidence.rung}")
    if promised:
        click.echo(f"{bundle} is verified on this machine ({manifest.target}, {manifest.precision})")
    else:
        click.echo(
            f"{manifest.precision} promises no equality with the reference: the figures are for reading"
        )


def _measure(target: str) -> Any:
    """What the target measures on its device. Raises UsageError for a target that has nothing of the kind."""
    from mue_edge import targets
    from mue_edge.errors import UsageError

    found = getattr(importlib.import_module(targets.module_name(target)), "measure", None)
    if found is None:
        raise UsageError(f"target {target} has no sign-off on a device; leave out --device")
    return found


def _signed(record: Mapping[str, Any], place: Path, chosen: Mapping[str, str]) -> str:
    from mue_edge.targets import choice

    gold, edge, measured = record["golden"], record["knife_edge"], record["measured"]
    lines = [
        f"{record['bundle']} on {record['device']}, {record['precision']}",
        (
            f"replay     {gold['replay_same_tokens']} of {gold['logs']} logs give the same tokens; "
            "scores differ by up to "
            f"{gold['max_score_error']:.1e}, p99 {gold['p99_score_error']:.1e}"
        ),
        (
            f"free run   {gold['free_same_tokens']} of {gold['logs']} captions and "
            f"{gold['free_same_exits']} exit patterns "
            f"are the same; {edge['close']} of {edge['tests']} tests within {edge['within']:.1e} of "
            "their threshold"
        ),
    ]
    lines += _gpu(measured) if "calls" in measured else _units(measured)
    lines += choice.lines(chosen) or ["next       mue-edge profile BUNDLE, which keeps what was chosen"]
    return "\n".join([*lines, f"wrote {place}: signed off on this device"])


def _units(measured: Mapping[str, Any]) -> list[str]:
    """A line a unit of Core ML, and one of what each stack runs best on."""
    lines = []
    for unit, found in measured["units"].items():
        functions = found["functions"].values()
        lines.append(
            f"{unit:<10} all functions once: {sum(f['seconds'] for f in functions) * 1e3:.2f} ms; nearest to "
            f"noise {min(f['psnr'] for f in functions):.0f} dB"
        )
    return [
        *lines,
        "fastest    " + ", ".join(f"{k.partition('.')[2]} {u}" for k, u in measured["chosen"].items()),
    ]


def _gpu(measured: Mapping[str, Any]) -> list[str]:
    lines = [f"mode       {name} {value}" for name, value in measured["mode"].items()]
    calls = ", ".join(
        f"{name.removesuffix('_us')} {value:.1f} µs" for name, value in measured["calls"].items()
    )
    lines.append(f"calls      {calls}")
    for policy, ways in measured["captions"].items():
        for way, f in ways.items():
            energy = "" if f["joules"] is None else f", {f['joules']:.3f} J"
            lines.append(
                f"caption    {policy}, {way}: median {f['median_s'] * 1e3:.2f} ms, p95 "
                f"{f['p95_s'] * 1e3:.2f} ms{energy}"
            )
    lines += _waits(measured["waits"])
    memory = ", ".join(f"{name} {value / 1e6:.1f} MB" for name, value in measured["memory"].items())
    return [*lines, f"memory     {memory}"]


def _waits(measured: Mapping[str, Any]) -> list[str]:
    """A line for each way of waiting for the device, and which to use."""
    lines = [
        f"waits      {way}: median {f['median_s'] * 1e3:.2f} ms, CPU {f['cpu_s'] * 1e3:.2f} ms, "
        f"read and wait {f['read_and_wait_us']:.1f} µs"
        for way, f in measured["ways"].items()
    ]
    if measured["fastest"] != measured["used"]:
        lines.append(
            f"           {measured['fastest']} was the fastest; use it with: "
            f"MUE_EDGE_WAITS={measured['fastest']}"
        )
    return lines

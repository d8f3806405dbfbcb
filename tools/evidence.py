"""The long proofs: `python tools/evidence.py [NAME…]`, or `make evidence`.

Each job writes evidence/NAME.json when it is done and is skipped while that file is fresh (the
code that it covers is unchanged), so a run that was stopped goes on where it was. `--check` lists
stale and missing evidence. Pictures come from the sticker recipe, which must have been run.
"""

from __future__ import annotations

import importlib

import click

from proofs.record import FOLDER, is_fresh

# A job is a function of tools/proofs/, here as FILE.FUNCTION: only the file of a job that runs is imported.
JOBS = {
    "loop-beam1": "loop.beam1",
    "loop-beam5": "loop.beam5",
    "executorch-loop-android": "executorch.loop_android",
    "executorch-loop-embedded-linux": "executorch.loop_embedded_linux",
    "executorch-int8": "executorch.int8",
    "executorch-java": "executorch.java",
    "web": "web.web",
    "camera": "camera.camera",
    "executorch-vulkan": "executorch.vulkan",
    "executorch-base": "executorch.base",
    "executorch-bench": "bench.executorch",
    "bench": "bench.host",
    "bench-ofa-tiny": "bench.ofa_tiny",
    "policies": "stickers.policies",
    "deadline": "deadline.deadline",
    "memo": "calibration.memo",
    "certificate": "calibration.certificate",
    "calibrate": "calibration.calibrate",
    "savings-exits": "savings.exits",
    "savings-plans": "savings.plans",
    "signals": "signals.signals",
    "lossless": "lossless.lossless",
    "compare": "compare.captions",
    "entailment": "entailment.accuracy",
    "compare-entail": "entailment.compare",
    "calibrate-entail": "calibration.entailment",
    "jetson-adapter": "jetson.adapter",
    "jetson-loop": "jetson.loop",
    "jetson-ofa-base": "jetson.base",
    "jetson-gates": "jetson.gates",
    "stickers": "stickers.stickers",
    "stickers-decoders": "stickers.decoders",
    "int8-exact": "int8_exact.host",
    "int8-wasm": "int8_wasm.stickers",
    "arm64": "arm64.bundled",
    "iphone": "iphone.stickers",
    "iphone-ofa-base": "iphone.base",
    "iphone-without-numpy": "without_numpy.stickers",
}


def run(name: str) -> None:
    """Make evidence/NAME.json anew."""
    file, function = JOBS[name].split(".")
    getattr(importlib.import_module(f"proofs.{file}"), function)()


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(JOBS)))
@click.option("--force", is_flag=True, help="Also what is fresh.")
@click.option("--check", is_flag=True, help="Only say what is stale or missing.")
def main(names: tuple[str, ...], force: bool, check: bool) -> None:
    for name in names or JOBS:
        path = FOLDER / f"{name}.json"
        state = "fresh" if is_fresh(path) else "stale" if path.is_file() else "missing"
        if check or (state == "fresh" and not force):
            click.echo(f"{name}: {state}")
            continue
        click.echo(f"{name}: {state}; measuring")
        run(name)


if __name__ == "__main__":
    main()

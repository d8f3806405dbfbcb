"""Trainings for a comparison, as many at once as there are cores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import click

from mue_edge.errors import MueEdgeError


def run(commands: Sequence[Sequence[str]]) -> None:
    """Modules with their options, each on one thread; raises MueEdgeError for one that fails."""
    with (
        click.progressbar(length=len(commands), label="trainings", file=sys.stderr) as bar,
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
    ):
        for done in as_completed([pool.submit(_one, command) for command in commands]):
            if done.exception():
                pool.shutdown(wait=False, cancel_futures=True)
            done.result()
            bar.update(1)


def _one(command: Sequence[str]) -> None:
    words = [sys.executable, "-m", *command]
    if subprocess.run(words, stdout=subprocess.DEVNULL, check=False).returncode:
        raise MueEdgeError("a training ended with an error; see above")

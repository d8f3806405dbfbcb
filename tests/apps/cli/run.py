"""Runs the command line in this process."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pytest
from PIL import Image

from mue_edge.apps.cli import main as cli


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def error(self, code: int) -> str:
        """The one line of a user's mistake, after checking that it is one, with this exit code."""
        assert self.code == code, self.err
        lines = self.err.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), self.err
        return lines[0]


class Runner:
    """`run("caption", bundle, picture)`."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *args: str | Path) -> Done:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main([str(a) for a in args])
        printed = self._capsys.readouterr()
        return Done(int(end.value.code or 0), printed.out, printed.err)


def stdin(data: bytes) -> TextIO:
    """A standard input that holds these bytes."""
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="surrogateescape")


def picture(path: Path, seed: int = 0) -> Path:
    """A picture of noise, written to `path`."""
    noise = np.random.default_rng(seed).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path

"""Notes which files of the repository Python opens: code that is imported, and data.

Python imports a module of this name when it starts. The processes of a proof have this folder on their path,
so that every one of them notes, however it ends; LOG names the file that they write to, a path a line.
"""
# Every process waits for this, so that it takes no more than `os` and `sys`.
# ruff: noqa: PTH100, PTH118, PTH120

from __future__ import annotations

import os
import sys
from typing import Any

LOG = "MUE_EDGE_FILES_READ"
ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")) + os.sep


def watch(log: str) -> None:
    """Notes from now on, until the process ends. What is opened to be written is not read."""
    known: set[str] = set()
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or isinstance(arguments[0], int) or arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if path.startswith(ROOT) and path not in known and "site-packages" not in path:
            known.add(path)
            os.write(out, f"{path}\n".encode())

    sys.addaudithook(note)


if LOG in os.environ:
    watch(os.environ[LOG])

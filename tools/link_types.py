"""Rebuild tools/typelinks: the package as one tree of links, for mypy and pyright only.

The rooms stand at the top of the repository but import as `mue_edge.<room>`; type checkers
do not follow the `__path__` that makes this work at run time.
"""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("export", "targets", "calibrate", "apps")


def expected() -> dict[str, str]:
    """Link name → relative target."""
    names = [p.name for p in (ROOT / "mue_edge").iterdir() if p.name != "__pycache__"]
    core = {name: f"../../../mue_edge/{name}" for name in names}
    return core | {room: f"../../../{room}" for room in ROOMS}


def rebuild() -> None:
    farm = ROOT / "tools" / "typelinks" / "mue_edge"
    shutil.rmtree(farm, ignore_errors=True)
    farm.mkdir(parents=True)
    for name, target in sorted(expected().items()):
        (farm / name).symlink_to(target)


if __name__ == "__main__":
    rebuild()

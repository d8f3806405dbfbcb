"""mue-edge: OFA/MuE vision-language models on devices, under a latency budget."""

from __future__ import annotations

from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from mue_edge.sessions.captioner import Captioner as _Captioner

__version__ = "0.1.0"

_root = _Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and not (_root / "mue_edge" / "export").is_dir():
    # A copy of the repository that lost the links to the rooms, which stand beside this folder.
    __path__.append(str(_root))


def open(
    path: str | _Path | None = None,
    *,
    threads: int | None = None,
    paranoid: bool = False,
    max_pixels: int | None = None,
) -> _Captioner:
    """Check a bundle (see `bundle.open_bundle`) and start its target's runtime.

    path: a bundle folder, else a bundled model's name, whose bundle is made once into the user's cache; None
    is the default model's. max_pixels: of a picture, width × height; None: 25 million. Raises UsageError for
    a bundle that judges statements.
    """
    from mue_edge import targets

    if path is None or not (_Path(path) / "manifest.json").is_file():  # a device may lack the room `apps`
        from mue_edge.apps.cli.default_bundle import bundle_folder

        path = bundle_folder(path, "caption")
    return targets.open(path, threads=threads, paranoid=paranoid, max_pixels=max_pixels)

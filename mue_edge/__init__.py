"""mue-edge: OFA/MuE vision-language models on devices, under a latency budget."""

from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from mue_edge.targets import open as open

__version__ = "0.1.0"

_root = _Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "export").is_dir():
    # A checkout: the rooms export/, targets/, calibrate/ and apps/ stand beside this folder.
    __path__.append(str(_root))


def __getattr__(name: str) -> _Any:
    """`mue_edge.open`, imported when first used: the core itself stays free of the rooms."""
    if name == "open":
        import importlib

        return importlib.import_module("mue_edge.targets").open
    raise AttributeError(f"module 'mue_edge' has no attribute {name!r}")

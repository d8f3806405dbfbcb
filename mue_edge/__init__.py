"""mue-edge: OFA/MuE vision-language models on devices, under a latency budget."""

from pathlib import Path as _Path

__version__ = "0.1.0"

_root = _Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "export").is_dir():
    # A checkout: the rooms export/, targets/, calibrate/ and apps/ stand beside this folder.
    __path__.append(str(_root))

"""The bundled sticker captioner: data recipe, training, model and demo pictures.

Standard library only: the model's place and the demo must be known where nothing else is installed.
"""

from __future__ import annotations

import json
from pathlib import Path

_HERE = Path(__file__).resolve().parent


def model_folder() -> Path:
    """The bundled model folder."""
    return _HERE / "model"


def demo_pictures() -> list[tuple[Path, str]]:
    """Held-out pictures (split `test_render`) and what people call them."""
    captions: dict[str, str] = json.loads((_HERE / "demo" / "captions.json").read_text(encoding="utf-8"))
    return [(_HERE / "demo" / name, caption) for name, caption in captions.items()]

"""The bundled entailment model: does a sticker show what a statement says?

Standard library only: the model's place must be known where nothing else is installed.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def model_folder() -> Path:
    """The bundled model folder."""
    return _HERE / "model"

"""What the app calls itself and says that it is for, by what its bundle does. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wording:
    """name: on the window and under the icon. camera: why the app asks for it."""

    name: str
    description: str
    camera: str


CAPTIONS = Wording(
    "Captions", "Captions pictures on the device, and reads them aloud.", "To caption what the camera sees."
)
STATEMENTS = Wording(
    "Statements",
    "Says on the device whether a picture shows what a statement says.",
    "To judge statements about what the camera sees.",
)

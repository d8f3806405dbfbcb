"""A bundle's golden pictures, on which commands measure that are given no others."""

from __future__ import annotations

from mue_edge.bundle.folder import Bundle
from mue_edge.targets import golden


def golden_pixels(bundle: Bundle) -> list[object]:
    """The network's inputs for them, [1, 3, H, W] each."""
    pictures, _ = golden.read(bundle)
    return [golden.pixels(picture, bundle.manifest.preprocess) for picture in pictures]

"""Rung `graph`: every exported segment equals its torch module on random inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mue_edge.bundle.manifest import Preprocess
from mue_edge.errors import VerificationError
from mue_edge.export.formats import Call
from mue_edge.models.cut import Cut
from mue_edge.targets.golden import pixels

# Largest allowed difference between a runtime and torch, relative to the size of the output.
TOLERANCE = 1e-4


def check_graphs(cut: Cut, call: Call, preprocess: Preprocess, *, strict: bool) -> float:
    """Largest error of any output of any segment that `call` runs, relative to max(1, |output|). For
    pixels it is given what `preprocess` makes of random grey levels.

    Raises VerificationError above TOLERANCE if `strict` (fp32); other precisions are reported.
    """
    worst = 0.0
    for piece in cut.pieces:
        inputs = [
            random_pixels(x.shape, preprocess) if port == "pixels" else _random(x, i)
            for i, (port, x) in enumerate(piece.inputs.items())
        ]
        with torch.no_grad():
            out = piece.module.eval()(*inputs)
        wanted = out if isinstance(out, tuple) else (out,)
        found = call(piece.name, [x.numpy() for x in inputs])
        for port, a, b in zip(piece.outputs, wanted, found):
            if port == "top_ids":  # equal logits may come in any order; their values are compared
                continue
            error = float(np.max(np.abs(a.numpy() - b) / np.maximum(1, np.abs(a.numpy()))))
            worst = max(worst, error)
            if strict and not error <= TOLERANCE:
                raise VerificationError(
                    f"segment {piece.name}: output {port} differs from torch by {error:.1e} "
                    f"(allowed {TOLERANCE:.0e})"
                )
    return worst


def random_pixels(shape: Sequence[int], p: Preprocess) -> torch.Tensor:
    """Pixels [1, 3, H, W] of random grey levels."""
    shown = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (*shape[2:], 3), np.uint8)
    return torch.from_numpy(pixels(shown, p))


def _random(example: torch.Tensor, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if example.is_floating_point():
        return torch.randn(example.shape, generator=generator)
    return torch.randint(0, 4, example.shape, generator=generator)

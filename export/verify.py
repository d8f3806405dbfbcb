"""Rung `graph`: every exported segment equals its torch module on random inputs."""

from __future__ import annotations

import numpy as np
import torch

from mue_edge.errors import VerificationError
from mue_edge.export.formats import Call
from mue_edge.models.cut import Cut

# Largest allowed difference between a runtime and torch, relative to the size of the output.
TOLERANCE = 1e-4


def check_graphs(cut: Cut, call: Call, *, strict: bool) -> float:
    """Largest error of any output of any segment that `call` runs, relative to max(1, |output|).

    Raises VerificationError above TOLERANCE if `strict` (fp32); other precisions are reported.
    """
    worst = 0.0
    for piece in cut.pieces:
        inputs = [_random(example, i) for i, example in enumerate(piece.inputs.values())]
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


def _random(example: torch.Tensor, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if example.is_floating_point():
        return torch.randn(example.shape, generator=generator)
    return torch.randint(0, 4, example.shape, generator=generator)

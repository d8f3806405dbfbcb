"""The manifest's words for a piece, whatever format it is written in."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.utils.flop_counter import FlopCounterMode

from mue_edge.bundle.manifest import Port, Segment
from mue_edge.models.cut import Piece


def entry(piece: Piece, file: str, weight_bytes: int) -> Segment:
    """Its ports as torch has them, the bytes of its weights, its multiply-adds."""
    module = piece.module.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        out = module(*piece.inputs.values())
    made = out if isinstance(out, tuple) else (out,)
    return Segment(
        file, _ports(dict(piece.inputs)), _ports(dict(zip(piece.outputs, made))),
        piece.stack, piece.first, piece.last, weight_bytes, counter.get_total_flops() // 2,
    )  # fmt: skip


def _ports(tensors: Mapping[str, torch.Tensor]) -> dict[str, Port]:
    return {name: Port(tuple(x.shape), str(x.dtype).removeprefix("torch.")) for name, x in tensors.items()}

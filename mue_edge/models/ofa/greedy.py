"""Batched greedy decoding at fixed depths, for measuring quality: the plain, cache-free way."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mue_edge.models.ofa.model import Model


def greedy(
    model: Model, prompt: Sequence[int], pixels: Tensor, *, max_length: int = 24,
    image_depth: int | None = None, decoder_depth: int | None = None,
) -> list[list[int]]:  # fmt: skip
    """Greedy captions (ids without bos and eos) of [B, 3, H, W] at fixed depths (default: all layers).

    The whole prefix runs through `decoder_depth` layers at every step, so no cache can be stale.
    """
    bos, pad, eos = model.config.bos, model.config.pad, model.config.eos
    rows = len(pixels)
    with torch.inference_mode():
        source = torch.tensor([list(prompt)]).expand(rows, -1)
        if model.config.decomposed:
            encoded = model.encoder.forward_decomposed(source, pixels, image_depth=image_depth)
        else:
            encoded = model.encoder.forward_joint(source, pixels, depth=image_depth)
        tokens = torch.full((rows, 1), bos)
        ended = torch.zeros(rows, dtype=torch.bool)
        for _ in range(max_length):
            states = model.decoder.hidden_states(
                tokens, encoded, lambda depth, _before, _after: depth == decoder_depth
            )
            logits = model.decoder.project(states[-1][:, -1:])[:, 0]
            logits[:, [pad, bos]] = -math.inf
            chosen = logits.argmax(-1).masked_fill(ended, eos)
            ended |= chosen == eos
            tokens = torch.cat([tokens, chosen[:, None]], 1)
            if bool(ended.all()):
                break
    return [row[: row.index(eos)] if eos in row else row for row in tokens[:, 1:].tolist()]

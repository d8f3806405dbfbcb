"""Batched greedy decoding at fixed depths, for measuring quality: many depths from one pass of the encoder.

At a fixed decoder depth every word has run the same layers, so cached keys and values are exact.
Shapes: B pictures, R rows still live, S encoder positions, d = encoder_dim, H heads, V words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mue_edge.errors import UsageError
from mue_edge.models.family import Depths
from mue_edge.models.ofa.decoder import Decoder
from mue_edge.models.ofa.layers import KeysValues
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.outputs import EncoderOutput

# Ended rows leave the batch when no more than this share of it is live: leaving copies what is cached.
_COMPACT = 0.75


def greedy(
    model: Model, prompt: Sequence[int], pixels: Tensor, *, max_length: int = 24,
    encoder_depth: int | None = None, decoder_depth: int | None = None,
) -> list[list[int]]:  # fmt: skip
    """Greedy captions (ids without bos and eos) of [B, 3, H, W] at fixed depths (default: all layers)."""
    cell = (
        model.config.encoder_layers if encoder_depth is None else encoder_depth,
        model.config.decoder_layers if decoder_depth is None else decoder_depth,
    )
    return greedy_by_depth(model, prompt, pixels, [cell], max_length=max_length)[cell]


@torch.inference_mode()
def greedy_by_depth(
    model: Model, prompt: Sequence[int], pixels: Tensor, cells: Sequence[Depths], *, max_length: int = 24
) -> dict[Depths, list[list[int]]]:
    """`greedy` at each pair of depths; a decomposed encoder's prompt always runs all layers.

    Raises UsageError for depths that the model does not have.
    """
    most = (model.config.encoder_layers, model.config.decoder_layers)
    for cell in cells:
        if not all(1 <= depth <= layers for depth, layers in zip(cell, most)):
            raise UsageError(f"depths {cell[0]},{cell[1]}: the model has 1 to {most[0]},{most[1]} layers")
    source = torch.tensor([list(prompt)]).expand(len(pixels), -1)
    deepest = max((image for image, _ in cells), default=1)
    if model.config.decomposed:
        encoded = model.encoder.forward_decomposed(source, pixels, image_depth=deepest)
    else:
        encoded = model.encoder.forward_joint(source, pixels, depth=deepest)
    decoder = model.decoder
    biases = _Biases(
        decoder.self_biases(max_length),
        decoder.cross_bias(max_length, encoded.positions),
        encoded.padding_mask[:1, None, None],
    )
    found: dict[Depths, list[list[int]]] = {}
    for encoder_depth in dict.fromkeys(image for image, _ in cells):
        hidden = hidden_at(model, encoded, encoder_depth, len(prompt))
        left = EncoderOutput(hidden, (), encoded.padding_mask, encoded.positions)
        depths = [depth for image, depth in dict.fromkeys(cells) if image == encoder_depth]
        cross = [decoder.cross_keys_values(i, left) for i in range(max(depths))]
        for depth in depths:
            found[encoder_depth, depth] = _decode(decoder, cross[:depth], biases, max_length)
    return {cell: found[cell] for cell in cells}


@dataclass(frozen=True)
class _Biases:
    """Self-attention's by layer [H, L, L], cross-attention's [H, L, S], and its mask [1, 1, 1, S]."""

    own: list[Tensor]
    cross: Tensor
    mask: Tensor


def hidden_at(model: Model, encoded: EncoderOutput, depth: int, words: int) -> Tensor:
    """What the decoder reads [B, S, d] when the picture has left after `depth` layers."""
    state = encoded.layers[depth]
    if model.config.decomposed:
        state = torch.cat([state[:, :-words], encoded.layers[-1][:, -words:]], 1)
    hidden: Tensor = model.encoder.layer_norm(state)
    return hidden


def _decode(decoder: Decoder, cross: list[KeysValues], biases: _Biases, max_length: int) -> list[list[int]]:
    """Captions through the first layers, as many as `cross` has keys and values [B, H, S, w] for."""
    c, rows = decoder.config, len(cross[0][0])
    captions: list[list[int]] = [[] for _ in range(rows)]
    live = torch.arange(rows)
    past: list[KeysValues | None] = [None] * len(cross)
    tokens, open_rows = torch.full((rows,), c.bos), torch.ones(rows, dtype=torch.bool)
    for step in range(max_length):
        x = decoder.embed(tokens[:, None], start=step)
        for i, keys_values in enumerate(cross):
            own = biases.own[i][:, step : step + 1, : step + 1]
            over = biases.cross[:, step : step + 1]
            x, past[i] = decoder.layer(i)(x, past[i], own, None, keys_values, over, biases.mask)
        logits = decoder.project(x)[:, 0]
        logits[:, [c.pad, c.bos]] = -math.inf
        tokens = logits.argmax(-1)
        open_rows &= tokens.ne(c.eos)
        for row, token, is_open in zip(live.tolist(), tokens.tolist(), open_rows.tolist()):
            if is_open:
                captions[row].append(token)
        left = int(open_rows.sum())
        if not left:
            break
        if left <= _COMPACT * len(live):
            live, tokens = live[open_rows], tokens[open_rows]
            past = [None if kv is None else (kv[0][open_rows], kv[1][open_rows]) for kv in past]
            cross = [(keys[open_rows], values[open_rows]) for keys, values in cross]
            open_rows = open_rows[open_rows]
    return captions

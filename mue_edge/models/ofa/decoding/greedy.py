"""Batched greedy decoding at fixed depths, for measuring quality: many depths from one pass of the encoder.

At a fixed decoder depth every word has run the same layers, so cached keys and values are exact.
Shapes: B pictures, R rows still live, S encoder positions, d = encoder_dim, H heads, V words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mue_edge.errors import UsageError
from mue_edge.models.family import Depths
from mue_edge.models.heads import Steps
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.network.decoder import Decoder
from mue_edge.models.ofa.network.layers import KeysValues
from mue_edge.models.ofa.network.outputs import EncoderOutput

# Ended rows leave the batch when no more than this share of it is live: leaving copies what is cached.
_COMPACT = 0.75
# Self-attention's by layer [H, L, L], cross-attention's [H, L, S], and its mask [1, 1, 1, S].
Biases = tuple[list[Tensor], Tensor, Tensor]


def greedy(
    model: Model,
    prompt: Sequence[int],
    pixels: Tensor,
    *,
    max_length: int = 24,
    encoder_depth: int | None = None,
    decoder_depth: int | None = None,
) -> list[list[int]]:
    """Greedy captions (ids without bos and eos) of [B, 3, H, W] at fixed depths (default: all layers)."""
    depths = (
        model.config.encoder_layers if encoder_depth is None else encoder_depth,
        model.config.decoder_layers if decoder_depth is None else decoder_depth,
    )
    return greedy_by_depth(model, prompt, pixels, [depths], max_length=max_length)[depths]


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
    encoded = _encode(model, prompt, pixels, max((encoder for encoder, _ in cells), default=1))
    biases = _biases(model.decoder, encoded, max_length)
    captions: dict[Depths, list[list[int]]] = {}
    for encoder_depth in dict.fromkeys(encoder for encoder, _ in cells):
        depths = [depth for encoder, depth in dict.fromkeys(cells) if encoder == encoder_depth]
        cross = _cross_keys_values(model, encoded, encoder_depth, len(prompt), max(depths))
        for depth in depths:
            captions[encoder_depth, depth] = _captions(model.decoder, cross[:depth], biases, max_length)
    return {cell: captions[cell] for cell in cells}


@torch.no_grad()
def steps(model: Model, prompt: Sequence[int], pixels: Tensor, rng: torch.Generator, max_length: int) -> Steps:
    """What every decoder layer makes of every word of greedy captions of pictures [B, 3, H, W], at full
    decoder depth and an encoder depth drawn from `rng`."""
    depth = int(torch.randint(1, model.config.encoder_layers + 1, (), generator=rng))
    encoded = _encode(model, prompt, pixels, depth)
    cross = _cross_keys_values(model, encoded, depth, len(prompt), model.config.decoder_layers)
    biases = _biases(model.decoder, encoded, max_length)
    words = _words(model.decoder, cross, biases, max_length, every_layer=True)
    return Steps.joined([Steps.of(torch.cat(word.states, 1)[word.live], word.logits[word.live]) for word in words])


def _encode(model: Model, prompt: Sequence[int], pixels: Tensor, depth: int) -> EncoderOutput:
    """Pictures under one prompt, with the states after every layer up to `depth`."""
    source = torch.tensor([list(prompt)]).expand(len(pixels), -1)
    return model.encoder.encode(source, pixels, depths={"image": depth, "encoder": depth})


def _cross_keys_values(model: Model, encoded: EncoderOutput, depth: int, words: int, layers: int) -> list[KeysValues]:
    """Of the first decoder layers [B, H, S, w], when the picture has exited after `depth` layers and the
    prompt of so many words after all."""
    state = encoded.layers[depth]
    if model.config.decomposed:
        state = torch.cat([state[:, :-words], encoded.layers[-1][:, -words:]], 1)
    hidden = model.encoder.layer_norm(state)
    return [model.decoder.layer(i).encoder_attn.keys_values(hidden) for i in range(layers)]


def _biases(decoder: Decoder, encoded: EncoderOutput, max_length: int) -> Biases:
    cross = decoder.cross_bias(max_length, encoded.positions)
    return decoder.self_biases(max_length), cross, encoded.padding_mask[:1, None, None]


@dataclass(frozen=True)
class GreedyStep:
    """One step of R rows. rows [R]: which of the batch; live [R]: that have not ended before; states: N + 1
    of [R, 1, d], before and after each layer; logits [R, K, V] of the last layer or of all; words [R]."""

    rows: Tensor
    live: Tensor
    states: list[Tensor]
    logits: Tensor
    words: Tensor


def _words(
    decoder: Decoder, cross: list[KeysValues], biases: Biases, max_length: int, *, every_layer: bool = False
) -> Iterator[GreedyStep]:
    """Greedy words until all rows have ended, through as many layers as `cross` has keys and values for.

    every_layer: the head reads each layer's states, and no row leaves the batch.
    """
    c, size = decoder.config, len(cross[0][0])
    self_biases, cross_bias, mask = biases
    rows, live = torch.arange(size), torch.ones(size, dtype=torch.bool)
    past: list[KeysValues | None] = [None] * len(cross)
    tokens = torch.full((size,), c.bos)
    for step in range(max_length):
        states = [decoder.embed(tokens[:, None], start=step)]
        for i, keys_values in enumerate(cross):
            own = self_biases[i][:, step : step + 1, : step + 1]
            over = cross_bias[:, step : step + 1]
            y, past[i] = decoder.layer(i)(states[-1], past[i], own, None, keys_values, over, mask)
            states.append(y)
        logits = decoder.project(torch.cat(states[1:], 1) if every_layer else states[-1])
        logits[..., [c.pad, c.bos]] = -math.inf
        tokens = logits[:, -1].argmax(-1)
        yield GreedyStep(rows, live, states, logits, tokens)
        live = live & tokens.ne(c.eos)
        count = int(live.sum())
        if not count:
            break
        if count <= _COMPACT * len(rows) and not every_layer:
            rows, tokens = rows[live], tokens[live]
            past = [None if kv is None else (kv[0][live], kv[1][live]) for kv in past]
            cross = [(keys[live], values[live]) for keys, values in cross]
            live = live[live]


def _captions(decoder: Decoder, cross: list[KeysValues], biases: Biases, max_length: int) -> list[list[int]]:
    captions: list[list[int]] = [[] for _ in range(len(cross[0][0]))]
    for step in _words(decoder, cross, biases, max_length):
        open_rows = step.live & step.words.ne(decoder.config.eos)
        for row, word in zip(step.rows[open_rows].tolist(), step.words[open_rows].tolist()):
            captions[row].append(word)
    return captions

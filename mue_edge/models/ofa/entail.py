"""Entailment for training and measuring: many statements about few pictures, at fixed encoder depths.

MuE's encoder reads picture and statement apart, so each is encoded once, whatever it is paired with. The
decoder is fed a prompt (bos, or all of the source text, OFA's `prev_output`) and answers with the word after
it. Shapes: N pictures, B statements, P patches,
T words, d = encoder_dim, C answers, L decoder layers, E encoder layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mue_edge.models.ofa.decoder import Decoder
from mue_edge.models.ofa.loss import OverLayers, layer_weights
from mue_edge.models.ofa.model import Model


@dataclass(frozen=True)
class Encoded:
    """Final states of pictures [N, P, d] and statements [B, T, d], where those are padding [B, T], which
    picture each is about [B], and normalised position vectors [1, P + T, d]."""

    image: Tensor
    text: Tensor
    padding: Tensor
    of: Tensor
    positions: Tensor


def image_states(model: Model, patches: Tensor, depth: int) -> Tensor:
    """Final states [N, P, d] after `depth` layers of a square of embedded patches [N, P, d]
    (`model.encoder.embed_patches`)."""
    encoder, grid = model.encoder, _grid(patches.shape[1])
    positions = encoder.image_pos_ln(encoder.image_position_vectors(grid))
    bias, x = encoder.image_bias(positions, grid, model.config.image_relative_bias), patches
    for i, layer in enumerate(encoder.layers[:depth]):
        x = layer(x, bias(i), None)
    out: Tensor = encoder.layer_norm(x)
    return out


def text_states(model: Model, words: Tensor) -> Tensor:
    """Final states [B, E, T, d] after 1, 2, … layers of words [B, T] (right padding)."""
    encoder, padding = model.encoder, words.eq(model.config.pad)
    x = encoder.embed_words(words).masked_fill(padding[..., None], 0.0)
    bias = encoder.text_bias(encoder.pos_ln(encoder.text_position_vectors(words.shape[1])))
    states = []
    for i, layer in enumerate(encoder.layers):
        x = layer(x, bias(i), padding[:, None, None])
        states.append(encoder.layer_norm(x))
    return torch.stack(states, 1)


def positions(model: Model, patches: int, words: int) -> Tensor:
    """Normalised position vectors [1, P + T, d]."""
    encoder = model.encoder
    image = encoder.image_pos_ln(encoder.image_position_vectors(_grid(patches)))
    return torch.cat([image, encoder.pos_ln(encoder.text_position_vectors(words))])[None]


def logits(decoder: Decoder, encoded: Encoded, prompts: Sequence[Sequence[int]], answers: Tensor) -> Tensor:
    """[L, B, C]: after each decoder layer, how well each of the answers (ids [C]) follows its prompt."""
    states = last_states(decoder, encoded, prompts)[1:]
    return nn.functional.linear(decoder.layer_norm(states), decoder.projection_weight[answers])


def last_states(decoder: Decoder, encoded: Encoded, prompts: Sequence[Sequence[int]]) -> Tensor:
    """The state of each prompt's last word after 0, 1, … L layers: [L + 1, B, d]."""
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    order = lengths.argsort()
    # Parts of like length: short prompts do not pay for the padding of long ones.
    states = torch.cat([_last_states(decoder, encoded, rows, prompts) for rows in order.chunk(3)], 1)
    return states[:, order.argsort()]


def _last_states(
    decoder: Decoder, encoded: Encoded, rows: Tensor, prompts: Sequence[Sequence[int]]
) -> Tensor:
    """Of some statements: [L + 1, b, d]."""
    fed = [prompts[row] for row in rows.tolist()]
    length, pad = max(map(len, fed)), decoder.config.pad
    words = torch.tensor([[*prompt, *[pad] * (length - len(prompt))] for prompt in fed])
    last = torch.tensor([len(prompt) - 1 for prompt in fed])
    width = int((~encoded.padding[rows]).sum(1).max())
    text, of = encoded.text[rows, :width], encoded.of[rows]
    seen, used = encoded.image.shape[1], torch.tensor(sorted(set(of.tolist())))
    image, of = encoded.image[used], torch.searchsorted(used, of)
    mask = torch.cat([torch.zeros(len(rows), seen, dtype=torch.bool), encoded.padding[rows, :width]], 1)
    own, over = decoder.self_biases(length), decoder.cross_bias(length, encoded.positions[:, : seen + width])
    # Nothing looks to the right, so padding there needs no mask of its own.
    causal = torch.ones(length, length, dtype=torch.bool).triu(1)
    x, ends = decoder.embed(words), (torch.arange(len(rows)), last)
    states = [x[ends]]
    for i, bias in enumerate(own):
        layer = decoder.layer(i)
        # A picture's keys and values are made once for all that is said of it.
        shown, said = (layer.encoder_attn.keys_values(one) for one in (image, text))
        cross = (torch.cat([shown[0][of], said[0]], 2), torch.cat([shown[1][of], said[1]], 2))
        x, _ = layer(x, None, bias, causal, cross, over, mask[:, None, None])
        states.append(x[ends])
    return torch.stack(states)


def loss(
    found: Tensor, labels: Tensor, weights: Tensor, over_layers: OverLayers = "mean"
) -> tuple[Tensor, Tensor]:
    """Cross entropy, a mean over statements, of all layers (`layerwise_loss` says how they are weighted), and
    the last layer's, detached.

    found: logits [L, B, C]; labels [B]; weights [C] of the labels.
    """
    by_layer = torch.stack([nn.functional.cross_entropy(each, labels, weights) for each in found])
    return by_layer @ layer_weights(len(found), over_layers), by_layer[-1].detach()


def _grid(patches: int) -> tuple[int, int]:
    side = round(patches**0.5)
    return side, side

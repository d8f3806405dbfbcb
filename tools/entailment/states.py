"""Statements about pictures, encoded at fixed depths, and the loss of their answers.

MuE's encoder reads picture and statement apart, so each is encoded once, whatever it is paired with.
Shapes: N pictures, B statements, P patches, T words, d = encoder_dim, C answers, L decoder layers, E encoder
layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.network.decoder import Decoder
from mue_edge.models.ofa.training.statements import EncodedStatements, last_states
from tools.stickers.objective import OverLayers, layer_weights


def image_states(model: Model, patches: Tensor, depth: int) -> Tensor:
    """Final states [N, P, d] after `depth` layers of a square of embedded patches [N, P, d]
    (`model.encoder.embed_patches`)."""
    encoder, grid = model.encoder, _grid(patches.shape[1])
    positions = encoder.image_positions(grid)
    bias, x = encoder.image_bias(positions, grid), patches
    for i, layer in enumerate(encoder.layers[:depth]):
        x = layer(x, bias(i), None)
    out: Tensor = encoder.layer_norm(x)
    return out


def text_states(model: Model, words: Tensor) -> Tensor:
    """Final states [B, E, T, d] after 1, 2, … layers of words [B, T] (right padding)."""
    encoder, padding = model.encoder, words.eq(model.config.pad)
    x = encoder.embed_words(words).masked_fill(padding[..., None], 0.0)
    bias = encoder.text_bias(encoder.text_positions(words.shape[1]))
    states = []
    for i, layer in enumerate(encoder.layers):
        x = layer(x, bias(i), padding[:, None, None])
        states.append(encoder.layer_norm(x))
    return torch.stack(states, 1)


def positions(model: Model, patches: int, words: int) -> Tensor:
    """Normalised position vectors [1, P + T, d]."""
    encoder = model.encoder
    image = encoder.image_positions(_grid(patches))
    return torch.cat([image, encoder.text_positions(words)])[None]


def logits(decoder: Decoder, encoded: EncodedStatements, prompts: Sequence[Sequence[int]], answers: Tensor) -> Tensor:
    """[L, B, C]: after each decoder layer, how well each of the answers (ids [C]) follows its prompt."""
    states = last_states(decoder, encoded, prompts)[1:]
    return nn.functional.linear(decoder.layer_norm(states), decoder.projection_weight[answers])


def loss(found: Tensor, labels: Tensor, weights: Tensor, over_layers: OverLayers = "mean") -> tuple[Tensor, Tensor]:
    """Cross entropy, a mean over statements, of all layers (`layer_weights` says how they are weighted), and
    the last layer's, detached.

    found: logits [L, B, C]; labels [B]; weights [C] of the labels.
    """
    by_layer = torch.stack([nn.functional.cross_entropy(each, labels, weights) for each in found])
    return by_layer @ layer_weights(len(found), over_layers), by_layer[-1].detach()


def _grid(patches: int) -> tuple[int, int]:
    side = round(patches**0.5)
    return side, side

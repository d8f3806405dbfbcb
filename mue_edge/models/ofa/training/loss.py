"""MuE's layer-wise loss: every decoder layer learns to predict the words through the one shared head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from mue_edge.errors import UsageError
from mue_edge.models.ofa.network.decoder import Decoder

OverLayers = Literal["sum", "mean", "depth", "last"]


def layerwise_loss(
    decoder: Decoder,
    states: Sequence[Tensor],
    target: Tensor,
    *,
    label_smoothing: float = 0.0,
    over_layers: OverLayers = "sum",
) -> tuple[Tensor, Tensor]:
    """Cross-entropy (nats, summed over words) of layers' states [B, L, d] against the next words [B, L]: over
    all layers, and each layer's [N], detached.

    `states` are those that shall learn: `decoder.hidden_states(...)[1:]` for all layers. Padding in
    `target` does not count. The authors take the sum over layers, the slides their mean;
    "depth" is the mean weighted by a layer's number (PABEE, Zhou et al. 2020, equation 5; CALM, Schuster et
    al. 2022, section 4), "last" the last layer's alone. Raises UsageError for a target of padding only.
    """
    live = target.ne(decoder.config.pad)
    words = target[live]
    if not len(words):
        raise UsageError("no word is left to learn from: the batch holds padding only")
    losses = [_smoothed(decoder.project(state[live]), words, label_smoothing).sum() for state in states]
    by_layer = torch.stack(losses)
    return by_layer @ layer_weights(len(states), over_layers), by_layer.detach()


def layer_weights(layers: int, over_layers: OverLayers) -> Tensor:
    """Of each layer's loss [N]."""
    if over_layers == "last":
        return torch.eye(layers)[-1]
    weight = torch.arange(1.0, layers + 1) if over_layers == "depth" else torch.ones(layers)
    return weight if over_layers == "sum" else weight / weight.sum()


def _smoothed(logits: Tensor, words: Tensor, epsilon: float) -> Tensor:
    """Loss of every word [n] from logits [n, V]; smoothing spreads `epsilon` evenly over the other V - 1
    words, as in OFA's criterion."""
    logprobs = torch.log_softmax(logits, -1, dtype=torch.float32)
    nll = -logprobs.gather(1, words[:, None])[:, 0]
    if not epsilon:
        return nll
    each = epsilon / (logits.shape[1] - 1)
    return (1 - epsilon - each) * nll - each * logprobs.sum(1)

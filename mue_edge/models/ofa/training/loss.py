"""MuE's layer-wise loss: every decoder layer learns to predict the words through the one shared head.

Label smoothing spreads `epsilon` evenly over the other V - 1 words (as in OFA's criterion), and
the worst words of each layer may be dropped, against noisy captions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mue_edge.errors import UsageError
from mue_edge.models.ofa.network.decoder import Decoder

OverLayers = Literal["sum", "mean", "depth", "last"]


@dataclass(frozen=True)
class LayerwiseLoss:
    """loss: over all layers and words, with gradient; nll: the same without smoothing, detached;
    by_layer: each layer's loss [N], detached; words: kept in each layer."""

    loss: Tensor
    nll: Tensor
    by_layer: Tensor
    words: int


def layerwise_loss(
    decoder: Decoder, states: Sequence[Tensor], target: Tensor, *,
    label_smoothing: float = 0.0, drop_worst: float = 0.0, over_layers: OverLayers = "sum",
) -> LayerwiseLoss:  # fmt: skip
    """Cross-entropy (nats, summed over words) of layers' states [B, L, d] against the next words [B, L].

    `states` are those that shall learn: `decoder.hidden_states(...)[1:]` for all layers. Padding in
    `target` does not count. `drop_worst`: the fraction of words, those of highest loss, that each
    layer drops. The authors take the sum over layers, the slides their mean;
    "depth" is the mean weighted by a layer's number (PABEE, Zhou et al. 2020, equation 5; CALM, Schuster et
    al. 2022, section 4), "last" the last layer's alone. Raises UsageError when no word is left.
    """
    live = target.ne(decoder.config.pad)
    words = target[live]
    kept = int(len(words) * (1 - drop_worst))
    if not kept:
        raise UsageError(f"no word is left to learn from: {len(words)} in the batch, drop_worst {drop_worst}")
    losses, nlls = [], []
    for state in states:
        loss, nll = _smoothed(decoder.project(state[live]), words, label_smoothing)
        if kept < len(words):
            loss, index = loss.topk(kept, largest=False)
            nll = nll[index]
        losses.append(loss.sum())
        nlls.append(nll.sum().detach())
    by_layer, nll_by_layer = torch.stack(losses), torch.stack(nlls)
    weight = layer_weights(len(states), over_layers)
    return LayerwiseLoss(by_layer @ weight, nll_by_layer @ weight, by_layer.detach(), kept)


def layer_weights(layers: int, over_layers: OverLayers) -> Tensor:
    """Of each layer's loss [N]."""
    if over_layers == "last":
        return torch.eye(layers)[-1]
    weight = torch.arange(1.0, layers + 1) if over_layers == "depth" else torch.ones(layers)
    return weight if over_layers == "sum" else weight / weight.sum()


def _smoothed(logits: Tensor, words: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Loss and negative log-likelihood of every word [n] from logits [n, V]."""
    logprobs = torch.log_softmax(logits, -1, dtype=torch.float32)
    nll = -logprobs.gather(1, words[:, None])[:, 0]
    if not epsilon:
        return nll, nll
    each = epsilon / (logits.shape[1] - 1)
    return (1 - epsilon - each) * nll - each * logprobs.sum(1), nll

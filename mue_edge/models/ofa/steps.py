"""What every decoder layer makes of every word of greedy captions: to train heads for exit tests on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mue_edge.models.ofa.greedy import Biases, cross_keys_values, encode, words
from mue_edge.models.ofa.model import Model
from mue_edge.models.steps import Steps


@torch.no_grad()
def steps(
    model: Model, prompt: Sequence[int], pixels: Tensor, rng: torch.Generator, max_length: int
) -> Steps:
    """Of captions of pictures [B, 3, H, W] at full decoder depth, the encoder's drawn from `rng`."""
    depth = int(torch.randint(1, model.config.encoder_layers + 1, (), generator=rng))
    encoded = encode(model, prompt, pixels, depth)
    cross = cross_keys_values(model, encoded, depth, len(prompt), model.config.decoder_layers)
    biases, parts = Biases.of(model.decoder, encoded, max_length), []
    for word in words(model.decoder, cross, biases, max_length, every_layer=True):
        two = torch.softmax(word.logits[:, :-1], -1).topk(2).values
        same = word.best[:, :-1] == word.best[:, -1:]
        parts.append(
            Steps(
                torch.cat(word.states, 1)[word.live],
                (two[..., 0] - two[..., 1])[word.live],
                same[word.live],
            )
        )
    return Steps.joined(parts)

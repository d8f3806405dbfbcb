"""What every decoder layer makes of every word of greedy captions: to train heads for exit tests on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mue_edge.models.ofa.greedy import hidden_at
from mue_edge.models.ofa.layers import KeysValues
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.outputs import EncoderOutput
from mue_edge.models.steps import Steps


@torch.no_grad()
def steps(
    model: Model, prompt: Sequence[int], pixels: Tensor, rng: torch.Generator, max_length: int
) -> Steps:
    """Of captions of pictures [B, 3, H, W] at full decoder depth, the encoder's drawn from `rng`."""
    c, decoder = model.config, model.decoder
    depth = int(torch.randint(1, c.encoder_layers + 1, (), generator=rng))
    source = torch.tensor([list(prompt)]).expand(len(pixels), -1)
    if c.decomposed:
        encoded = model.encoder.forward_decomposed(source, pixels, image_depth=depth)
    else:
        encoded = model.encoder.forward_joint(source, pixels, depth=depth)
    left = EncoderOutput(
        hidden_at(model, encoded, depth, len(prompt)), (), encoded.padding_mask, encoded.positions
    )
    layers = range(c.decoder_layers)
    cross = [decoder.cross_keys_values(i, left) for i in layers]
    own, over = decoder.self_biases(max_length), decoder.cross_bias(max_length, encoded.positions)
    mask = encoded.padding_mask[:1, None, None]
    past: list[KeysValues | None] = [None for _ in layers]
    tokens, live = torch.full((len(pixels),), c.bos), torch.ones(len(pixels), dtype=torch.bool)
    found = []
    for step in range(max_length):
        states = [decoder.embed(tokens[:, None], start=step)]
        now = slice(step, step + 1)
        for i in layers:
            y, past[i] = decoder.layer(i)(
                states[-1], past[i], own[i][:, now, : step + 1], None, cross[i], over[:, now], mask
            )
            states.append(y)
        every = torch.cat(states, 1)
        logits = decoder.project(every[:, 1:])
        logits[..., [c.pad, c.bos]] = -math.inf
        best = logits.argmax(-1)
        two = torch.softmax(logits[:, :-1], -1).topk(2).values
        same = best[:, :-1] == best[:, -1:]
        found.append(Steps(every[live], (two[..., 0] - two[..., 1])[live], same[live]))
        tokens = best[:, -1]
        live = live & tokens.ne(c.eos)
        if not live.any():
            break
    return Steps.joined(found)

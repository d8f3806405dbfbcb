"""OFA's `mue_edge.models.family.Judging`, where the functions are described."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mue_edge.models.family import Ids
from mue_edge.models.ofa import entail
from mue_edge.models.ofa.entail import Encoded
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.outputs import EncoderOutput
from mue_edge.models.steps import Steps


def logits(model: Model, answers: Sequence[int], states: Tensor) -> Tensor:
    weight = model.decoder.projection_weight[list(answers)]
    return nn.functional.linear(model.decoder.layer_norm(states), weight)


@torch.no_grad()
def steps(
    model: Model, answers: Sequence[int], pixels: Tensor, sources: Ids, fed: Ids, rng: torch.Generator
) -> Steps:
    image, text = torch.randint(1, model.config.encoder_layers + 1, (2,), generator=rng).tolist()
    words = _padded(sources, model.config.pad)
    read = _left(model, _through(model, words, pixels), words.shape[1], image, text)
    states = entail.last_states(model.decoder, read, fed)
    found = logits(model, answers, states[1:]).transpose(0, 1)
    two = torch.softmax(found[:, :-1], -1).topk(2).values
    best = found.argmax(-1)
    return Steps(states.transpose(0, 1), two[..., 0] - two[..., 1], best[:, :-1] == best[:, -1:])


@torch.no_grad()
def by_encoder_depth(model: Model, answers: Sequence[int], pixels: Tensor, sources: Ids, fed: Ids) -> Tensor:
    words, layers, found = _padded(sources, model.config.pad), model.config.encoder_layers, []
    encoded = _through(model, words, pixels)
    for depth in range(1, layers + 1):
        read = _left(model, encoded, words.shape[1], depth, layers)
        states = entail.last_states(model.decoder, read, fed)
        found.append(logits(model, answers, states[-1]).argmax(-1))
    return torch.stack(found)


def _padded(sources: Ids, pad: int) -> Tensor:
    longest = max(map(len, sources))
    return torch.tensor([[*row, *[pad] * (longest - len(row))] for row in sources])


def _through(model: Model, words: Tensor, pixels: Tensor) -> EncoderOutput:
    if model.config.decomposed:
        return model.encoder.forward_decomposed(words, pixels)
    return model.encoder.forward_joint(words, pixels)


def _left(model: Model, encoded: EncoderOutput, words: int, image: int, text: int) -> Encoded:
    """What the decoder reads when the picture has left after `image` layers, the text after `text`; a joint
    encoder leaves with the picture."""
    states = model.encoder.layer_norm(encoded.layers[image])
    said = encoded.layers[text if model.config.decomposed else image][:, -words:]
    return Encoded(
        states[:, :-words], model.encoder.layer_norm(said), encoded.padding_mask[:, -words:],
        torch.arange(len(states)), encoded.positions[:1],
    )  # fmt: skip

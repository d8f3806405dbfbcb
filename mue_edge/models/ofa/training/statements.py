"""OFA's `mue_edge.models.family.Judging`, where the functions are described.

The decoder is fed a prompt (bos, or all of the source text, OFA's `prev_output`) and answers with the word
after it. Shapes: N pictures, B statements, P patches, T words, d = encoder_dim, C answers, L decoder layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mue_edge.models.family import Ids
from mue_edge.models.heads import Steps
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.network.decoder import Decoder
from mue_edge.models.ofa.network.outputs import EncoderOutput, padded


@dataclass(frozen=True)
class EncodedStatements:
    """Final states of pictures [N, P, d] and statements [B, T, d], where those are padding [B, T], which
    picture each is about [B], and normalised position vectors [1, P + T, d]."""

    image: Tensor
    text: Tensor
    padding: Tensor
    of: Tensor
    positions: Tensor


def logits(model: Model, answers: Sequence[int], states: Tensor) -> Tensor:
    weight = model.decoder.projection_weight[list(answers)]
    return nn.functional.linear(model.decoder.layer_norm(states), weight)


@torch.no_grad()
def steps(model: Model, answers: Sequence[int], pixels: Tensor, sources: Ids, fed: Ids, rng: torch.Generator) -> Steps:
    image, text = torch.randint(1, model.config.encoder_layers + 1, (2,), generator=rng).tolist()
    words = padded(sources, model.config.pad)
    exited = _exited(model, model.encoder.encode(words, pixels, depths={}), words.shape[1], image, text)
    states = last_states(model.decoder, exited, fed)
    return Steps.of(states.transpose(0, 1), logits(model, answers, states[1:]).transpose(0, 1))


@torch.no_grad()
def by_encoder_depth(model: Model, answers: Sequence[int], pixels: Tensor, sources: Ids, fed: Ids) -> Tensor:
    words, layers, best = padded(sources, model.config.pad), model.config.encoder_layers, []
    encoded = model.encoder.encode(words, pixels, depths={})
    for depth in range(1, layers + 1):
        states = last_states(model.decoder, _exited(model, encoded, words.shape[1], depth, layers), fed)
        best.append(logits(model, answers, states[-1]).argmax(-1))
    return torch.stack(best)


def _exited(model: Model, encoded: EncoderOutput, words: int, image: int, text: int) -> EncodedStatements:
    """What the decoder reads when the picture has exited after `image` layers, the text after `text`; a joint
    encoder exits with the picture."""
    norm, last = model.encoder.layer_norm, text if model.config.decomposed else image
    return EncodedStatements(
        norm(encoded.layers[image])[:, :-words],
        norm(encoded.layers[last][:, -words:]),
        encoded.padding_mask[:, -words:],
        torch.arange(len(encoded.hidden)),
        encoded.positions[:1],
    )


def last_states(decoder: Decoder, encoded: EncodedStatements, prompts: Ids) -> Tensor:
    """The state of each prompt's last word after 0, 1, … L layers: [L + 1, B, d]."""
    order = torch.tensor([len(prompt) for prompt in prompts]).argsort()
    # Parts of like length: short prompts do not pay for the padding of long ones.
    states = torch.cat([_last_states(decoder, encoded, rows, prompts) for rows in order.chunk(3)], 1)
    return states[:, order.argsort()]


def _last_states(decoder: Decoder, encoded: EncodedStatements, rows: Tensor, prompts: Ids) -> Tensor:
    """Of some statements: [L + 1, b, d]."""
    fed = [prompts[row] for row in rows.tolist()]
    words = padded(fed, decoder.config.pad)
    length = words.shape[1]
    width = int((~encoded.padding[rows]).sum(1).max())
    text, of = encoded.text[rows, :width], encoded.of[rows]
    patches, used = encoded.image.shape[1], torch.tensor(sorted(set(of.tolist())))
    image, of = encoded.image[used], torch.searchsorted(used, of)
    mask = torch.cat([torch.zeros(len(rows), patches, dtype=torch.bool), encoded.padding[rows, :width]], 1)
    own = decoder.self_biases(length)
    over = decoder.cross_bias(length, encoded.positions[:, : patches + width])
    # Nothing looks to the right, so padding there needs no mask of its own.
    causal = torch.ones(length, length, dtype=torch.bool).triu(1)
    x, ends = decoder.embed(words), (torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in fed]))
    states = [x[ends]]
    for i, bias in enumerate(own):
        layer = decoder.layer(i)
        # A picture's keys and values are made once for all statements about it.
        image_kv, text_kv = (layer.encoder_attn.keys_values(part) for part in (image, text))
        keys, values = (torch.cat([picture[of], words], 2) for picture, words in zip(image_kv, text_kv))
        x, _ = layer(x, None, bias, causal, (keys, values), over, mask[:, None, None])
        states.append(x[ends])
    return torch.stack(states)

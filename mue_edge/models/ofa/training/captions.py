"""OFA's `mue_edge.models.family.Training`, where the functions are described."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mue_edge.errors import InputFileError, UsageError
from mue_edge.inputs import tokens as words
from mue_edge.inputs.tokens import Tokenizer
from mue_edge.models.heads import Heads
from mue_edge.models.ofa import prompts
from mue_edge.models.ofa.config import from_json
from mue_edge.models.ofa.decoding.greedy import greedy as greedy
from mue_edge.models.ofa.decoding.greedy import greedy_by_depth as greedy_by_depth
from mue_edge.models.ofa.decoding.greedy import steps as steps
from mue_edge.models.ofa.importing import tokenizer
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.network.decoder import Decoder


def fresh(config: dict[str, Any], vocabulary: Path) -> tuple[Model, Tokenizer, dict[str, Any]]:
    """An untrained model; without `vocab_size` in the configuration, it is the vocabulary's."""
    if vocabulary.is_dir():
        pieces, _ = tokenizer.read(vocabulary, from_json(config).vocab_size)
    else:
        pieces = words.load(vocabulary)
        config = {"vocab_size": len(pieces.pieces)} | config
    shape = from_json(config)
    if len(pieces.pieces) != shape.vocab_size:
        raise InputFileError(f"{vocabulary} has {len(pieces.pieces)} pieces, the configuration {shape.vocab_size}")
    if (pieces.bos, pieces.pad, pieces.eos, pieces.unk) != (shape.bos, shape.pad, shape.eos, shape.unk):
        raise InputFileError(f"{vocabulary} and the configuration differ in bos, pad, eos or unk")
    texts = prompts.make("caption", shape, pieces)
    assert texts is not None  # there is a tokenizer
    return Model(shape), pieces, texts


def with_encoder(config: dict[str, Any], decomposed: bool) -> dict[str, Any]:
    return config | {"decomposed": decomposed}


def sample_depths(layers: int, share: float, rng: torch.Generator) -> tuple[int, int]:
    """Encoder layers for the image and for the prompt: all, or, in a share of the steps, drawn evenly."""
    if torch.rand((), generator=rng) >= share:
        return layers, layers
    image, text = torch.randint(1, layers + 1, (2,), generator=rng).tolist()
    return image, text


def loss(
    model: Model,
    prompt: Sequence[int],
    pixels: Tensor,
    tokens: Tensor,
    *,
    shallow: float = 0.0,
    rng: torch.Generator | None = None,
    label_smoothing: float = 0.0,
    over_layers: Literal["sum", "mean"] = "sum",
) -> tuple[Tensor, Tensor]:
    source, depths = torch.tensor([list(prompt)]), {}
    if rng is not None:
        image, text = sample_depths(model.config.encoder_layers, shallow, rng)
        depths = {"image": image, "text": text, "encoder": image}
    if not model.config.decomposed:  # else the prompt never sees the picture, so that it runs once a batch
        source = source.expand(len(pixels), -1)
    encoded = model.encoder.encode(source, pixels, depths=depths)
    states = model.decoder.hidden_states(tokens[:, :-1], encoded)[1:]
    by_layer = layerwise_loss(model.decoder, states, tokens[:, 1:], label_smoothing)
    weights = torch.ones(len(by_layer)) / (len(by_layer) if over_layers == "mean" else 1)
    return by_layer @ weights, by_layer.detach()


def layerwise_loss(decoder: Decoder, states: Sequence[Tensor], target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """MuE's loss: every decoder layer learns to predict the words through the one shared head.

    Cross-entropy [N] (nats, summed over words) of N layers' states [B, L, d] against the next words [B, L],
    whose padding does not count. The authors take the sum over layers, the slides their mean.
    Raises UsageError for a target of padding only.
    """
    live = target.ne(decoder.config.pad)
    words = target[live]
    if not len(words):
        raise UsageError("no word is left to learn from: the batch holds padding only")
    return torch.stack([_smoothed(decoder.project(s[live]), words, label_smoothing).sum() for s in states])


def _smoothed(logits: Tensor, words: Tensor, epsilon: float) -> Tensor:
    """Loss of every word [n] from logits [n, V]; smoothing spreads `epsilon` evenly over the other V - 1
    words, as in OFA's criterion."""
    logprobs = torch.log_softmax(logits, -1, dtype=torch.float32)
    nll = -logprobs.gather(1, words[:, None])[:, 0]
    if not epsilon:
        return nll
    each = epsilon / (logits.shape[1] - 1)
    return (1 - epsilon - each) * nll - each * logprobs.sum(1)


def heads(model: Model) -> Heads:
    return model.heads


def logits(model: Model, states: Tensor) -> Tensor:
    never = torch.tensor([model.config.pad, model.config.bos])
    projected = model.decoder.project(states)
    return projected + torch.zeros(projected.shape[-1]).index_fill(0, never, -torch.inf)


@torch.no_grad()
def features(model: Model, pixels: Tensor) -> Tensor:
    x, _ = model.encoder.embed_patches(pixels)
    return x.mean(1)


def see(model: Model, pixels: Tensor) -> None:
    model.encoder.embed_images(pixels)

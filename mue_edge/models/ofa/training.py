"""OFA's `mue_edge.models.family.Training`, where the functions are described."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mue_edge.errors import InputFileError
from mue_edge.inputs import tokens as words
from mue_edge.inputs.tokens import Tokenizer
from mue_edge.models.heads import Heads
from mue_edge.models.ofa import prompts
from mue_edge.models.ofa.config import from_json
from mue_edge.models.ofa.greedy import greedy, greedy_by_depth
from mue_edge.models.ofa.importing import tokenizer
from mue_edge.models.ofa.loss import layerwise_loss
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.objective import Depths, encode, sample_depths
from mue_edge.models.ofa.steps import steps

__all__ = [
    "features",
    "fresh",
    "greedy",
    "greedy_by_depth",
    "heads",
    "logits",
    "loss",
    "see",
    "steps",
    "with_encoder",
]  # fmt: skip


def fresh(config: dict[str, Any], vocabulary: Path) -> tuple[Model, Tokenizer, dict[str, Any]]:
    """An untrained model; without `vocab_size` in the configuration, it is the vocabulary's."""
    if vocabulary.is_dir():
        made, _ = tokenizer.read(vocabulary, from_json(config).vocab_size)
    else:
        made = words.load(vocabulary)
        config = {"vocab_size": len(made.pieces)} | config
    shape = from_json(config)
    if len(made.pieces) != shape.vocab_size:
        raise InputFileError(
            f"{vocabulary} has {len(made.pieces)} pieces, the configuration {shape.vocab_size}"
        )
    if (made.bos, made.pad, made.eos, made.unk) != (shape.bos, shape.pad, shape.eos, shape.unk):
        raise InputFileError(f"{vocabulary} and the configuration differ in bos, pad, eos or unk")
    texts = prompts.make("caption", shape, made)
    assert texts is not None  # there is a tokenizer
    return Model(shape), made, texts


def with_encoder(config: dict[str, Any], decomposed: bool) -> dict[str, Any]:
    return config | {"decomposed": decomposed}


def loss(
    model: Model, prompt: Sequence[int], pixels: Tensor, tokens: Tensor, *,
    shallow: float = 0.0, rng: torch.Generator | None = None,
    label_smoothing: float = 0.0, over_layers: Literal["sum", "mean"] = "sum",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    layers = model.config.encoder_layers
    depth = sample_depths(layers, shallow, rng) if rng is not None else Depths(layers, layers)
    source = torch.tensor([list(prompt)])
    if model.config.decomposed:
        encoded, _ = encode(model, source, pixels, depth)
    else:
        encoded = model.encoder.forward_joint(source.expand(len(pixels), -1), pixels, depth=depth.image)
    states = model.decoder.hidden_states(tokens[:, :-1], encoded)[1:]
    found = layerwise_loss(
        model.decoder, states, tokens[:, 1:], label_smoothing=label_smoothing, over_layers=over_layers
    )
    return found.loss, found.by_layer


def heads(model: Model) -> Heads:
    return model.heads


def logits(model: Model, states: Tensor) -> Tensor:
    never = torch.tensor([model.config.pad, model.config.bos])
    found = model.decoder.project(states)
    return found + torch.zeros(found.shape[-1]).index_fill(0, never, -torch.inf)


@torch.no_grad()
def features(model: Model, pixels: Tensor) -> Tensor:
    x, _ = model.encoder.embed_patches(pixels)
    return x.mean(1)


def see(model: Model, pixels: Tensor) -> None:
    model.encoder.embed_images(pixels)

"""The entailment model: the captioner's encoder as it is, and a decoder that learns to answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mue_edge import models
from mue_edge.apps.stickers import model_folder as captioner_folder
from mue_edge.apps.stickers.dataset import Stickers
from mue_edge.errors import UsageError
from mue_edge.inputs import statements, tokens
from mue_edge.inputs.statements import clean
from mue_edge.inputs.tokens import Tokenizer
from mue_edge.models.ofa import prompts
from mue_edge.models.ofa.config import OFAConfig
from mue_edge.models.ofa.model import Model, load
from tools.entailment.rules import LABELS
from tools.stickers import train
from tools.stickers.vocabulary import sticker_tokenizer

FEEDS = ("statement", "prev_output", "bos")
TEXT_LENGTH = 32  # of the longest name in its prompt, and a little more


def tokenizer_of(data: Stickers, cache: Path) -> Tokenizer:
    """Of all captions, in the prompt of entailment, and of the answers."""
    captions = sorted({record.caption for record in data.records})
    asked = [prompts.ENTAIL.format(hypothesis=clean(caption)) for caption in captions]
    return sticker_tokenizer(captions, cache, [*asked, *prompts.ANSWERS])


def from_captioner(tokenizer: Tokenizer, layers: int | None, seed: int) -> Model:
    """The captioner with another vocabulary and its first decoder layers (None: all), the rest frozen, in
    eval mode.

    Pieces that it lacks get random rows as long as the others: the decoder learns to tell them apart.
    """
    base = load(captioner_folder(), models.read_config(captioner_folder()))
    known = {piece: i for i, piece in enumerate(tokens.load(captioner_folder() / "tokenizer.json").pieces)}
    torch.manual_seed(seed)
    model = Model(replace(_shorter(base.config, layers), vocab_size=len(tokenizer.pieces)))
    wanted = model.state_dict()
    weights = {key: value for key, value in base.state_dict().items() if key in wanted}
    for key, value in wanted.items():
        if value.shape != weights[key].shape:  # the embedding, which all share
            old = weights[key]
            new = torch.randn_like(value) * old.std(0) + old.mean(0)
            for row, piece in enumerate(tokenizer.pieces):
                if piece in known:
                    new[row] = old[known[piece]]
            weights[key] = new
    model.load_state_dict(weights)
    model.requires_grad_(False)
    model.decoder.requires_grad_(True)
    return model.eval()


def cut(folder: Path, layers: int | None) -> Model:
    """A model of the task with its first decoder layers (None: all), the rest frozen, in eval mode."""
    whole = load(folder, models.read_config(folder))
    model = Model(_shorter(whole.config, layers))
    model.load_state_dict({key: value for key, value in whole.state_dict().items() if key in model.state_dict()})
    model.requires_grad_(False)
    model.decoder.requires_grad_(True)
    return model.eval()


def _shorter(config: OFAConfig, layers: int | None) -> OFAConfig:
    """Raises UsageError for more decoder layers than there are."""
    if layers is not None and layers > config.decoder_layers:
        raise UsageError(f"--layers {layers}: the model has {config.decoder_layers} decoder layers")
    return replace(config, decoder_layers=layers or config.decoder_layers)


def prompt_of(model: Model, tokenizer: Tokenizer, feed: str, names: Sequence[str]) -> dict[str, Any]:
    """The content of `prompts.json`; `feed`: what the decoder reads before it answers, one of FEEDS; names:
    what it was trained on."""
    made = prompts.make("entail", model.config, tokenizer)
    assert made is not None  # there is a tokenizer
    around = {"around": list(fed_of(tokenizer, feed))} if feed == "statement" else {}
    return {"entail": made["entail"] | {"decoder": feed, **around, "text_length": TEXT_LENGTH} | said_of(names)}


def said_of(names: Sequence[str]) -> dict[str, Any]:
    """Of `prompts.json`: what the model knows, the words of the names, and which of them have articles."""
    stems = {statements.clean(name).partition(": ")[0] for name in names}
    kept = sorted(stem for stem in stems if statements.Template("", articles_in=()).clean(stem) != stem)
    return {"knows": train.KNOWS, "articles_in": kept, "words": statements.vocabulary(names)}


def fed_of(tokenizer: Tokenizer, feed: str) -> tuple[int, ...]:
    """`feed` as `SearchSettings.fed` says it."""
    before, after = prompts.ENTAIL.split("{hypothesis}")
    around = 1 + len(tokenizer.encode(before.rstrip())), len(tokenizer.encode(after)) + 1
    return {"bos": (), "prev_output": (1, 1), "statement": around}[feed]


def answer_ids(model: Model, tokenizer: Tokenizer) -> Tensor:
    """The answers' ids, in the labels' order."""
    made = prompts.make("entail", model.config, tokenizer)
    assert made is not None
    return torch.tensor([made["entail"]["answers"][label]["ids"][0] for label in LABELS])


def source_ids(tokenizer: Tokenizer, hypothesis: str) -> list[int]:
    """A statement as the model reads it on a device: bos … eos."""
    return list(statements.source_ids(statements.Template(prompts.ENTAIL), hypothesis, tokenizer))


def write_model(model: Model, tokenizer: Tokenizer, feed: str, names: Sequence[str], folder: Path) -> None:
    """The model folder, weights in float16."""
    train.write_model(model, tokenizer, folder, prompt_of(model, tokenizer, feed, names))

"""A tiny OFA with a vocabulary of letters, and coloured pictures with their names, on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mue_edge import models
from mue_edge.inputs.tokens import Tokenizer
from mue_edge.models.ofa import prompts
from mue_edge.models.ofa.config import OFAConfig
from mue_edge.models.ofa.model import Model

NAMES = {"red": (220, 20, 20), "blue": (20, 20, 220), "green": (20, 200, 20), "white": (250, 250, 250)}


def tokenizer() -> Tokenizer:
    letters = sorted(set("whatdoestheimagedescribe?redbluegreenwhite"))
    return Tokenizer(("<s>", "<pad>", "</s>", "<unk>", "Ġ", *letters), (), frozenset(range(4)))


def configuration(decomposed: bool = True) -> OFAConfig:
    return replace(
        OFAConfig(),
        vocab_size=len(tokenizer().pieces),
        encoder_layers=2,
        decoder_layers=2,
        encoder_dim=32,
        decoder_dim=32,
        encoder_ffn=64,
        decoder_ffn=64,
        encoder_heads=2,
        decoder_heads=2,
        trunk_blocks=(1, 1, 1),
        trunk_width=8,
        image_size=32,
        orig_image_size=32,
        token_bucket_size=8,
        image_bucket_size=4,
        max_source_positions=64,
        max_target_positions=64,
        decomposed=decomposed,
    )


def model_folder(folder: Path) -> Path:
    """An untrained decomposed model."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    model = Model(configuration()).eval()
    models.write(model, folder)
    tokenizer().save(folder / "tokenizer.json")
    texts = prompts.make("caption", model.config, tokenizer())
    (folder / "prompts.json").write_text(json.dumps(texts), encoding="utf-8")
    return folder


def pictures(folder: Path, each: int = 3) -> Path:
    """Noisy pictures of one colour, and captions.csv; every picture has one caption."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = ["image,caption"]
    for name, colour in NAMES.items():
        for i in range(each):
            noise = rng.integers(-15, 6, (40, 36, 3)) + np.array(colour)
            Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(folder / f"{name}{i}.png")
            rows.append(f"{name}{i}.png,{name.title()}!")
    (folder / "captions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder

"""Trains the sticker captioner: `python -m tools.stickers.train --minutes M --out FOLDER`.

Needs the output of the recipe and of the teacher. Two processes:
`torchrun --nproc-per-node 2 -m tools.stickers.train …`; the batch is per process.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from mue_edge.apps.stickers.dataset import Stickers, default_cache, read
from mue_edge.apps.stickers.evaluation import STICKER_SCORES, names, still
from mue_edge.calibrate.metrics.quality import caption_texts, summary, tallies
from mue_edge.calibrate.training.finetune import Trainer, TrainingSettings, train
from mue_edge.files import atomic_folder
from mue_edge.inputs.tokens import Tokenizer
from mue_edge.models.ofa import prompts
from mue_edge.models.ofa.config import OFAConfig
from mue_edge.models.ofa.decoding.greedy import greedy
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.training.captions import sample_depths
from mue_edge.models.weights import save, stored_weights
from tools.stickers.batches import StickerBatches
from tools.stickers.objective import Students, losses
from tools.stickers.vocabulary import sticker_tokenizer

SHALLOW_SHARE = 0.4  # of the steps: encoder depths drawn at random, so that early exits work together
LABEL_SMOOTHING = 0.1
# The teacher's weight falls linearly from DISTIL to 0 at this share of the schedule.
DISTIL, DISTIL_UNTIL = 3.0, 0.85

MAX_LENGTH = 23
KNOWS = "emoji-like stickers only, not photos"


def configuration(
    vocab_size: int, size: int, width: int, trunk: tuple[int, int, int], decoder_layers: int
) -> OFAConfig:
    """A small OFA with MuE's decomposed encoder; 36 patches at 96 pixels, heads of 32."""
    return replace(
        OFAConfig(),
        vocab_size=vocab_size,
        encoder_dim=width,
        decoder_dim=width,
        encoder_ffn=4 * width,
        decoder_ffn=4 * width,
        encoder_heads=width // 32,
        decoder_heads=width // 32,
        decoder_layers=decoder_layers,
        trunk_blocks=trunk,
        trunk_width=32,
        image_size=size,
        orig_image_size=size,
        token_bucket_size=32,
        image_bucket_size=size // 16 + 2,
        max_source_positions=64,
        max_target_positions=64,
        decomposed=True,
    )


def objective(
    model: Model,
    students: Students,
    prompt: list[int],
    batches: StickerBatches,
    step: int,
    progress: float,
    *,
    last_layer_only: bool = False,
) -> tuple[Tensor, dict[str, float]]:
    """The loss of a step on its batch, at the encoder depths drawn for it."""
    rng = torch.Generator().manual_seed(batches.rows.seed_of(step) + 1)
    depths = sample_depths(model.config.encoder_layers, 0.0 if last_layer_only else SHALLOW_SHARE, rng)
    weight = DISTIL * max(0.0, 1 - progress / DISTIL_UNTIL)
    batch = batches(step, with_teacher=weight > 0)
    source = torch.tensor([prompt])
    return losses(
        model,
        students,
        source,
        batch,
        depths,
        label_smoothing=LABEL_SMOOTHING,
        distil=weight,
        last_layer_only=last_layer_only,
    )


def write_model(
    model: Model, tokenizer: Tokenizer, folder: Path, asked: dict[str, dict[str, Any]] | None = None
) -> None:
    """The model folder, weights in float16. asked: the content of `prompts.json`, captions' by default."""
    weights = {key: value.half().contiguous() for key, value in stored_weights(model).items()}
    asked = asked or caption_prompt(model.config, tokenizer)
    with atomic_folder(folder, "config.json") as work:
        for name, content in (("config.json", model.config.to_json()), ("prompts.json", asked)):
            (work / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        tokenizer.save(work / "tokenizer.json")
        save(weights, work / "model.safetensors")


def caption_prompt(config: OFAConfig, tokenizer: Tokenizer) -> dict[str, dict[str, Any]]:
    """The content of `prompts.json`; names of couples in two skin tones need more than OFA's 16 tokens."""
    made = prompts.make("caption", config, tokenizer)
    assert made is not None  # there is a tokenizer
    return {"caption": made["caption"] | {"max_length": MAX_LENGTH, "knows": KNOWS}}


def exact_match(model: Model, tokenizer: Tokenizer, data: Stickers, split: str, prompt: list[int]) -> float:
    """Share of a split's pictures whose greedy full-depth caption is the reference."""
    rows = data.rows(split)
    captions: list[str] = []
    for chunk in np.array_split(rows, -(-len(rows) // 64)):
        captions += caption_texts(tokenizer, greedy(model, prompt, still(data, chunk, model.config.preprocess)))
    records = [data.records[i] for i in rows]
    found = tallies(captions, [names(r, "first") for r in records], STICKER_SCORES)
    return summary(found, [r.emoji for r in records]).metrics["exact_match"].mean


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="For checkpoint, log, model.")
@click.option("--minutes", type=float, help="Wall clock of the whole schedule.")
@click.option("--steps", type=int, help="Steps of the whole schedule (instead of --minutes).")
@click.option("--batch", default=48, show_default=True, help="Pictures a step and process.")
@click.option("--rate", default=1.5e-3, show_default=True, help="Highest learning rate.")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--save-every", default=300.0, show_default=True, help="Seconds between checkpoints.")
@click.option("--width", default=192, show_default=True, help="Of encoder and decoder.")
@click.option("--trunk", type=(int, int, int), default=(1, 2, 2), show_default=True, help="Blocks a stage.")
@click.option("--decoder-layers", default=6, show_default=True)
@click.option("--last-layer-only", is_flag=True, help="No layer-wise loss, encoders always full: to compare.")
@click.option("--cache", type=click.Path(path_type=Path), help="The recipe's folder.")
def main(
    out: Path,
    minutes: float | None,
    steps: int | None,
    batch: int,
    rate: float,
    seed: int,
    threads: int,
    save_every: float,
    width: int,
    trunk: tuple[int, int, int],
    decoder_layers: int,
    last_layer_only: bool,
    cache: Path | None,
) -> None:
    """Train the sticker captioner from scratch, or go on from OUT's checkpoint."""
    torch.set_num_threads(threads)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        torch.distributed.init_process_group("gloo")
    cache = cache or default_cache()
    data = read(cache)
    tokenizer = sticker_tokenizer(sorted({r.caption for r in data.records}), cache)
    config = configuration(len(tokenizer.pieces), data.pixels.shape[1], width, trunk, decoder_layers)
    prompt = caption_prompt(config, tokenizer)["caption"]["ids"]
    batches = StickerBatches(data, tokenizer, cache, batch, seed, config.preprocess)
    torch.manual_seed(seed)
    model = Model(config)
    model.encoder.embed_images.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    students = Students(model, batches.teacher.shape[-1])
    trainer = Trainer(
        model,
        students,
        lambda step, progress: objective(
            model, students, prompt, batches, step, progress, last_layer_only=last_layer_only
        ),
        TrainingSettings(steps=steps, minutes=minutes, learning_rate=rate, save_every=save_every),
    )

    def report(trained: Trainer[Model]) -> dict[str, float]:
        def run(copy: Model) -> None:
            for pixels in batches.clean(1024):
                copy.encoder.embed_images(pixels)

        averaged = trained.averaged(run)
        write_model(averaged, tokenizer, out / "model")
        return {"val_render exact match": exact_match(averaged, tokenizer, data, "val_render", prompt)}

    train(trainer, out, report)


if __name__ == "__main__":
    main()

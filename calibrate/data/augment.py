"""Cheap augmentation of picture batches: moves, warps, grounds, changes of colour and line, hidden patches.

No mirroring: captions say left and right. All randomness comes from the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def moves(count: int, rng: torch.Generator) -> Tensor:
    """Random affine moves [count, 2, 3], output to input coordinates in [-1, 1], for `place`.

    Scale 0.8 to 1.1 (aspect within 8 %), shift up to 8 % of the side, turn up to 10 degrees.
    """
    draw = torch.rand(5, count, generator=rng) * 2 - 1
    scale = 0.95 + 0.15 * draw[0]
    turn = draw[1] * (torch.pi / 18)
    wide, high = 1 / (scale * (1 + 0.04 * draw[2])), 1 / (scale * (1 - 0.04 * draw[2]))
    rows = [
        torch.stack([wide * turn.cos(), -wide * turn.sin(), 0.16 * draw[3]], 1),
        torch.stack([high * turn.sin(), high * turn.cos(), 0.16 * draw[4]], 1),
    ]
    return torch.stack(rows, 1)


def warps(count: int, side: int, rng: torch.Generator, share: float = 0.5) -> Tensor:
    """Smooth displacements [count, side, side, 2] for `place`; a `share` of them is not zero.

    About 2 % of the side (standard deviation) at the 5 by 5 points between which they run smoothly.
    """
    points = 0.04 * torch.randn(count, 2, 5, 5, generator=rng)
    points = points * (torch.rand(count, 1, 1, 1, generator=rng) < share)
    smooth = F.interpolate(points, size=(side, side), mode="bicubic", align_corners=True)
    return smooth.permute(0, 2, 3, 1)


def place(pictures: Tensor, move: Tensor | None, warp: Tensor | None = None) -> Tensor:
    """uint8 RGBA [B, H, W, 4] → float [B, 4, H, W] in 0 … 1, colour times alpha, moved and warped."""
    x = pictures.permute(0, 3, 1, 2).float() / 255
    x = torch.cat([x[:, :3] * x[:, 3:], x[:, 3:]], 1)
    if move is None:
        return x
    grid = F.affine_grid(move, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid if warp is None else grid + warp, align_corners=False)


def on_ground(x: Tensor, ground: Tensor | float = 1.0) -> Tensor:
    """Premultiplied RGBA [B, 4, H, W] on a ground colour (1 = white, or [B, 3, 1, 1]) → RGB [B, 3, H, W]."""
    return x[:, :3] + (1 - x[:, 3:]) * ground


def grounds(count: int, rng: torch.Generator) -> Tensor:
    """White for about half of the samples, else a random light colour: [count, 3, 1, 1]."""
    light = 0.75 + 0.25 * torch.rand(count, 3, generator=rng)
    white = torch.rand(count, 1, generator=rng) < 0.5
    return torch.where(white, torch.ones(()), light)[:, :, None, None]


def recolour(rgb: Tensor, rng: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation and channel gains changed by a few per cent; result in 0 … 1."""
    draw = torch.rand(len(rgb), 6, generator=rng) * 2 - 1
    contrast, saturation, brightness = (draw[:, k, None, None, None] for k in range(3))
    grey = rgb.mean(1, keepdim=True)
    x = grey + (rgb - grey) * (1 + 0.2 * saturation)
    x = 0.5 + (x - 0.5) * (1 + 0.1 * contrast) + 0.05 * brightness
    return (x * (1 + 0.04 * draw[:, 3:, None, None])).clamp(0, 1)


_STROKES: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda rgb: F.max_pool2d(rgb, 3, 1, 1),
    lambda rgb: -F.max_pool2d(-rgb, 3, 1, 1),
    lambda rgb: F.avg_pool2d(rgb, 3, 1, 1, count_include_pad=False),
)


def redraw(rgb: Tensor, rng: torch.Generator) -> Tensor:
    """Another hand: in a third of the samples lines grow thicker or thinner or edges soft.

    Maxima, minima or means over 3 by 3 pixels, mixed in by a random weight. Colours stay: captions may
    tell skin tones apart.
    """
    kind = torch.randint(0, 9, (len(rgb),), generator=rng)
    weight = torch.rand(len(rgb), 1, 1, 1, generator=rng)
    out = rgb.clone()
    for number, change in enumerate(_STROKES):
        rows = (kind == number).nonzero()[:, 0]
        if len(rows):
            out[rows] = torch.lerp(rgb[rows], change(rgb[rows]), weight[rows])
    return out


def hide(rgb: Tensor, rng: torch.Generator, share: float = 0.3) -> Tensor:
    """In a share of the samples, one rectangle of up to 35 % of each side becomes grey."""
    n, _, height, width = rgb.shape
    draw = torch.rand(n, 5, generator=rng)
    rows, columns = torch.arange(height) / height, torch.arange(width) / width
    high, wide = 0.15 + 0.2 * draw[:, 0:1], 0.15 + 0.2 * draw[:, 1:2]
    top, left = draw[:, 2:3] * (1 - high), draw[:, 3:4] * (1 - wide)
    down = (rows >= top) & (rows < top + high)
    across = (columns >= left) & (columns < left + wide)
    box = down[:, None, :, None] & across[:, None, None, :] & (draw[:, 4] < share)[:, None, None, None]
    return rgb.masked_fill(box, 0.5)


def normalise(rgb: Tensor, mean: float | Sequence[float] = 0.5, std: float | Sequence[float] = 0.5) -> Tensor:
    """[B, 3, H, W] in 0 … 1 as a model takes it; mean and std by channel or for all."""
    shift, scale = (torch.tensor(x).view(-1, 1, 1) for x in (mean, std))
    return (rgb - shift) / scale

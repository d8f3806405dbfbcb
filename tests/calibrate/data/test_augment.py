"""Augmentation: grounds, moves, ranges, repeatability."""

from __future__ import annotations

import torch

from mue_edge.calibrate.data.augment import grounds, hide, moves, normalise, on_ground, place, recolour, redraw, warps


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _pictures(count: int = 3) -> torch.Tensor:
    """A red square in the upper left quarter, transparent elsewhere."""
    pictures = torch.zeros(count, 32, 32, 4, dtype=torch.uint8)
    pictures[:, 4:14, 4:14] = torch.tensor([255, 0, 0, 255], dtype=torch.uint8)
    return pictures


def test_transparent_becomes_ground() -> None:
    rgb = on_ground(place(_pictures(), None))
    assert torch.equal(rgb[0, :, 20, 20], torch.ones(3))
    assert torch.equal(rgb[0, :, 8, 8], torch.tensor([1.0, 0.0, 0.0]))
    ground = grounds(200, _rng())
    assert float(ground.min()) >= 0.75
    assert 0.3 < float((ground == 1).all(1).float().mean()) < 0.7


def test_the_identity_moves_nothing_and_moves_never_mirror() -> None:
    same = torch.eye(3)[:2].expand(3, 2, 3)
    assert torch.allclose(place(_pictures(), same), place(_pictures(), None), atol=1e-5)
    move = moves(300, _rng())
    assert float(torch.linalg.det(move[:, :, :2]).min()) > 0
    x = on_ground(place(_pictures(300), move))
    red = x[:, 0] - x[:, 1]
    assert float(red[:, :16, :16].sum((1, 2)).min()) > float(red[:, 16:, 16:].sum((1, 2)).max())


def test_colours_stay_in_range_and_near() -> None:
    rgb = torch.rand(50, 3, 8, 8, generator=_rng())
    changed = recolour(rgb, _rng(1))
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1
    assert 0 < float((changed - rgb).abs().mean()) < 0.1


def test_values_of_0_to_1_become_a_models_input() -> None:
    rgb = torch.rand(4, 3, 8, 8, generator=_rng())
    assert torch.equal(normalise(rgb), rgb * 2 - 1)
    made = normalise(rgb, (0.5, 0.25, 0.0), (0.5, 1.0, 2.0))
    assert torch.equal(made, torch.stack([rgb[:, 0] * 2 - 1, rgb[:, 1] - 0.25, rgb[:, 2] / 2], 1))


def test_only_a_share_loses_a_patch() -> None:
    rgb = torch.ones(400, 3, 16, 16)
    hidden = hide(rgb, _rng(), share=0.3) != 1
    assert 0.2 < float(hidden.flatten(1).any(1).float().mean()) < 0.4
    assert float(hidden.float().mean((1, 2, 3)).max()) < 0.25


def test_one_seed_one_result() -> None:
    a, b = moves(5, _rng(3)), moves(5, _rng(3))
    assert torch.equal(a, b)
    assert not torch.equal(a, moves(5, _rng(4)))


def test_warps_are_smooth_small_and_of_a_share() -> None:
    warp = warps(200, 32, _rng(), share=0.5)
    moved = warp.flatten(1).abs().sum(1) > 0
    assert 0.4 < float(moved.float().mean()) < 0.6
    assert 0.02 < float(warp[moved].std()) < 0.06
    assert float((warp[:, 1:] - warp[:, :-1]).abs().max()) < 0.08
    same = torch.eye(3)[:2].expand(3, 2, 3)
    pictures = _pictures()
    assert torch.allclose(place(pictures, same, torch.zeros(3, 32, 32, 2)), place(pictures, None), atol=1e-5)
    assert not torch.allclose(place(pictures, same, warp[moved][:3]), place(pictures, None), atol=1e-2)


def test_redrawn_lines_stay_in_range_and_some_pictures_keep_theirs() -> None:
    rgb = torch.ones(400, 3, 16, 16)
    rgb[:, :, 8] = 0
    drawn = redraw(rgb, _rng())
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) <= 1
    dark = (drawn[:, 0, :, 8] < 0.5).sum(1)
    assert {int(n) for n in dark.unique()} >= {0, 1, 3}
    assert 0.5 < float((dark == 1).float().mean()) < 0.9

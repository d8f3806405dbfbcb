"""How training pictures are joined."""

from __future__ import annotations

import torch

from tools.stickers.batches import halves


def test_halves_take_from_both_pictures_along_a_line() -> None:
    one, other = torch.zeros(50, 3, 16, 16), torch.ones(50, 3, 16, 16)
    both = halves(one, other, torch.Generator().manual_seed(0))
    assert set(both.unique().tolist()) == {0.0, 1.0}
    share = both.mean((1, 2, 3))
    assert float(share.min()) > 0.1
    assert float(share.max()) < 0.9
    changes = (both[:, 0, :, 1:] != both[:, 0, :, :-1]).sum(2)
    assert int(changes.max()) == 1

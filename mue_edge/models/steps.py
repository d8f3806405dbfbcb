"""What every decoder layer makes of every word: what heads for exit tests are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Steps:
    """N words of captions: states [N, L + 1, d] after 0, 1, … L decoder layers; of each layer but the last
    [N, L − 1] by how much its best word is likelier than its second, and whether it is the last layer's."""

    states: Tensor
    margin: Tensor
    same: Tensor

    @staticmethod
    def joined(parts: Sequence[Steps]) -> Steps:
        return Steps(*(torch.cat([getattr(p, name) for p in parts]) for name in ("states", "margin", "same")))

"""What goes into the network, and from the encoder to the decoder.

Shapes: B samples, P patches, T words, S = P + T."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


def padded(rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    """Token ids as int64 [rows, longest], padded on the right."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])


@dataclass(frozen=True)
class EncoderOutput:
    """What the decoder reads, and how it came about.

    hidden: [B, S, d] after the final norm.
    layers: the residual stream [B, S, d] after 0, 1, … all layers; after an exit, its last state.
    padding_mask: boolean [B, S], true = padding.
    positions: normalised position vectors [B, S, d]; the same for every sample.
    scores: modality ("image" and "text", or "encoder") → for each sample the exit score after layers
        1, 2, … that it ran; empty where no exits were tested.
    exits: modality → for each sample the number of layers that it ran.
    """

    hidden: Tensor
    layers: tuple[Tensor, ...]
    padding_mask: Tensor
    positions: Tensor
    scores: dict[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    exits: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def rows(self, index: Tensor) -> EncoderOutput:
        """The output of the samples `index` (int64 [R]), in that order; repeats are allowed."""
        chosen = index.tolist()
        return EncoderOutput(
            self.hidden[index],
            tuple(layer[index] for layer in self.layers),
            self.padding_mask[index],
            self.positions[index],
            {name: tuple(values[i] for i in chosen) for name, values in self.scores.items()},
            {name: tuple(values[i] for i in chosen) for name, values in self.exits.items()},
        )

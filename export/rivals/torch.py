"""PyTorch without compilation, in float32: the network's own modules, with cached keys and values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mue_edge.arrays import Floats
from mue_edge.export.rivals.job import RivalJob


class TorchRival:
    settings = "eager, float32, inference mode"

    def __init__(self, job: RivalJob) -> None:
        torch.set_num_threads(job.threads)
        self._pieces = job.pieces()
        example = self._pieces[2].inputs
        self._empty = [x[:, :, :0] for name, x in example.items() if name.startswith("past_")]
        self._parents = "parents" in example
        self._encoded: Sequence[Tensor] = ()
        self._past = self._empty

    @torch.inference_mode()
    def stem(self, pixels: Floats) -> object:
        return self._pieces[0].module(torch.from_numpy(pixels))

    @torch.inference_mode()
    def encode(self, pixels: Floats) -> None:
        self._encoded, self._past = self._pieces[1].module(torch.from_numpy(pixels)), self._empty

    @torch.inference_mode()
    def step(self, ids: Sequence[int], parents: Sequence[int]) -> Floats:
        rows = [torch.tensor(parents)] if self._parents else []
        logits, *self._past = self._pieces[2].module(torch.tensor(ids), *rows, *self._encoded, *self._past)
        own: Floats = logits.numpy()
        return own


RIVAL = TorchRival

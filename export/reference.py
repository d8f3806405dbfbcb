"""The cut run by torch: the reference that exported segments are compared with.

Follows the same requests as every device, on the segment modules before conversion.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mue_edge.loop.protocol import DECODER, HEAD_PORTS, Answer, Request
from mue_edge.models.cut import Cut, Table


class TorchRuntime:
    """A cut as a runtime; see `driver.Runtime`."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self._pieces = {piece.name: piece for piece in cut.pieces}
        self._buffers: dict[str, Tensor] = {}
        constants = {name: torch.from_numpy(value) for name, value in cut.constants.items()}
        tables = {name: expand(table) for name, table in cut.tables.items()}
        self._constants = constants | tables

    def set_pixels(self, pixels: object) -> None:
        """float32 [1, 3, H, W]."""
        self._buffers["pixels"] = torch.as_tensor(np.asarray(pixels, np.float32))

    def set_source(self, ids: Sequence[int]) -> None:
        """The ids of the source text. Its padding is hidden: as in the devices' code, but apart from it."""
        words = self._pieces[self.cut.layout.text_stem].inputs["ids"].shape[0]
        live = torch.arange(words) < len(ids)
        hidden = torch.where(live, 0.0, -1e4)
        self._buffers["source_ids"] = torch.tensor([*ids, *[1] * (words - len(ids))])
        self._buffers["source_live"] = live.float()[None, :, None]
        for name, value in self.cut.constants.items():
            if name.startswith("text_bias."):
                self._buffers[name] = torch.from_numpy(value) + hidden
        cross = torch.from_numpy(self.cut.constants["cross_bias"])
        self._constants["cross_bias"] = cross + F.pad(hidden, (cross.shape[2] - words, 0))

    @torch.no_grad()
    def execute(self, request: Request) -> Answer:
        """Run one segment."""
        piece = self._pieces[request.run]
        if request.position is not None:
            self._place(request)
        if request.run == "head" and request.store:
            kept = request.store[0]
            self._rows_into(kept.buffer, kept.rows, self._buffers[kept.port])
        inputs = {port: self._input(piece.inputs[port], buffer) for port, buffer in request.inputs.items()}
        if request.ids:
            inputs["ids"] = torch.tensor(request.ids)
        if request.gather:
            chunk = torch.zeros_like(piece.inputs["x"])
            chunk[: len(request.gather)] = self._buffers[request.inputs["x"]][list(request.gather)]
            inputs["x"] = chunk
        out = piece.module.eval()(*(inputs[port] for port in piece.inputs))
        results = dict(zip(piece.outputs, out if isinstance(out, tuple) else (out,)))
        for port, buffer in request.outputs.items():
            self._buffers[buffer] = results[port]
        for store in request.store:
            if store.port == "kv_rows":
                rows = results["kv_rows"][:, : len(store.rows)]
                self._slots(store.buffer)[:, :, list(store.rows)] = rows.transpose(1, 2)
        return self._answer(request, results)

    def close(self) -> None:
        """Drop the buffers."""
        self._buffers.clear()

    def _answer(self, request: Request, results: dict[str, Tensor]) -> Answer:
        now = time.perf_counter()
        if request.read == HEAD_PORTS:
            ids, values, total, eos = (results[port] for port in HEAD_PORTS)
            rows = zip(ids.tolist(), (values - total[:, None]).tolist(), (eos - total).tolist())
            return Answer(candidates=list(rows), now=now)
        return Answer({port: results[port].tolist() for port in request.read}, now=now)

    def _input(self, example: Tensor, name: str) -> Tensor:
        constant = name.partition("constant:")[2]
        if constant:
            return self._constants[constant]
        return self._buffers.get(name, example)

    def _slots(self, name: str) -> Tensor:
        if name not in self._buffers:
            segment = f"{DECODER}.{name.partition('.')[2]}"
            self._buffers[name] = torch.zeros_like(self._pieces[segment].inputs["slots"])
        return self._buffers[name]

    def _rows_into(self, name: str, rows: tuple[int, ...], values: Tensor) -> None:
        if name not in self._buffers:
            self._buffers[name] = torch.zeros(self.cut.layout.slots, values.shape[1])
        self._buffers[name][list(rows)] = values

    def _place(self, request: Request) -> None:
        """The step's biases; written plainly and apart from the devices' code, to check that."""
        assert request.position is not None
        step, segment = request.position.step, request.run.partition(".")[2]
        table = self._constants[f"self_bias.{segment}"]
        if request.position.together:
            self._place_together(request, table)
            return
        layout = self.cut.layout
        slot = torch.full((*table.shape[:2], layout.rows, layout.slots), -1e9)
        own = torch.full((*table.shape[:2], layout.rows, layout.rows), -1e9)
        for row, ancestors in enumerate(request.position.ancestry):
            for position, where in enumerate(ancestors):
                slot[:, :, row, where] = table[:, :, step, position]
        for row in range(layout.rows):
            own[:, :, row, row] = table[:, :, step, step]
        cross = self._constants["cross_bias"][step][:, None].expand(-1, layout.rows, -1)
        self._slots(request.inputs["slots"])
        for port, value in (("slot_bias", slot), ("own_bias", own), ("cross_bias", cross)):
            self._buffers[request.inputs[port]] = value

    def _place_together(self, request: Request, table: Tensor) -> None:
        """Row i is of step + i; it sees the slots before `step`, the rows before it and itself."""
        assert request.position is not None
        step, rows = request.position.step, self.cut.layout.verify_rows
        slot = torch.full((*table.shape[:2], rows, self.cut.layout.slots), -1e9)
        own = torch.full((*table.shape[:2], rows, rows), -1e9)
        cross = torch.zeros_like(self._constants["cross_bias"][:rows].transpose(0, 1))
        for row in range(len(request.position.ancestry)):
            cross[:, row] = self._constants["cross_bias"][step + row]
            for before in range(step):
                slot[:, :, row, before] = table[:, :, step + row, before]
            for before in range(row + 1):
                own[:, :, row, before] = table[:, :, step + row, step + before]
        self._slots(request.inputs["slots"])
        for port, value in (("slot_bias", slot), ("own_bias", own), ("cross_bias", cross)):
            self._buffers[request.inputs[port]] = value


def expand(table: Table) -> Tensor:
    """[n, H, i, j] of a table."""
    return torch.from_numpy(table.rows)[:, torch.from_numpy(table.index).long()].permute(0, 3, 1, 2)

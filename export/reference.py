"""The cut run by torch: the reference that exported segments are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mue_edge.bundle.manifest import Preprocess
from mue_edge.errors import VerificationError
from mue_edge.export.formats import Call, outputs
from mue_edge.loop.protocol import DECODER, Answer, Position, Request
from mue_edge.models.cut import Cut, Piece, Table
from mue_edge.targets.golden import pixels as as_pixels
from mue_edge.targets.tensors import answer_of

# Largest allowed difference between a runtime and torch, relative to the size of the output.
TOLERANCE = 1e-4
# Runs a piece: inputs and outputs in its ports' order.
RunPiece = Callable[[Piece, Sequence[Tensor]], Sequence[Tensor]]


class TorchRuntime:
    """A cut as a runtime; see `driver.Runtime`. run_piece: by default the piece's torch module."""

    def __init__(self, cut: Cut, run_piece: RunPiece = outputs) -> None:
        self.cut, self._run_piece = cut, run_piece
        self._pieces = {piece.name: piece for piece in cut.pieces}
        self._buffers: dict[str, Tensor] = {}
        constants = {name: torch.from_numpy(value) for name, value in cut.constants.items()}
        self._constants = constants | {name: expand(table) for name, table in cut.tables.items()}

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
        piece = self._pieces[request.run]
        if request.position is not None:
            self._write_biases(request, request.position)
        if request.run == "head" and request.store:
            store = request.store[0]
            states = self._buffers[store.port]
            empty = torch.zeros(self.cut.layout.slots, states.shape[1])
            self._buffers.setdefault(store.buffer, empty)[list(store.rows)] = states
        inputs = {port: self._input(piece.inputs[port], name) for port, name in request.inputs.items()}
        if request.ids:
            inputs["ids"] = torch.tensor(request.ids)
        if request.gather:
            chunk = torch.zeros_like(piece.inputs["x"])
            chunk[: len(request.gather)] = self._buffers[request.inputs["x"]][list(request.gather)]
            inputs["x"] = chunk
        results = dict(zip(piece.outputs, self._run_piece(piece, [inputs[port] for port in piece.inputs])))
        for port, buffer in request.outputs.items():
            self._buffers[buffer] = results[port]
        for store in request.store:
            if store.port == "kv_rows":
                rows = results["kv_rows"][:, : len(store.rows)]
                self._slots(store.buffer)[:, :, list(store.rows)] = rows.transpose(1, 2)
        return answer_of(request, results)

    def close(self) -> None:
        self._buffers.clear()

    def _input(self, example: Tensor, name: str) -> Tensor:
        constant = name.partition("constant:")[2]
        return self._constants[constant] if constant else self._buffers.get(name, example)

    def _slots(self, name: str) -> Tensor:
        if name not in self._buffers:
            segment = f"{DECODER}.{name.partition('.')[2]}"
            self._buffers[name] = torch.zeros_like(self._pieces[segment].inputs["slots"])
        return self._buffers[name]

    def _write_biases(self, request: Request, position: Position) -> None:
        """The step's biases; written plainly and apart from the devices' code, to check that. Together, row i
        is of step + i; it sees the slots before `step`, the rows before it and itself."""
        layout, step, together = self.cut.layout, position.step, position.together
        table = self._constants[f"self_bias.{request.run.partition('.')[2]}"]
        rows = layout.verify_rows if together else layout.rows
        slot = torch.full((*table.shape[:2], rows, layout.slots), -1e9)
        own = torch.full((*table.shape[:2], rows, rows), -1e9)
        cross = self._constants["cross_bias"][step][:, None].repeat(1, rows, 1)
        for row, ancestors in enumerate(position.ancestry):
            at = step + row if together else step
            cross[:, row] = self._constants["cross_bias"][at]
            for place, ancestor in enumerate(ancestors[:step]):
                slot[:, :, row, ancestor] = table[:, :, at, place]
        if together:
            for row in range(len(position.ancestry)):
                for before in range(row + 1):
                    own[:, :, row, before] = table[:, :, step + row, step + before]
        else:
            for row in range(rows):
                own[:, :, row, row] = table[:, :, step, step]
        self._slots(request.inputs["slots"])
        for port, value in (("slot_bias", slot), ("own_bias", own), ("cross_bias", cross)):
            self._buffers[request.inputs[port]] = value


def encoding_once(cut: Cut) -> RunPiece:
    """Runs a piece's torch module, but the encoders' pieces only where their inputs are new: policies that
    differ in the decoder, or leave an encoder earlier, see the same states."""
    constants, kept = cut.layout.constants(), dict[tuple[str, ...], tuple[Tensor, ...]]()
    names = {name for stack in cut.layout.encoders for name in (stack.stem, stack.joins)}
    names |= {stage.name for stack in cut.layout.encoders for stage in stack.stages}

    def run_piece(piece: Piece, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        if piece.name not in names:
            return outputs(piece, inputs)
        own = (x for port, x in zip(piece.inputs, inputs) if port not in constants.get(piece.name, {}))
        key = (piece.name, *(sha256(x.contiguous().numpy().data).hexdigest() for x in own))
        if key not in kept:
            kept[key] = outputs(piece, inputs)
        return kept[key]

    return run_piece


def expand(table: Table) -> Tensor:
    """[n, H, i, j] of a table."""
    return torch.from_numpy(table.rows)[:, torch.from_numpy(table.index).long()].permute(0, 3, 1, 2)


def check_graphs(
    cut: Cut, call: Call, preprocess: Preprocess, *, strict: bool, step: Callable[[], object] = lambda: None
) -> float:
    """Largest error of any output of any segment that `call` runs, relative to max(1, |output|); pixels are
    of random grey levels; step: called after each segment. Raises VerificationError above TOLERANCE if
    `strict` (fp32)."""
    worst = 0.0
    for piece in cut.pieces:
        inputs = [
            random_pixels(x.shape, preprocess) if port == "pixels" else _random(x, i)
            for i, (port, x) in enumerate(piece.inputs.items())
        ]
        results = call(piece.name, [x.numpy() for x in inputs])
        for port, wanted, result in zip(piece.outputs, outputs(piece, inputs), results):
            if port == "top_ids":  # equal logits may come in any order; their values are compared
                continue
            reference = wanted.numpy()
            error = float(np.max(np.abs(reference - result) / np.maximum(1, np.abs(reference))))
            worst = max(worst, error)
            if strict and not error <= TOLERANCE:
                raise VerificationError(
                    f"segment {piece.name}: output {port} differs from torch by {error:.1e} (allowed {TOLERANCE:.0e})"
                )
        step()
    return worst


def random_pixels(shape: Sequence[int], p: Preprocess) -> torch.Tensor:
    picture = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (*shape[2:], 3), np.uint8)
    return torch.from_numpy(as_pixels(picture, p))


def _random(example: torch.Tensor, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if example.is_floating_point():
        return torch.randn(example.shape, generator=generator)
    return torch.randint(0, 4, example.shape, generator=generator)

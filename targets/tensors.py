"""What every numpy-fed adapter needs of a bundle: its constants, a step's position biases, a source text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mue_edge.arrays import Array as AnyArray
from mue_edge.arrays import Floats as Array
from mue_edge.arrays import np
from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Constant, Port
from mue_edge.inputs.statements import check_length
from mue_edge.loop.protocol import MASKED, TEXT, Position


class Constants:
    """The bundle's constants, read when first asked for; tables are expanded once."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._raw: dict[str, bytes] = {}
        self._made: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        if name not in self._made:
            self._made[name] = self._expanded(name, "float32")
        return self._made[name]

    def typed(self, name: str, dtype: str) -> AnyArray:
        """A constant in another type than it is stored in, made anew."""
        return self[name] if dtype == "float32" else self._expanded(name, dtype)

    def _expanded(self, name: str, dtype: str) -> AnyArray:
        constant = self._bundle.manifest.constants[name]
        rows = self._read(constant)
        if dtype != constant.dtype and dtype != "float32":
            rows = rows.astype(dtype)  # the table, before it grows
        if constant.index is None:
            return rows
        index = self._read(self._bundle.manifest.constants[constant.index])
        expanded: AnyArray = np.take(rows.transpose(0, 2, 1), index, 2)
        return expanded

    def _read(self, constant: Constant) -> AnyArray:
        if constant.file not in self._raw:
            self._raw[constant.file] = self._bundle.file(constant.file).read_bytes()
        dtype = np.dtype(constant.dtype)
        size = math.prod(constant.shape) * dtype.itemsize
        raw = self._raw[constant.file][constant.offset : constant.offset + size]
        return np.array(np.frombuffer(raw, dtype)).reshape(constant.shape)


class StepBiases:
    """The decoder's position biases and masks of one step, from self_bias.j and cross_bias.

    slot_bias [n, H, Q, M] is the position bias of each ancestor's slot and HIDDEN elsewhere;
    own_bias [n, H, Q, Q] lets a row see itself only; cross_bias [H, Q, S] is equal for all rows.
    """

    def __init__(self, constants: Constants, rows: int, slots: int) -> None:
        self._constants, self._rows, self._slots = constants, rows, slots
        self._greedy: dict[tuple[int, int], Array] = {}
        self._own: dict[tuple[int, int], Array] = {}
        self._hidden: Array | None = None

    def slot_bias(self, segment: int, position: Position) -> Array:
        """For one row with its own history the answer follows from the step alone and is kept."""
        if self._rows > 1:
            return self._slot_bias(segment, position.step, position.ancestry)
        key = (segment, position.step)
        if key not in self._greedy:
            self._greedy[key] = self._slot_bias(segment, position.step, position.ancestry)
        return self._greedy[key]

    def _slot_bias(self, segment: int, step: int, ancestry: Sequence[Sequence[int]]) -> Array:
        table = self._constants[f"self_bias.{segment}"][:, :, step]
        out = np.full((*table.shape[:2], self._rows, self._slots), MASKED, np.float32)
        for row, slots in enumerate(ancestry):
            out[:, :, row, list(slots)] = table[:, :, : len(slots)]
        return out

    def together(self, segment: int, position: Position, rows: int) -> tuple[Array, Array, Array]:
        """(slot_bias, own_bias, cross_bias) of `rows` queries, of which the first are of the steps `step`,
        `step` + 1, …: each sees the slots before `step`, the queries before it and itself."""
        table, cross = self._constants[f"self_bias.{segment}"], self._constants["cross_bias"]
        first, live = position.step, len(position.ancestry)
        slot = np.full((*table.shape[:2], rows, self._slots), MASKED, np.float32)
        own = np.full((*table.shape[:2], rows, rows), MASKED, np.float32)
        over = np.zeros((cross.shape[1], rows, cross.shape[2]), np.float32)
        for row in range(live):
            step = first + row
            slot[:, :, row, :first] = table[:, :, step, :first]
            own[:, :, row, : row + 1] = table[:, :, step, first : step + 1]
            over[:, row] = cross[step]
        return slot, own, over

    def own_bias(self, segment: int, step: int) -> Array:
        if (segment, step) not in self._own:
            table = self._constants[f"self_bias.{segment}"][:, :, step, step]
            out = np.full((*table.shape, self._rows, self._rows), MASKED, np.float32)
            for row in range(self._rows):
                out[:, :, row, row] = table
            self._own[segment, step] = out
        return self._own[segment, step]

    def cross_bias(self, step: int) -> Array:
        row: Array = self._constants["cross_bias"][step][:, None]
        return row if self._hidden is None else row + self._hidden

    def hide(self, hidden: Array) -> None:
        """Add this [S] to cross_bias from now on: HIDDEN where the source text is padding."""
        self._hidden = hidden


@dataclass(frozen=True)
class SourceText:
    """A source text as a bundle's text branch takes it: buffers by name, with the port that each feeds, and
    what hides its padding from the decoder [S]."""

    buffers: Mapping[str, tuple[Port, AnyArray]]
    hidden: Array

    @staticmethod
    def of(bundle: Bundle, constants: Constants, ids: Sequence[int]) -> SourceText:
        """Raises UsageError for a text that is too long."""
        manifest = bundle.manifest
        inputs = manifest.segments[manifest.layout.text_stem].inputs
        length = inputs["ids"].shape[0]
        check_length(ids, length)
        padding = length - len(ids)
        live = np.array([1.0] * len(ids) + [0.0] * padding, np.float32)
        masked = [0.0] * len(ids) + [MASKED] * padding
        hidden = np.array(masked, np.float32)
        buffers: dict[str, tuple[Port, AnyArray]] = {
            "source_ids": (inputs["ids"], np.array([*ids, *[manifest.search.pad] * padding])),
            "source_live": (inputs["live"], live.reshape(1, length, 1)),
        }
        for stage in (stage for stack in manifest.layout.of_source(TEXT) for stage in stack.stages):
            name = stage.constants["bias"]
            buffers[name] = (manifest.segments[stage.name].inputs["bias"], constants[name] + hidden)
        patches = constants["cross_bias"].shape[2] - length
        return SourceText(buffers, np.array([0.0] * patches + masked, np.float32))

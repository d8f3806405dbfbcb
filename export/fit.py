"""Whether a bundle fits a device's memory: what is known of it beforehand, and what is not, said plainly."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mue_edge.bundle import Constant, LayoutEntry, Port, Segment
from mue_edge.targets import Target

# Bytes of an element by numpy's name of its type; constants are stored in float32 and fed as the ports say.
_BYTES = {"float32": 4, "float16": 2, "int64": 8, "int32": 4, "int8": 1, "bool": 1}
# Above this share of the memory it is said to be tight: system, CUDA and TensorRT live in the rest.
TIGHT = 0.5


def bytes_needed(
    segments: Mapping[str, Segment], constants: Mapping[str, Constant], layout: LayoutEntry
) -> tuple[int, int]:
    """(weights, buffers): each engine owns its weights, so what segments share counts again in each; buffers
    are those of the contract, every port's once and the constants."""
    weights = sum(segment.weight_bytes for segment in segments.values())
    ports = 0
    for name, segment in segments.items():
        # Ping-pong: two of a stack's states exist, whatever the number of its segments.
        once = segment.stack == "" or segment.first == 0 or not name.startswith(("image", "text", "encoder"))
        ports += sum(map(_size, segment.inputs.values() if once else ()))
        ports += sum(map(_size, segment.outputs.values() if once else ()))
    fixed = sum(_BYTES[c.dtype] * math.prod(c.shape) for c in constants.values())
    return weights, ports + fixed


def lines(target: Target, needed: tuple[int, int]) -> list[str]:
    """A line for each device of the target whose memory is known."""
    total = sum(needed)
    found = []
    for device in target.devices.values():
        if device.memory is None:
            continue
        share = total / (device.memory.value * 1e9)
        verdict = "fits" if share <= TIGHT else "tight" if share <= 1 else "does not fit"
        found.append(f"  {device.title}: {share:.1%} of {device.memory.value:g} GB, {verdict}")
    head = (
        f"memory: weights {needed[0] / 1e6:.1f} MB + buffers {needed[1] / 1e6:.1f} MB; the engines' workspace, "
        "TensorRT, CUDA and the system come on top"
    )
    return [head, *found] if found else []


def _size(port: Port) -> int:
    return _BYTES[port.dtype] * math.prod(port.shape)

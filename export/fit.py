"""Whether a bundle fits a device's memory: what is known of it beforehand, and what is not, said plainly."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from mue_edge.bundle.manifest import Segment
from mue_edge.targets import Target

# Above this share of the memory it is said to be tight: system, CUDA and TensorRT live in the rest.
TIGHT = 0.5


def bytes_needed(segments: Mapping[str, Segment]) -> tuple[int, int]:
    """(weights, buffers) in bytes. Each engine owns its weights, so what segments share counts again in each;
    buffers are at most every port's own."""
    weights = sum(segment.weight_bytes for segment in segments.values())
    ports = [port for s in segments.values() for port in (*s.inputs.values(), *s.outputs.values())]
    return weights, sum(np.dtype(port.dtype).itemsize * math.prod(port.shape) for port in ports)


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
        f"memory: weights {needed[0] / 1e6:.1f} MB + buffers up to {needed[1] / 1e6:.1f} MB; the "
        "engines' workspace, "
        "TensorRT, CUDA and the system come on top"
    )
    return [head, *found] if found else []

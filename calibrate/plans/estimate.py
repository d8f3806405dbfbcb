"""What a bundle's segments would cost on a device that is not at hand: a roofline of published figures.

A call takes max(bytes / bandwidth, 2 · macs / rate) + dispatch (Williams, Waterman, Patterson 2009):
whichever of memory and arithmetic is the bottleneck, both at their published peaks, and a constant for
every call. Peaks are never reached, so this is nearer to a lower bound than to a prediction; it ranks
plans and policies, and promises nothing.
"""

from __future__ import annotations

import math

from mue_edge import targets
from mue_edge.bundle.manifest import Manifest, Segment
from mue_edge.errors import InputFileError, UsageError
from mue_edge.export.onnx.quantise import KEPT_IN_FLOAT
from mue_edge.measuring import profile
from mue_edge.measuring.profile import Profile, SegmentTime
from mue_edge.targets import Device

BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
PORT_BYTES = {"int64": 8, "int32": 4}
FLOATS = ("fp16", "fp32")


def estimate(manifest: Manifest, device: str, precision: str | None = None) -> Profile:
    """A profile of kind "estimate" for the segments of any target's bundle on the device of that name.

    `precision` the segments would have there: if it is not given, the bundle's where the device has a
    rate for it, else the first that it has (the profile names it). int8 leaves the segments that int8
    bundles keep in float in the device's float. Raises UsageError for an unknown device or a figure
    that nobody published, naming it, and InputFileError for a bundle without macs.
    """
    row = targets.device(device)
    if not any(segment.macs for segment in manifest.segments.values()):
        raise InputFileError(
            f"the manifest of {manifest.name} does not say how much its segments multiply; "
            "export the bundle again with this mue-edge"
        )
    if precision is None:
        precision = manifest.precision
        if row.rates and precision not in row.rates:
            precision = next(iter(row.rates))
    if precision not in BYTES:
        raise UsageError(f"unknown precision {precision!r}; known: {', '.join(BYTES)}")
    missing = [what for what in ("bandwidth", "dispatch") if getattr(row, what) is None]
    missing += [] if precision in row.rates else [f"rates.{precision}"]
    missing += [] if any(name in row.rates for name in FLOATS) else ["rates.fp16"]
    if missing:
        known = [name for name, other in targets.devices().items() if _is_complete(other)]
        raise UsageError(
            f"nothing can be estimated for {device} in {precision}: there is no published figure for "
            f"{', '.join(dict.fromkeys(missing))}; measure there with: mue-edge profile BUNDLE "
            f"(enough is known of {', '.join(known)})"
        )
    floats = next(name for name in FLOATS if name in row.rates)
    figures = [row.bandwidth, row.dispatch, row.rates[precision], row.rates[floats]]
    tiers = "/".join(sorted({figure.tier for figure in figures if figure}))
    return profile.blank(
        manifest,
        kind=profile.ESTIMATE,
        precision=precision,
        device=device,
        runtime=f"roofline in {precision}, sources of tier {tiers}",
        threads=0,
        segments={
            name: _time(row, name, segment, manifest.precision, precision, floats)
            for name, segment in manifest.segments.items()
        },
    )


def _is_complete(row: Device) -> bool:
    """Whether something can be estimated for the device, in its first float precision at least."""
    return bool(row.bandwidth and row.dispatch and any(name in row.rates for name in FLOATS))


def _time(row: Device, name: str, segment: Segment, own: str, precision: str, floats: str) -> SegmentTime:
    """own: the precision of the bundle; floats: that of the device for what is not quantised."""
    assert row.bandwidth is not None and row.dispatch is not None
    unquantised = name.partition(".")[0] in KEPT_IN_FLOAT
    computed = floats if unquantised and precision == "int8" else precision
    stored = "fp32" if unquantised and own == "int8" else own
    # A segment that multiplies nothing looks rows up in its tables; it does not read them whole.
    moved = segment.weight_bytes * BYTES[computed] / BYTES[stored] if segment.macs else 0.0
    for port in (*segment.inputs.values(), *segment.outputs.values()):
        width = BYTES[floats] if port.dtype == "float32" else PORT_BYTES[port.dtype]
        moved += math.prod(port.shape) * width
    arithmetic = 2 * segment.macs / (row.rates[computed].value * 1e12)
    seconds = max(moved / (row.bandwidth.value * 1e9), arithmetic) + row.dispatch.value * 1e-6
    return SegmentTime(seconds, seconds, 0.0, 0)

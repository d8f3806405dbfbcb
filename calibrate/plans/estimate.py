"""What a bundle's segments would cost on a device that is not at hand: a roofline of published figures.

A call takes max(bytes / bandwidth, 2 · macs / rate) + dispatch (Williams, Waterman, Patterson 2009):
whichever of memory and arithmetic is the bottleneck, both at their published peaks, and a constant for
every call. Peaks are never reached, so this is nearer to a lower bound than to a prediction; it ranks
plans and policies, and promises nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timezone

from mue_edge import targets
from mue_edge.bundle.manifest import Manifest, Port, Segment
from mue_edge.errors import InputFileError, UsageError
from mue_edge.export.onnx.quantise import KEPT_IN_FLOAT
from mue_edge.measuring import profile
from mue_edge.measuring.profile import Profile, SegmentTime
from mue_edge.targets import Device, Figure

BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
PORT_BYTES = {"float32": 4, "int64": 8, "int32": 4}
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
    wanted = precision or _default_precision(row, manifest.precision)
    roof = _Roof.of(device, row, wanted, manifest)
    segments = {name: roof.time(name, segment) for name, segment in manifest.segments.items()}
    tiers = "/".join(sorted({figure.tier for figure in roof.figures}))
    return Profile(
        schema=profile.SCHEMA, kind=profile.ESTIMATE, bundle=manifest.name, target=manifest.target,
        precision=wanted, plan_hash=manifest.plan_hash, macs=profile.total_macs(manifest), device=device,
        runtime=f"roofline in {wanted}, sources of tier {tiers}", threads=0,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"), segments=segments,
    )  # fmt: skip


def _default_precision(row: Device, own: str) -> str:
    return own if own in row.rates or not row.rates else next(iter(row.rates))


class _Roof:
    """A device's figures for one precision."""

    def __init__(
        self, bandwidth: Figure, rates: Mapping[str, Figure], dispatch: Figure, own: str, wanted: str
    ) -> None:
        self._bandwidth, self._rates, self._dispatch = bandwidth, rates, dispatch
        self._own, self._wanted = own, wanted
        self._float = next(name for name in FLOATS if name in rates)

    @staticmethod
    def of(name: str, row: Device, wanted: str, manifest: Manifest) -> _Roof:
        if wanted not in BYTES:
            raise UsageError(f"unknown precision {wanted!r}; known: {', '.join(BYTES)}")
        missing = [what for what in ("bandwidth", "dispatch") if getattr(row, what) is None]
        missing += [] if wanted in row.rates else [f"rates.{wanted}"]
        missing += [] if any(f in row.rates for f in FLOATS) else ["rates.fp16"]
        if missing or row.bandwidth is None or row.dispatch is None:
            raise UsageError(
                f"nothing can be estimated for {name} in {wanted}: there is no published figure for "
                f"{', '.join(dict.fromkeys(missing))}; measure there with: mue-edge profile BUNDLE "
                f"(enough is known of {', '.join(k for k, v in targets.devices().items() if is_complete(v))})"
            )
        return _Roof(row.bandwidth, row.rates, row.dispatch, manifest.precision, wanted)

    @property
    def figures(self) -> list[Figure]:
        """Those that take part."""
        used = dict.fromkeys((self._wanted, self._float))
        return [self._bandwidth, self._dispatch, *(self._rates[name] for name in used)]

    def time(self, name: str, segment: Segment) -> SegmentTime:
        kept = name.partition(".")[0] in KEPT_IN_FLOAT
        rate = self._float if kept and self._wanted == "int8" else self._wanted
        stored = "fp32" if kept and self._own == "int8" else self._own
        # A segment that multiplies nothing looks rows up in its tables; it does not read them whole.
        weights = segment.weight_bytes * BYTES[rate] / BYTES[stored] if segment.macs else 0.0
        moved = weights + sum(map(self._bytes, (*segment.inputs.values(), *segment.outputs.values())))
        seconds = max(
            moved / (self._bandwidth.value * 1e9), 2 * segment.macs / (self._rates[rate].value * 1e12)
        )
        seconds += self._dispatch.value * 1e-6
        return SegmentTime(seconds, seconds, 0.0, 0)

    def _bytes(self, port: Port) -> float:
        size = BYTES[self._float] if port.dtype == "float32" else PORT_BYTES[port.dtype]
        return math.prod(port.shape) * size


def is_complete(row: Device) -> bool:
    """Whether something can be estimated for the device, in its first float precision at least."""
    return bool(row.bandwidth and row.dispatch and any(name in row.rates for name in FLOATS))

"""What `mue-edge train --heads RULE` calls, by the kind of heads that the rule needs."""

from __future__ import annotations

from collections.abc import Callable

from mue_edge.calibrate.training import foresight_training, gate_training, head_training, ramp_training
from mue_edge.calibrate.training.head_training import Trained

TRAINERS: dict[str, Callable[..., Trained]] = {
    "confidence": head_training.train, "gate": gate_training.train, "foresight": foresight_training.train,
    "ramps": ramp_training.train,
}  # fmt: skip

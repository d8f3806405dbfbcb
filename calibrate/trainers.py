"""What `mue-edge train --heads RULE` calls, by the kind of heads that the rule needs."""

from __future__ import annotations

from mue_edge.calibrate import foresight_training, gate_training, head_training

TRAINERS = {
    "confidence": head_training.train, "gate": gate_training.train, "foresight": foresight_training.train,
}  # fmt: skip

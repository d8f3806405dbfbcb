"""MuE as its authors' code has it; for parity with the torch model, so calibration does not try it."""

from __future__ import annotations

from mue_edge.loop.protocol import DECODER
from mue_edge.rules.rule import NEVER, Parameters, Rule, decayed


def _threshold(policy: Parameters, stack: str, depth: int, step: int, max_length: int) -> float:
    """No exit while t < N/3, then 0.9·θ + 0.1·e^(−(t+1)/N), N = max_length + 1."""
    theta, n = policy.theta(stack, depth), policy.horizon or max_length + 1
    if theta is None or stack != DECODER:
        return NEVER if theta is None else theta
    return NEVER if step < n / 3 else decayed(theta, step + 1, n, 0.9, 1.0)


RULE = Rule(_threshold, calibrated=False)

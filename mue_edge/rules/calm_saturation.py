"""CALM's saturation rule (Schuster et al. 2022): exit the decoder when a layer hardly changed a token's
state. Its threshold decays from λ by its own formula, clip(0.9·λ + 0.1·e^(−τt/N)). CALM is of decoders: the
encoder has no tests by score."""

from __future__ import annotations

from mue_edge.rules.rule import NEVER, Parameters, Rule, decayed, in_decoder

BETA = 0.9


def _threshold(policy: Parameters, stack: str, depth: int, step: int, max_length: int) -> float:
    theta, n = policy.theta(stack, depth), policy.horizon or max_length + 1
    if theta is None:
        return NEVER
    value = max(0.0, decayed(theta, step, n, BETA, policy.tau))
    return NEVER if value >= 1 else value


RULE = Rule(in_decoder(_threshold), encoder=None, beta=BETA)

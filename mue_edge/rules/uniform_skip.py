"""Layers that stay, evenly spaced, the last one among them (Glavas et al. 2024, "Dynamic layer selection in
decoder-only transformers"): a policy's depth of a stack says how many. No score is read, and
a layer that is left out has no K/V. A constant prompt stays at full depth, for it costs nothing."""

from __future__ import annotations

from collections.abc import Sequence

from mue_edge.rules.rule import Rule, no_test


def _evenly(layers: int, ends: Sequence[int]) -> tuple[int, ...]:
    """Segments that hold one of `layers` evenly spaced layers."""
    kept = {-(-ends[-1] * (k + 1) // layers) for k in range(layers)}
    spans = zip((0, *ends[:-1]), ends)
    return tuple(i for i, (first, last) in enumerate(spans) if kept & set(range(first + 1, last + 1)))


RULE = Rule(no_test, keep=_evenly)

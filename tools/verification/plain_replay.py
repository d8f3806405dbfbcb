"""What a policy would do, guessed from one full-depth trace of a sample: for ranking by time only.

Encoder exits are exact, for an encoder's scores do not depend on whether a later test is passed. Decoder
exits are a guess: its tokens, and so its scores, are taken to be those of full depth, and its skipped
rows are not counted in. Layers come out nearly right, captions do not: never judge quality by this.
Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mue_edge.loop.cache import Cache
from mue_edge.loop.policy import ExitPolicy, Policy, should_exit
from mue_edge.loop.protocol import DECODER, Layout, Outcome, Stack

FULL_DEPTH = Policy("never", name="full")


@dataclass(frozen=True)
class FullTrace:
    """A sample at full depth: the gap that decides each exit test. encoder: stack → gap by boundary, a
    constant prompt's included; decoder: step → gap by boundary, the widest of the live rows."""

    encoder: Mapping[str, tuple[float, ...]]
    decoder: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Guess:
    """Layers run by each encoder stack (exact) and by each decoder step, and the segments called."""

    depths: Mapping[str, int]
    decoder: tuple[int, ...]
    segments: tuple[str, ...]


def full_trace(outcome: Outcome) -> FullTrace:
    """The trace of a run of FULL_DEPTH, with every score read (`replay.run(..., trace=True)`)."""
    encoder: dict[str, list[float]] = {}
    decoder: list[list[float]] = [[] for _ in outcome.steps]
    for d in outcome.decisions:
        (decoder[d.step] if d.stack == DECODER else encoder.setdefault(d.stack, [])).append(max(d.distances))
    return FullTrace({stack: tuple(gaps) for stack, gaps in encoder.items()}, tuple(map(tuple, decoder)))


def guess(layout: Layout, trace: FullTrace, policy: ExitPolicy, max_length: int) -> Guess:
    """What the policy would do to the trace's sample."""
    depths = {s.name: _depth(policy, s, trace.encoder[s.name], 0, max_length) for s in layout.encoders}
    decoder = tuple(_depth(policy, layout.decoder, gaps, step, max_length) for step, gaps in enumerate(trace.decoder))
    return Guess(depths, decoder, segments(layout, depths, decoder))


def segments(layout: Layout, depths: Mapping[str, int], decoder: tuple[int, ...]) -> tuple[str, ...]:
    """The segments that the loop calls, in order, when every stack is left at these depths."""
    calls: list[str] = []
    for stack in layout.encoders:
        calls += filter(None, (stack.stem, stack.joins))
        calls += [stage.name for stage in stack.stages if stage.depth <= depths[stack.name]]
    cache, cross = Cache(len(layout.decoder.stages), layout.rows), set()
    for depth in decoder:
        calls.append("embed")
        for j, stage in enumerate(layout.decoder.stages):
            if stage.depth > depth:
                break
            if j not in cross:
                cross.add(j)
                calls.append(f"cross_kv.{j}")
            calls += [f"fill.{j}"] * -(-len(cache.pending(j)) // layout.fill_rows)
            calls.append(stage.name)
            cache.mark(j)
        calls.append("head")
        cache.advance(range(layout.rows))
    return tuple(calls)


def _depth(policy: ExitPolicy, stack: Stack, gaps: tuple[float, ...], step: int, max_length: int) -> int:
    """The first boundary whose test is passed, else the last."""
    for depth, gap in zip(stack.ends[:-1], gaps):
        if should_exit(1 - gap, gap, policy.threshold(stack.name, depth, step, max_length)):
            return depth
    return stack.depth

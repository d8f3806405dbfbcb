"""Throw-away adapters: the reference's buffers, another runtime's segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mue_edge.export.reference import random_pixels
from mue_edge.loop.driver import Runtime
from mue_edge.loop.policy import ExitPolicy, Policy
from mue_edge.loop.replay import decision_log, replay, run
from mue_edge.models.cut import Cut, Piece
from tests.contract.cuts import PREPROCESS, Case, exit_scores, pictures, policies, started

# Runs the segment of that name: inputs and outputs in the piece's order.
Call = Callable[[str, Sequence[Tensor]], Sequence[Tensor]]
SCORE_TOLERANCE = 1e-5


class Foreign(nn.Module):
    """A segment that runs elsewhere, in the place of its torch module."""

    def __init__(self, name: str, call: Call) -> None:
        super().__init__()
        self.name, self.call = name, call

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.call(self.name, [x.contiguous() for x in inputs]))


def elsewhere(made: Cut, call: Call) -> Cut:
    """The same cut with every module run by `call`."""
    return replace(made, pieces=tuple(replace(p, module=Foreign(p.name, call)) for p in made.pieces))


def assert_piece_equals_torch(piece: Piece, call: Call, tolerance: float = 1e-4) -> None:
    """One call on random inputs, a picture for pixels; not the ids, whose order among equals is free."""
    generator = torch.Generator().manual_seed(0)
    inputs = [
        random_pixels(x.shape, PREPROCESS)
        if port == "pixels"
        else torch.randn(x.shape, generator=generator)
        if x.is_floating_point()
        else torch.randint(0, 9, x.shape, generator=generator)
        for port, x in piece.inputs.items()
    ]
    with torch.no_grad():
        out = piece.module.eval()(*inputs)
    wanted = out if isinstance(out, tuple) else (out,)
    found = call(piece.name, inputs)
    assert len(found) == len(wanted) == len(piece.outputs)
    for port, a, b in zip(piece.outputs, wanted, found):
        assert a.shape == b.shape and a.dtype == b.dtype, f"{piece.name}.{port}"
        if port != "top_ids":
            torch.testing.assert_close(b, a, atol=tolerance, rtol=tolerance, msg=f"{piece.name}.{port}")


def assert_loop_equals_reference(
    case: Case, runtime_for: Callable[[NDArray[np.float32]], Runtime], names: Sequence[str]
) -> None:
    """The reference's decision logs, replayed with their exits forced and run freely."""
    chosen: dict[str, ExitPolicy] = {name: policies(case.name)[name] for name in names}
    exits = set()
    for name, policy in chosen.items():
        for picture in pictures():
            reference = run(case.layout, case.settings, policy, case.reference(picture), trace=True)
            log, runtime = decision_log(reference), runtime_for(picture)
            of = policy if isinstance(policy, Policy) else None
            replayed = replay(log, case.layout, case.settings, runtime, of)
            assert replayed.same_tokens, name
            assert len(replayed.score_errors) == len(log.scores)
            assert max(replayed.score_errors) <= SCORE_TOLERANCE, name
            free = run(case.layout, case.settings, policy, runtime, trace=True)
            assert free.depths == reference.depths and free.steps == reference.steps, name
            assert [h.tokens for h in free.hypotheses] == [h.tokens for h in reference.hypotheses], name
            assert exit_scores(free) == pytest.approx(exit_scores(reference), abs=SCORE_TOLERANCE), name
            exits |= {step.depth for step in free.steps}
    assert len(exits) > 1, "no step left early"


def on(made: Cut) -> Callable[[NDArray[np.float32]], Runtime]:
    """Runtimes of a cut that runs elsewhere."""
    return lambda picture: started(made, picture)


@dataclass(frozen=True)
class Ports:
    """Names and shapes of a converted segment."""

    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]


def signature(piece: Piece) -> Ports:
    """What a piece promises."""
    with torch.no_grad():
        out = piece.module.eval()(*piece.inputs.values())
    outputs = out if isinstance(out, tuple) else (out,)
    return Ports(
        {port: tuple(x.shape) for port, x in piece.inputs.items()},
        {port: tuple(x.shape) for port, x in zip(piece.outputs, outputs, strict=True)},
    )


def structures(cases: Sequence[Case]) -> dict[str, tuple[Case, Piece]]:
    """CASE/NAME → the pieces, one for each structure: the same graph with other weights says nothing
    new to a converter."""
    found: dict[str, tuple[Case, Piece]] = {}
    seen = set()
    for case in cases:
        for piece in case.cut.pieces:
            key = (piece.name.partition(".")[0], case.model.config.scale_resids, str(signature(piece)))
            if key not in seen:
                seen.add(key)
                found[f"{case.name}/{piece.name}"] = case, piece
    return found

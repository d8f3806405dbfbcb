"""ExecuTorch with XNNPACK: segments as methods of one program, and the whole loop with exits.

All methods share one activation arena. Planned as here (neither inputs nor outputs in the arena) a
method's outputs live until its next call. With outputs in the arena and inputs outside, a layer that
is fed another's output can write over its own input: the state is right and the score is 1. So
scores are compared, not states only.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("executorch.runtime", reason="pip install 'mue-edge[executorch]'")

from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import (
    EdgeCompileConfig,
    ExecutorchBackendConfig,
    to_edge_transform_and_lower,
)  # fmt: skip
from executorch.exir.passes import MemoryPlanningPass
from executorch.runtime import Runtime

from mue_edge.models.cut import Piece
from tests.contract.adapters import (
    assert_loop_equals_reference,
    assert_piece_equals_torch,
    elsewhere,
    on,
)  # fmt: skip
from tests.contract.cuts import make_case

# Lowering costs seconds a segment: the loop of one case, and of the others the kinds that it lacks.
LOOP = "prompt"
OTHERS = {"joint": ("encoder.0", "cross_kv.0"), "text": ("text_stem", "text.0")}
POLICIES = ("never", "half", "up-and-down", "late")


class Methods:
    """The methods of a program, called by a segment's name."""

    def __init__(self, path: Path, prefix: str) -> None:
        self.program = Runtime.get().load_program(str(path))
        self.prefix = prefix
        self.made: dict[str, Any] = {}

    def __call__(self, name: str, inputs: Sequence[Tensor]) -> list[Tensor]:
        if name not in self.made:
            self.made[name] = self.program.load_method(method_name(self.prefix, name))._method
        return list(self.made[name].call(tuple(inputs), clone_outputs=False))


def method_name(case: str, segment: str) -> str:
    return f"{case}_{segment.replace('.', '_')}"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One .pte with every segment of LOOP and OTHERS."""
    pieces = {method_name(LOOP, p.name): p for p in make_case(LOOP).cut.pieces}
    for case, names in OTHERS.items():
        pieces |= {method_name(case, name): make_case(case).cut.piece(name) for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lowered = to_edge_transform_and_lower(
            {name: exported(piece) for name, piece in pieces.items()},
            partitioner=[XnnpackPartitioner()],
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
        plan = MemoryPlanningPass(alloc_graph_input=False, alloc_graph_output=False)
        made = lowered.to_executorch(ExecutorchBackendConfig(memory_planning_pass=plan))
    path = tmp_path_factory.mktemp("executorch") / "segments.pte"
    with path.open("wb") as file:
        made.write_to_file(file)
    return path


def exported(piece: Piece) -> torch.export.ExportedProgram:
    with torch.no_grad():
        return torch.export.export(piece.module.eval(), tuple(piece.inputs.values()))


def test_segments_equal_torch(program: Path) -> None:
    for piece in make_case(LOOP).cut.pieces:
        assert_piece_equals_torch(piece, Methods(program, LOOP))
    for case, names in OTHERS.items():
        for name in names:
            assert_piece_equals_torch(make_case(case).cut.piece(name), Methods(program, case))


def test_loop_equals_reference(program: Path) -> None:
    """Beam 3, exits, fills, late cross K/V: tokens equal, scores to 1e-5."""
    case = make_case(LOOP)
    assert_loop_equals_reference(case, on(elsewhere(case.cut, Methods(program, LOOP))), POLICIES)

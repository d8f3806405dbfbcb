"""Segments to ExecuTorch: one program (.pte) with a method a segment, static shapes.

A program of many methods keeps equal constants once on disk, and a method costs memory only when it is
loaded. The bundle's manifest is in it too, as constant methods, for hosts that get the program alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mue_edge import schema
from mue_edge.bundle.manifest import Manifest, Segment
from mue_edge.errors import UsageError, VerificationError, missing_extra
from mue_edge.export.executorch import linear_int8, xnnpack
from mue_edge.export.formats import Call, Written, calls, entry, quiet
from mue_edge.export.progress import Progress
from mue_edge.models.cut import Cut, Piece
from mue_edge.targets import target
from mue_edge.targets.executorch.methods import method_name

try:
    from executorch.devtools.backend_debug import get_delegation_info
    from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
    from executorch.exir.passes import MemoryPlanningPass
except ImportError as problem:
    raise missing_extra("executorch", "executorch") from problem

PROGRAM = "segments/model.pte"
PACKAGES = ("executorch", "torchao", "torch")
# Of the manifest, what changes after the program was made is not in the program.
OUTSIDE = ("files", "front", "chosen", "evidence")


@dataclass(frozen=True)
class Lowered:
    """How much of a segment its backend took: delegates, and the operators that stay with ExecuTorch."""

    delegates: int
    host: Mapping[str, int]


def write(cut: Cut, manifest: Manifest, folder: Path, progress: Progress) -> Written:
    """Lower every segment and write the program. Raises VerificationError for a segment that its backend
    takes in more parts than it should."""
    backend, pieces = str(manifest.plan["backend"]), cut.pieces
    if backend == "vulkan" and manifest.precision != "fp32":
        raise UsageError(f"the backend vulkan has no precision {manifest.precision!r} here; it has: fp32")
    segments, programs = {}, {}
    for i, piece in enumerate(pieces):
        progress(piece.name, i, len(pieces))
        program, size = traced(piece, backend, manifest.precision)
        segments[piece.name], programs[method_name(piece.name)] = entry(piece, PROGRAM, size), program
    progress(f"lowering for {backend}", 0, 1)
    edge = lower(programs, backend, constants(manifest, segments))
    notes = {name: delegation(edge, name) for name in segments}
    if backend == "xnnpack":
        check_delegates(notes, segments)
    path = folder / PROGRAM
    path.parent.mkdir(parents=True, exist_ok=True)
    save(edge, path, planned=target(manifest.target).outputs == "program")
    return Written(segments, {name: vars(note) for name, note in notes.items()})


def caller(manifest: Manifest, folder: Path) -> Call | None:
    """The program just written, on this machine's runtime, if that has the backend."""
    from mue_edge.targets.executorch import python as executorch

    if not executorch.available(str(manifest.plan["backend"])):
        return None
    return calls(executorch.ExecuTorchProgram(folder / PROGRAM, manifest.segments), manifest)


def traced(piece: Piece, backend: str, precision: str) -> tuple[torch.export.ExportedProgram, int]:
    """The piece as a graph, in the backend's words and the precision's numbers; bytes of its weights."""
    inputs = tuple(piece.inputs.values())
    with torch.no_grad(), quiet():
        plain = torch.export.export(piece.module.eval(), inputs)
        graph: Any = plain.module(check_guards=False)
        kind = piece.name.partition(".")[0]
        quantised = precision != "fp32" and kind not in linear_int8.KEPT_IN_FLOAT
        size = linear_int8.weight_bytes(graph, quantised=quantised)
        if backend != "xnnpack":
            return plain, size
        if quantised:
            linear_int8.quantise(graph)
        return torch.export.export(xnnpack.friendly(graph, inputs), inputs), size


def lower(programs: Mapping[str, Any], backend: str, constant_methods: Mapping[str, Any]) -> Any:
    """An edge program with everything delegated that the backend takes."""
    with quiet():
        return to_edge_transform_and_lower(
            dict(programs),
            partitioner=[_partitioner(backend)],
            constant_methods=dict(constant_methods),
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )


def save(edge: Any, path: Path, *, planned: bool) -> None:
    """The program's file; `edge` is used up. Inputs are the caller's memory; outputs too, unless `planned`:
    then they lie in memory that all methods share, and are gone with the next call."""
    plan = MemoryPlanningPass(alloc_graph_input=False, alloc_graph_output=planned)
    with quiet():
        program = edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=plan))
    with path.open("wb") as file:
        program.write_to_file(file)


def constants(manifest: Manifest, segments: Mapping[str, Segment]) -> dict[str, int | str]:
    """Methods without inputs that say what the program is."""
    fields = schema.encode(replace(manifest, segments=segments))
    facts = json.dumps({name: value for name, value in fields.items() if name not in OUTSIDE})
    about: dict[str, int | str] = {"schema": manifest.schema, "plan_hash": manifest.plan_hash}
    return {"manifest": facts, "model_name": manifest.name, **about}


def delegation(edge: Any, segment: str) -> Lowered:
    info = get_delegation_info(edge.exported_program(method_name(segment)).graph_module)
    host = {
        operator: counts.non_delegated
        for operator, counts in info.delegation_by_operator.items()
        if counts.non_delegated and operator != "getitem"
    }
    return Lowered(info.num_delegated_subgraphs, host)


def check_delegates(lowered: Mapping[str, Lowered], segments: Mapping[str, Segment]) -> None:
    """XNNPACK takes a segment whole; choosing the best of many (topk) stays outside, and parts the head."""
    for name, segment in lowered.items():
        parts = 1 + sum(count for operator, count in segment.host.items() if "topk" in operator)
        least = 1 if segments[name].macs else 0
        if not least <= segment.delegates <= parts:
            raise VerificationError(
                f"segment {name}: XNNPACK took it in {segment.delegates} parts instead of {parts}; left to "
                f"ExecuTorch: {', '.join(segment.host) or 'nothing'}. This ExecuTorch lowers it otherwise "
                "than 1.4.1 does"
            )


def _partitioner(backend: str) -> Any:
    if backend == "vulkan":
        from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner

        return VulkanPartitioner()
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    return XnnpackPartitioner()

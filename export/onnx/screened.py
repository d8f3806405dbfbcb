"""The vocabulary head of a greedy bundle, screened: 8-bit logits of all words choose candidates, whose exact
logits are computed; where that is not proved to give the best words, the plain head runs inside the graph.

Proof. Kernels round a state as they do a word's row w to the 8-bit w̃: in every block of b values to 127 steps of the
largest magnitude. So the normed state h is handed in as two: h̃, rounded like that already, which they change no
more, and the rest r = h − h̃, which then loses at most √b/254 of its norm. Of the rows only the difference from
their mean m is rounded, since that is smaller. The screen is (h̃ + r̃)·w̃ + h·m, and

    h·w ≤ (h̃ + r̃)·w̃ + h·m + ‖h‖·‖w − m − w̃‖ + √b/254·‖r‖·‖w̃‖.

Candidates are the words with the largest right sides; every other word's is at most the last candidate's. If the
k-th best exact logit is larger, the k best candidates are the whole vocabulary's. The bound is also checked on the
candidates: a kernel that computes otherwise is noticed there, and costs time only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mue_edge.arrays import Array, Floats
from mue_edge.errors import UsageError
from mue_edge.export.onnx.graphs import constant, copy_of, replace

# ONNX Runtime's MatMulNBits takes 8 bits on CPUs from here on.
VERSIONS = ">=1.22,<2"
CANDIDATES = 128
SUMMARY = f"head: screened (8-bit logits choose {CANDIDATES} words, whose exact logits are computed)"
BLOCK, SMALLEST_BLOCK = 256, 16
# Steps from zero to a block's largest magnitude.
MOST = 127
# Sums of d products in float32 are off by less than d · 2⁻²⁴ of ‖h‖·‖w‖: less than this for d up to 2,000.
ROUNDING = 1.25e-4

_SCREEN = """
screen (float h, float table) => (bool certain) {{
    blocks = Reshape(h, block_shape)
    magnitudes = Abs(blocks)
    peaks = ReduceMax(magnitudes, last_axis)
    steps = Div(peaks, most)
    quotients = Div(blocks, steps)
    whole = Round(quotients)
    rounded_blocks = Mul(whole, steps)
    lost_blocks = Sub(blocks, rounded_blocks)
    both_blocks = Concat <axis = 0> (rounded_blocks, lost_blocks)
    both = Reshape(both_blocks, both_shape)
    norm = ReduceL2(h, last_axis)
    lost_norm = ReduceL2(lost_blocks)
    norms = Concat <axis = 1> (norm, lost_norm)
    parts = com.microsoft.MatMulNBits <K = {width}, N = {words}, bits = 8, block_size = {block}, accuracy_level = 4>
        (both, rows, scales)
    mean_logit = MatMul(h, mean)
    logits = Gemm(ones, parts, mean_logit)
    bounds = Gemm(norms, errors, logits)
    largest, unsorted = TopK(bounds, candidate_count)
    chosen, order = TopK <largest = 0> (unsorted, candidate_count)
    words = Concat <axis = 1> (chosen, eos_id)
    ids = Squeeze(words, first_axis)
    exact_rows = Gather(table, ids)
    exact = Gemm <transB = 1> (h, exact_rows)
    coarse = GatherElements <axis = 1> (logits, words)
    bound = GatherElements <axis = 1> (bounds, words)
    room = Sub(bound, coarse)
    difference = Sub(exact, coarse)
    error = Abs(difference)
    spare = Sub(room, error)
    least_spare = ReduceMin <keepdims = 0> (spare)
    holds = GreaterOrEqual(least_spare, zero)
    candidates, eos_row = Split <axis = 1> (exact, split)
    top_values, places = TopK(candidates, top_count)
    top_ids = GatherElements <axis = 1> (chosen, places)
    least = ReduceMin <keepdims = 0> (top_values)
    cut = ReduceMin <keepdims = 0> (largest)
    above = Greater(least, cut)
    certain = And(holds, above)
    mixed = ScatterElements <axis = 1> (logits, words, exact)
    best = ReduceMax(top_values, last_axis)
    shifted = Sub(mixed, best)
    powers = Exp(shifted)
    sum = ReduceSum <keepdims = 0> (powers, last_axis)
    log_sum = Log(sum)
    best_alone = Squeeze(best, first_axis)
    logsumexp = Add(log_sum, best_alone)
    eos = Squeeze(eos_row, first_axis)
}}
"""
# The plain product, table first: a constant second factor would be copied when ONNX Runtime packs it.
_FULL = """
full (float h, float table) => (float logits) {
    column = Reshape(h, column_shape)
    products = MatMul(table, column)
    logits = Reshape(products, row_shape)
}
"""


def screened(model: ModelProto, eos: int) -> ModelProto:
    """The graph of a head of one row, screened. Raises UsageError for one that is not the product of a state with
    a table of words."""
    out = copy_of(model)
    graph, weights = out.graph, {t.name: t for t in model.graph.initializer}
    nodes = list(graph.node)
    (at, product), *others = [(i, node) for i, node in enumerate(nodes) if node.op_type in ("Gemm", "MatMul")]
    if others or product.op_type != "Gemm" or len(product.input) != 2 or product.input[1] not in weights:
        raise UsageError("this model's head cannot be screened: it is not one product with a table; use --head full")
    table = numpy_helper.to_array(weights[product.input[1]])
    words, width = table.shape
    block, count = min(width & -width, BLOCK), min(CANDIDATES, words)
    if block < SMALLEST_BLOCK:
        raise UsageError(f"a head {width} wide cannot be screened: 16 must divide that; use --head full")
    (top,) = (v.type.tensor_type.shape.dim[1].dim_value for v in graph.output if v.name == "top_ids")
    names = dict(zip(("h", "table"), product.input))
    numbers: dict[str, Any] = {"candidate_count": [count], "split": [count, 1], "top_count": [top], "eos_id": [[eos]]}
    numbers |= {"block_shape": [width // block, block], "both_shape": [2, width], "column_shape": [width, 1]}
    numbers |= {"row_shape": [1, words], "first_axis": [0], "last_axis": [-1]}
    floats: dict[str, Any] = {"most": MOST, "zero": 0, "ones": [[1, 1]]}
    tables = _eight_bits(table, block) | {name: np.array(value, np.float32) for name, value in floats.items()}
    tables |= {name: np.array(value, np.int64) for name, value in numbers.items()}
    names |= {name: constant(graph, f"screen.{name}", value) for name, value in tables.items()}
    screen = _nodes(_SCREEN.format(width=width, words=words, block=block), "screen", names)
    full = _nodes(_FULL, "full", names | {"logits": product.output[0]}) + nodes[at + 1 :]
    _rename(full, {value.name: f"full.{value.name}" for value in graph.output})
    kept = [helper.make_node("Identity", [f"screen.{v.name}"], [f"kept.{v.name}"]) for v in graph.output]
    branches = {"then_branch": _branch(kept, "kept", graph), "else_branch": _branch(full, "full", graph)}
    ports = [value.name for value in graph.output]
    choice = helper.make_node("If", ["screen.certain"], ports, "choice", **branches)
    replace(graph.node, [*nodes[:at], *screen, choice])
    del graph.value_info[:]
    graph.value_info.append(helper.make_tensor_value_info("screen.parts", TensorProto.FLOAT, [2, words]))
    out.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return out


def _nodes(text: str, prefix: str, names: Mapping[str, str]) -> list[NodeProto]:
    """The nodes of a graph in ONNX's text form, its values called as in `names` or else with the prefix."""
    nodes = list(onnx.parser.parse_graph(text).node)
    values = {name for node in nodes for name in (*node.input, *node.output)}
    _rename(nodes, {name: f"{prefix}.{name}" for name in values} | dict(names))
    return nodes


def _rename(nodes: Sequence[NodeProto], names: Mapping[str, str]) -> None:
    for node in nodes:
        for field in (node.input, node.output):
            replace(field, [names.get(name, name) for name in field])


def _branch(nodes: Sequence[NodeProto], prefix: str, graph: onnx.GraphProto) -> onnx.GraphProto:
    """A branch that puts out the graph's outputs, under that prefix."""
    values = onnx.GraphProto(output=graph.output).output
    for value in values:
        value.name = f"{prefix}.{value.name}"
    return helper.make_graph(nodes, prefix, [], values)


def _eight_bits(table: Floats, block: int) -> dict[str, Array]:
    """The rows' mean, their differences from it as MatMulNBits takes them (unsigned, 128 is zero) and the scales of
    those; and the errors [2, words] that the norms of the state and of its rest are multiplied by."""
    words, width = table.shape
    mean = table.mean(0, dtype=np.float64).astype(np.float32)
    rows, scales = np.empty((words, width // block, block), np.uint8), np.empty((words, width // block), np.float32)
    errors = np.empty((2, words), np.float32)
    for at in range(0, words, 4096):  # in pieces, to save memory
        some = slice(at, at + 4096)
        exact = (table[some].astype(np.float64) - mean).reshape(-1, width // block, block)
        scales[some] = np.maximum(np.abs(exact).max(2) / MOST, np.finfo(np.float32).tiny)
        steps = np.rint(exact / scales[some, :, None]).clip(-MOST, MOST)
        rows[some] = steps + 128
        near = steps * scales[some, :, None]
        kept, lost = (np.sqrt(np.square(x).sum((1, 2))) for x in (near, exact - near))
        own = np.linalg.norm(table[some].astype(np.float64), axis=1) + np.linalg.norm(mean)
        errors[:, some] = lost + ROUNDING * (own + kept), kept * np.sqrt(block) / (2 * MOST)
    return {"mean": mean[:, None], "rows": rows, "scales": scales.reshape(-1), "errors": errors}

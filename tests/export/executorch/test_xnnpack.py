"""The XNNPACK-friendly rewrite computes the same, and leaves nothing that XNNPACK does not take."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from mue_edge.export.executorch import linear_int8, xnnpack  # noqa: E402
from tests.contract.cuts import CASES, make_case  # noqa: E402

aten = torch.ops.aten
# Choosing and looking up have no counterpart; the rest of what a graph holds XNNPACK knows.
LEFT = {aten.topk.default, aten.embedding.default}


class Function(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def rewritten(module: nn.Module, *inputs: Tensor) -> torch.export.ExportedProgram:
    with torch.no_grad():
        graph = torch.export.export(module.eval(), inputs).module(check_guards=False)
        return torch.export.export(xnnpack.friendly(graph, inputs), inputs)


def operators(program: torch.export.ExportedProgram) -> set[object]:
    return {node.target for node in program.graph.nodes if node.op == "call_function"}


norm = nn.LayerNorm(24, eps=1e-3)
nn.init.normal_(norm.weight)
nn.init.normal_(norm.bias)
RULES: dict[str, Callable[..., Tensor]] = {
    "layer norm": norm,
    "layer norm without weights": nn.LayerNorm(24, elementwise_affine=False),
    "sum": lambda x: x.sum(-1),
    "sum, kept": lambda x: x.sum(-1, keepdim=True),
    "mean": lambda x: x.mean(-1),
    "long sum": lambda x: x.reshape(1, -1).repeat(1, 40).sum(-1),
    "sum over a prime": lambda x: x.reshape(1, -1)[:, :1283].sum(-1),
    "select": lambda x: x[1] + x[:, 2].sum(),
    "select of one": lambda x: x[:1][0],
    "unsqueeze": lambda x: x[None] + x.unsqueeze(-1).squeeze(-1),
    "stack": lambda x: torch.stack([x, x * 2], 1),
    "stack of one": lambda x: torch.stack([x]),
    "wide cat": lambda x: torch.cat([x * i for i in range(12)], -1),
    "one minus": lambda x: 1 - x,
    "one minus twice": lambda x: torch.rsub(x, 3, alpha=2),
    "same type": lambda x: x.float() + 1,
}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_computes_the_same(name: str) -> None:
    x = torch.randn(6, 9, 24, generator=torch.Generator().manual_seed(1))
    module = RULES[name] if isinstance(RULES[name], nn.Module) else Function(RULES[name])
    program = rewritten(module, x)
    torch.testing.assert_close(program.module()(x), module(x), atol=2e-5, rtol=1e-5)


def test_other_sums_stay_as_they_are() -> None:
    x = torch.randn(3, 4, 5)
    program = rewritten(Function(lambda x: x.sum(0) + x.sum((1, 2)).sum()), x)
    assert aten.sum.dim_IntList in operators(program)


def test_a_sum_over_many_is_no_constant_of_that_length() -> None:
    program = rewritten(Function(lambda x: x.reshape(1, -1).sum(-1)), torch.randn(64, 1000))
    assert max(x.numel() for x in program.state_dict.values()) <= xnnpack.LONGEST_SUM


@pytest.mark.parametrize("case", CASES)
def test_no_segment_keeps_what_xnnpack_does_not_take(case: str) -> None:
    for piece in make_case(case).cut.pieces:
        inputs = tuple(piece.inputs.values())
        program = rewritten(piece.module, *inputs)
        unknown = (operators(program) & set(xnnpack.RULES)) - {aten.cat.default, aten.rsub.Scalar}
        assert not unknown, piece.name
        generator = torch.Generator().manual_seed(0)
        fed = [torch.randn(x.shape, generator=generator) if x.is_floating_point() else x for x in inputs]
        with torch.no_grad():
            wanted, found = piece.module(*fed), program.module()(*fed)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5, msg=piece.name)


def test_int8_is_for_weights_not_for_sums() -> None:
    """Linear layers lose their float weights; the constants of norms and scores keep theirs."""
    pytest.importorskip("torchao")
    piece = make_case("joint").cut.piece("decoder.0")
    inputs = tuple(piece.inputs.values())
    with torch.no_grad():
        graph = torch.export.export(piece.module.eval(), inputs).module(check_guards=False)
        float_bytes = linear_int8.weight_bytes(graph, quantised=False)
        small = linear_int8.weight_bytes(graph, quantised=True)
        linears = [n for n in graph.graph.nodes if n.target is aten.linear.default]
        weights = [torch.fx.graph_module._get_attr(graph, str(n.args[1].target)) for n in linears]
        linear_int8.quantise(graph)
        program = torch.export.export(xnnpack.friendly(graph, inputs), inputs)
    names = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    quantised = sum("dequantize_affine" in name for name in names)
    assert len(linears) == 8 and quantised == 2 * len(linears)  # weights and activations
    # Of each weight three bytes of four go, and every channel gains a scale of four.
    assert float_bytes - small == sum(3 * w.numel() - 4 * w.shape[0] for w in weights)
    ones = [x for name, x in program.state_dict.items() if "ones_" in name]
    assert ones and all(x.dtype == torch.float32 for x in ones)

"""int8 for ExecuTorch: torchao's 8da8w on the linear layers of an exported graph.

Weights have a scale a channel, activations one a row, found in every run, so that rows do not influence one
another and `fill` may be quantised as the decoder layers are. The stem stays in float."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mue_edge.export.formats import quiet

KEPT_IN_FLOAT = ("stem",)


def quantise(graph: torch.fx.GraphModule) -> None:
    """Give every linear function with constant weights int8 weights, in place. Functions become modules
    first, since torchao quantises modules; a weight that others use too (a tied table) stays float there."""
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, PerAxis, quantize_

    _linears_to_modules(graph)
    with quiet():
        quantize_(graph, Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int8, weight_granularity=PerAxis(0)))


def _linears_to_modules(graph: torch.fx.GraphModule) -> None:
    for i, node in enumerate(list(graph.graph.nodes)):
        if node.target is not torch.ops.aten.linear.default:
            continue
        x, *constants = node.args
        if any(getattr(c, "op", "") != "get_attr" for c in constants if c is not None):
            continue
        weight, *bias = (_attribute(graph, c) for c in constants if c is not None)
        layer = nn.Linear(weight.shape[1], weight.shape[0], bool(bias), device="meta")
        layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
        if bias:
            layer.bias = nn.Parameter(bias[0].detach(), requires_grad=False)
        graph.add_submodule(f"linear_{i}", layer)
        with graph.graph.inserting_before(node):
            call = graph.graph.call_module(f"linear_{i}", (x,))
        node.replace_all_uses_with(call)
        graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _attribute(graph: torch.fx.GraphModule, node: Any) -> Any:
    return torch.fx.graph_module._get_attr(graph, str(node.target))


def weight_bytes(graph: torch.fx.GraphModule, *, quantised: bool) -> int:
    """Bytes of the constants that a float graph refers to; if quantised, with 1 byte a weight of a linear
    layer and 4 a channel."""
    constants, linear = {}, set()
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            constants[node.target] = _attribute(graph, node)
        elif node.target is torch.ops.aten.linear.default and node.args[1].op == "get_attr":
            linear.add(node.args[1].target)
    return sum(
        x.numel() + 4 * x.shape[0] if quantised and name in linear else x.numel() * x.element_size()
        for name, x in constants.items()
        if isinstance(x, torch.Tensor)
    )

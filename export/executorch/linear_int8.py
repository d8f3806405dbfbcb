"""int8 for ExecuTorch: torchao's 8da8w on the linear layers of an exported graph.

Weights have a scale a channel, activations one a row, found in every run. So rows do not influence one
another, and `fill` may be quantised as the decoder layers are, whose rows it stands in for. The stem
stays in float.
"""

from __future__ import annotations

import torch
from torch import nn

from mue_edge.export.quiet import quiet

KEPT_IN_FLOAT = ("stem",)


def quantise(graph: torch.fx.GraphModule) -> None:
    """Give every linear function with constant weights int8 weights, in place.

    Functions become modules first, since torchao quantises modules; a weight that other functions use
    too (a tied table) stays as it is for these.
    """
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, PerAxis, quantize_

    _linears_to_modules(graph)
    with quiet():
        quantize_(
            graph,
            Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int8, weight_granularity=PerAxis(0)),
        )


def _linears_to_modules(graph: torch.fx.GraphModule) -> None:
    for i, node in enumerate(list(graph.graph.nodes)):
        if node.target is not torch.ops.aten.linear.default:
            continue
        x, *constants = node.args
        if any(getattr(c, "op", "") != "get_attr" for c in constants if c is not None):
            continue
        weight, bias = (*(_attribute(graph, c) for c in constants), None)[:2]
        assert weight is not None
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
        layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
        if bias is not None:
            layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
        graph.add_submodule(f"linear_{i}", layer)
        with graph.graph.inserting_before(node):
            made = graph.graph.call_module(f"linear_{i}", (x,))
        node.replace_all_uses_with(made)
        graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _attribute(graph: torch.fx.GraphModule, node: torch.fx.Node | None) -> torch.Tensor | None:
    if node is None:
        return None
    found: torch.Tensor = torch.fx.graph_module._get_attr(graph, str(node.target))
    return found


def weight_bytes(graph: torch.fx.GraphModule, *, quantised: bool) -> int:
    """Bytes of the constants that a float graph refers to; if quantised, with 1 byte a weight of a linear
    layer and 4 a channel."""
    constants, linear = {}, set()
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            value = _attribute(graph, node)
            if isinstance(value, torch.Tensor):
                constants[node.target] = value
        elif node.target is torch.ops.aten.linear.default and node.args[1].op == "get_attr":
            linear.add(node.args[1].target)
    return sum(
        x.numel() + 4 * x.shape[0] if quantised and name in linear else x.numel() * x.element_size()
        for name, x in constants.items()
    )

"""Graphs that XNNPACK takes whole, as one delegate: norms and sums as products with constants.

What stays on the host costs a crossing each: layer norms alone a quarter of a decoder layer's time. An
exported graph is run again with other operators, and traced anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

aten = torch.ops.aten
# A sum over more values goes in two steps: shorter chains of additions, and a shorter constant.
LONGEST_SUM = 1024
# More inputs of one concatenation are no operator of XNNPACK's.
WIDEST_CAT = 5
Rule = Callable[..., Any]


class Friendly(nn.Module):
    """An exported graph with its operators replaced by RULES; takes and returns what the graph does. The
    constants of sums are buffers, made by a call before tracing: as parts of the graph they would be computed
    on the device, and as layers they would be quantised."""

    def __init__(self, inner: torch.fx.GraphModule) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Tensor) -> Any:
        return _Interpreter(self).run(*inputs)

    def ones(self, n: int) -> Tensor:
        """[1, n] of ones: a sum over n values as the weight of a linear layer."""
        name = f"ones_{n}"
        if not hasattr(self, name):
            self.register_buffer(name, torch.ones(1, n))
        return self.get_buffer(name)


class _Interpreter(torch.fx.Interpreter):
    def __init__(self, friendly: Friendly) -> None:
        super().__init__(friendly.inner)
        self._friendly = friendly

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = RULES[target](self._friendly, *args, **kwargs) if target in RULES else NotImplemented
        return super().call_function(target, args, kwargs) if out is NotImplemented else out


def _sum(friendly: Friendly, x: Tensor, dim: Sequence[int], keepdim: bool = False, **options: Any) -> Any:
    """Over the last dimension."""
    if [d % x.dim() for d in dim] != [x.dim() - 1]:
        return NotImplemented
    out = _total(friendly, x)
    return out if keepdim else out.reshape(x.shape[:-1])


def _mean(friendly: Friendly, x: Tensor, dim: Sequence[int], keepdim: bool = False, **options: Any) -> Any:
    out = _sum(friendly, x, dim, keepdim)
    return out if out is NotImplemented else out * (1 / x.shape[-1])


def _total(friendly: Friendly, x: Tensor) -> Tensor:
    """[…, n] → […, 1]."""
    n = x.shape[-1]
    if n > LONGEST_SUM:
        part = max(d for d in range(1, LONGEST_SUM + 1) if n % d == 0)
        if part > 1:
            parts = F.linear(x.reshape(-1, n // part, part), friendly.ones(part))
            return _total(friendly, parts.reshape(*x.shape[:-1], n // part))
    return F.linear(x, friendly.ones(n))


def _layer_norm(
    friendly: Friendly,
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *options: Any,
) -> Any:
    if len(shape) != 1:
        return NotImplemented
    scale = 1 / shape[0]
    centred = x - _total(friendly, x) * scale
    out = centred * torch.rsqrt(_total(friendly, centred * centred) * scale + eps)
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def _select(friendly: Friendly, x: Tensor, dim: int, index: int) -> Tensor:
    dim, index = dim % x.dim(), index % x.shape[dim]
    if x.shape[dim] > 1:
        x = aten.slice.Tensor(x, dim, index, index + 1)
    return x.reshape([*x.shape[:dim], *x.shape[dim + 1 :]])


def _unsqueeze(friendly: Friendly, x: Tensor, dim: int) -> Tensor:
    dim %= x.dim() + 1
    return x.reshape([*x.shape[:dim], 1, *x.shape[dim:]])


def _cat(friendly: Friendly, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    while len(tensors) > WIDEST_CAT:
        groups = [tensors[i : i + WIDEST_CAT] for i in range(0, len(tensors), WIDEST_CAT)]
        tensors = [_cat(friendly, group, dim) for group in groups]
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim)


def _rsub(friendly: Friendly, x: Tensor, other: float, alpha: float = 1) -> Tensor:
    """other − x with a constant of x's type: an integer would be converted on the host in every run."""
    return float(other) - x * alpha if alpha != 1 else float(other) - x


RULES: Mapping[Any, Rule] = {
    aten.layer_norm.default: _layer_norm,
    aten.sum.dim_IntList: _sum,
    aten.mean.dim: _mean,
    aten.select.int: _select,
    aten.unsqueeze.default: _unsqueeze,
    aten.stack.default: lambda friendly, xs, dim=0: _cat(friendly, [_unsqueeze(friendly, x, dim) for x in xs], dim),
    aten.cat.default: _cat,
    aten.to.dtype: lambda friendly, x, dtype, *options: x if x.dtype == dtype else NotImplemented,
    aten.rsub.Scalar: _rsub,
    aten._assert_tensor_metadata.default: lambda friendly, *args, **options: None,
}


def friendly(graph: torch.fx.GraphModule, inputs: Sequence[Tensor]) -> Friendly:
    """The graph in XNNPACK's words, ready to be traced."""
    module = Friendly(graph)
    with torch.no_grad():
        module(*inputs)
    return module

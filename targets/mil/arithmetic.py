"""Operations on single values, and reductions of several to one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mue_edge.targets.mil.arguments import Arguments, Rule

# `cast` names types in words of its own.
_DTYPES = {"fp16": torch.float32, "fp32": torch.float32, "bool": torch.bool}


def _unary(function: Callable[[Tensor], Tensor]) -> Rule:
    return lambda a: function(a.tensor())


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    return lambda a: function(a.tensor("x"), a.tensor("y"))


def _reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Rule:
    def rule(a: Arguments) -> Tensor:
        x = a.tensor()
        return function(x, a.wholes("axes", list(range(x.dim()))), a.flag("keep_dims"))

    return rule


def _rsqrt(a: Arguments) -> Tensor:
    return torch.rsqrt(a.tensor() + a.number("epsilon", 1e-12))


def _log(a: Arguments) -> Tensor:
    return torch.log(a.tensor() + a.number("epsilon", 1e-45))


def _clip(a: Arguments) -> Tensor:
    return a.tensor().clamp(a.number("alpha", -torch.inf), a.number("beta", torch.inf))


def _cast(a: Arguments) -> Tensor:
    """The evaluator makes halves of floats, by its mode, and sees that whole numbers fit their type."""
    return a.tensor().to(_DTYPES.get(a.text("dtype", "fp32"), torch.int32))


def _select(a: Arguments) -> Tensor:
    return torch.where(a.tensor("cond"), a.tensor("a"), a.tensor("b"))


OPERATIONS: Mapping[str, Rule] = {
    "abs": _unary(torch.abs),
    "exp": _unary(torch.exp),
    "sigmoid": _unary(torch.sigmoid),
    "tanh": _unary(torch.tanh),
    "relu": _unary(torch.relu),
    "sqrt": _unary(torch.sqrt),
    "rsqrt": _rsqrt,
    "log": _log,
    "clip": _clip,
    "cast": _cast,
    "select": _select,
    "add": _binary(torch.add),
    "sub": _binary(torch.sub),
    "mul": _binary(torch.mul),
    "real_div": _binary(torch.div),
    "maximum": _binary(torch.maximum),
    "greater_equal": _binary(torch.ge),
    "reduce_sum": _reduction(lambda x, axes, keep: x.sum(axes, keepdim=keep)),
    "reduce_mean": _reduction(lambda x, axes, keep: x.mean(axes, keepdim=keep)),
    "reduce_max": _reduction(lambda x, axes, keep: x.amax(axes, keepdim=keep)),
    "reduce_l2_norm": _reduction(lambda x, axes, keep: (x * x).sum(axes, keepdim=keep).sqrt()),
}

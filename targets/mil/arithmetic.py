"""Operations that compute: on single values, reductions of several to one, and the layers of networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from mue_edge.errors import InputFileError
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
        return function(x, a.integers("axes", list(range(x.dim()))), a.flag("keep_dims"))

    return rule


def _cast(a: Arguments) -> Tensor:
    """The evaluator makes halves of floats, by its mode, and sees that whole numbers fit their type."""
    return a.tensor().to(_DTYPES.get(a.text("dtype", "fp32"), torch.int32))


def _matmul(a: Arguments) -> Tensor:
    x, y = a.tensor("x"), a.tensor("y")
    return torch.matmul(
        x.transpose(-1, -2) if a.flag("transpose_x") else x, y.transpose(-1, -2) if a.flag("transpose_y") else y
    )


def _padded(a: Arguments, fill: float) -> Tensor:
    """x [n, c, H, W] with the padding that the operation names around its last two dimensions."""
    kind = a.text("pad_type", "valid")
    if kind == "valid":
        return a.tensor()
    if kind != "custom":
        raise InputFileError(f"padding {kind!r} is not evaluated here")
    top, bottom, left, right = a.integers("pad", [0, 0, 0, 0])
    return F.pad(a.tensor(), (left, right, top, bottom), value=fill)


def _conv(a: Arguments) -> Tensor:
    weight, strides, dilations = (a.tensor("weight"), a.integers("strides", [1, 1]), a.integers("dilations", [1, 1]))
    if weight.dim() != 4:
        raise InputFileError("convolutions other than of pictures are not evaluated here")
    groups = a.integer("groups", 1)
    return F.conv2d(_padded(a, 0.0), weight, a.optional("bias"), strides, 0, dilations, groups)


def _max_pool(a: Arguments) -> Tensor:
    sizes = a.integers("kernel_sizes", [])
    if len(sizes) != 2 or a.flag("ceil_mode"):
        raise InputFileError("this kind of max_pool is not evaluated here")
    return F.max_pool2d(_padded(a, -torch.inf), sizes, a.integers("strides", [1, 1]))


def _layer_norm(a: Arguments) -> Tensor:
    """Over the last axes, as our segments have it."""
    x = a.tensor()
    axes = sorted(axis % x.dim() for axis in a.integers("axes", list(range(x.dim()))))
    if axes != list(range(axes[0], x.dim())):
        raise InputFileError(f"layer_norm over axes {axes} of {x.dim()} is not evaluated here")
    epsilon = a.number("epsilon", 1e-5)
    return F.layer_norm(x, x.shape[axes[0] :], a.optional("gamma"), a.optional("beta"), epsilon)


_GELU: Mapping[str, Callable[[Tensor], Tensor]] = {
    "EXACT": F.gelu,
    "TANH_APPROXIMATION": lambda x: F.gelu(x, approximate="tanh"),
    "SIGMOID_APPROXIMATION": lambda x: x * torch.sigmoid(1.702 * x),
}


def _gelu(a: Arguments) -> Tensor:
    mode = a.text("mode", "EXACT")
    if mode not in _GELU:
        raise InputFileError(f"gelu has no mode {mode!r}")
    return _GELU[mode](a.tensor())


OPERATIONS: Mapping[str, Rule] = {
    **{name: _unary(getattr(torch, name)) for name in ("abs", "exp", "sigmoid", "tanh", "relu", "sqrt")},
    "add": _binary(torch.add),
    "sub": _binary(torch.sub),
    "mul": _binary(torch.mul),
    "real_div": _binary(torch.div),
    "maximum": _binary(torch.maximum),
    "greater_equal": _binary(torch.ge),
    "rsqrt": lambda a: torch.rsqrt(a.tensor() + a.number("epsilon", 1e-12)),
    "log": lambda a: torch.log(a.tensor() + a.number("epsilon", 1e-45)),
    "clip": lambda a: a.tensor().clamp(a.number("alpha", -torch.inf), a.number("beta", torch.inf)),
    "cast": _cast,
    "select": lambda a: torch.where(a.tensor("cond"), a.tensor("a"), a.tensor("b")),
    "reduce_sum": _reduction(lambda x, axes, keep: x.sum(axes, keepdim=keep)),
    "reduce_mean": _reduction(lambda x, axes, keep: x.mean(axes, keepdim=keep)),
    "reduce_max": _reduction(lambda x, axes, keep: x.amax(axes, keepdim=keep)),
    "reduce_l2_norm": _reduction(lambda x, axes, keep: (x * x).sum(axes, keepdim=keep).sqrt()),
    "linear": lambda a: F.linear(a.tensor(), a.tensor("weight"), a.optional("bias")),
    "matmul": _matmul,
    "conv": _conv,
    "max_pool": _max_pool,
    "layer_norm": _layer_norm,
    "gelu": _gelu,
    "softmax": lambda a: torch.softmax(a.tensor(), a.integer("axis", -1)),
}

"""Operations that networks are made of: products, convolutions, norms, activations."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from mue_edge.errors import InputFileError
from mue_edge.targets.mil.arguments import Arguments, Rule


def _linear(a: Arguments) -> Tensor:
    return F.linear(a.tensor(), a.tensor("weight"), a.tensor("bias") if a.has("bias") else None)


def _matmul(a: Arguments) -> Tensor:
    x, y = a.tensor("x"), a.tensor("y")
    return torch.matmul(
        x.transpose(-1, -2) if a.flag("transpose_x") else x,
        y.transpose(-1, -2) if a.flag("transpose_y") else y,
    )


def _padded(a: Arguments, spatial: int, fill: float) -> Tensor:
    """x with the padding that the operation names around its last dimensions."""
    kind = a.text("pad_type", "valid")
    if kind == "valid":
        return a.tensor()
    if kind != "custom":
        raise InputFileError(f"padding {kind!r} is not evaluated here")
    pairs = a.wholes("pad", [0] * 2 * spatial)  # begin and end of each dimension; torch: the last one first
    flipped = [pairs[2 * i + side] for i in reversed(range(spatial)) for side in (0, 1)]
    return F.pad(a.tensor(), flipped, value=fill)


def _conv(a: Arguments) -> Tensor:
    weight = a.tensor("weight")
    if weight.dim() != 4:
        raise InputFileError("convolutions other than of pictures are not evaluated here")
    return F.conv2d(
        _padded(a, 2, 0.0), weight, a.tensor("bias") if a.has("bias") else None,
        stride=a.wholes("strides", [1, 1]), dilation=a.wholes("dilations", [1, 1]),
        groups=a.whole("groups", 1),
    )  # fmt: skip


def _max_pool(a: Arguments) -> Tensor:
    sizes = a.wholes("kernel_sizes", [])
    if len(sizes) != 2 or a.flag("ceil_mode"):
        raise InputFileError("this kind of max_pool is not evaluated here")
    return F.max_pool2d(_padded(a, 2, -torch.inf), sizes, a.wholes("strides", [1, 1]))


def _layer_norm(a: Arguments) -> Tensor:
    """Over the last axes, as our segments have it."""
    x = a.tensor()
    axes = sorted(axis % x.dim() for axis in a.wholes("axes", list(range(x.dim()))))
    if axes != list(range(axes[0], x.dim())):
        raise InputFileError(f"layer_norm over axes {axes} of {x.dim()} is not evaluated here")
    gamma, beta = (a.tensor(name) if a.has(name) else None for name in ("gamma", "beta"))
    return F.layer_norm(x, x.shape[axes[0] :], gamma, beta, a.number("epsilon", 1e-5))


def _gelu(a: Arguments) -> Tensor:
    x, mode = a.tensor(), a.text("mode", "EXACT")
    if mode == "EXACT":
        return F.gelu(x)
    if mode == "TANH_APPROXIMATION":
        return F.gelu(x, approximate="tanh")
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    raise InputFileError(f"gelu has no mode {mode!r}")


def _softmax(a: Arguments) -> Tensor:
    return torch.softmax(a.tensor(), a.whole("axis", -1))


OPERATIONS: Mapping[str, Rule] = {
    "linear": _linear,
    "matmul": _matmul,
    "conv": _conv,
    "max_pool": _max_pool,
    "layer_norm": _layer_norm,
    "gelu": _gelu,
    "softmax": _softmax,
}

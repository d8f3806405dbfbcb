"""Each group of operations against numpy's or torch's own, in programs made by coremltools."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

pytest.importorskip("coremltools", reason="pip install 'mue-edge[coreml]'")


from tests.targets.mil.made import mb, outputs

Array = NDArray[Any]
rng = np.random.Generator(np.random.PCG64(1))
X = rng.standard_normal((2, 3, 4)).astype(np.float32)
Y = rng.standard_normal((2, 3, 4)).astype(np.float32)
PICTURE = rng.standard_normal((1, 3, 9, 8)).astype(np.float32)
FILTERS = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
WEIGHT = rng.standard_normal((5, 4)).astype(np.float32)
BIAS = rng.standard_normal(5).astype(np.float32)
GAMMA, BETA = (rng.standard_normal(4).astype(np.float32) for _ in range(2))
T = torch.from_numpy


def layer_norm(x: Array, epsilon: float) -> Array:
    scale = np.sqrt(x.var(-1, keepdims=True) + epsilon)
    return (x - x.mean(-1, keepdims=True)) / scale * GAMMA + BETA


def conv(x: Any) -> Any:
    return mb.conv(x=x, weight=FILTERS, pad_type="custom", pad=[1, 0, 2, 1], strides=[2, 1])


CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "abs": (lambda x: mb.abs(x=x), lambda x: np.abs(x)),
    "exp": (lambda x: mb.exp(x=x), lambda x: np.exp(x)),
    "sigmoid": (lambda x: mb.sigmoid(x=x), lambda x: 1 / (1 + np.exp(-x))),
    "tanh": (lambda x: mb.tanh(x=x), lambda x: np.tanh(x)),
    "relu": (lambda x: mb.relu(x=x), lambda x: np.maximum(x, 0)),
    "sqrt": (lambda x: mb.sqrt(x=mb.abs(x=x)), lambda x: np.sqrt(np.abs(x))),
    "rsqrt": (
        lambda x: mb.rsqrt(x=mb.abs(x=x), epsilon=0.25),
        lambda x: 1 / np.sqrt(np.abs(x) + 0.25),
    ),
    "log": (lambda x: mb.log(x=mb.abs(x=x), epsilon=0.5), lambda x: np.log(np.abs(x) + 0.5)),
    "clip": (lambda x: mb.clip(x=x, alpha=-0.5, beta=0.25), lambda x: np.clip(x, -0.5, 0.25)),
    "cast": (
        lambda x: mb.cast(x=mb.cast(x=x, dtype="int32"), dtype="fp32"),
        lambda x: np.trunc(x),
    ),
    "select": (
        lambda x, y: mb.select(cond=mb.greater_equal(x=x, y=y), a=x, b=y),
        lambda x, y: np.maximum(x, y),
    ),
    "greater_equal": (
        lambda x, y: mb.cast(x=mb.greater_equal(x=mb.maximum(x=x, y=y), y=x), dtype="fp32"),
        lambda x, y: np.ones_like(x),
    ),
    "add": (lambda x, y: mb.add(x=x, y=y), np.add),
    "sub": (lambda x, y: mb.sub(x=x, y=y), np.subtract),
    "mul": (lambda x, y: mb.mul(x=x, y=y), np.multiply),
    "real_div": (lambda x, y: mb.real_div(x=x, y=y), np.divide),
    "maximum": (lambda x, y: mb.maximum(x=x, y=y), np.maximum),
    "reduce_sum": (lambda x: mb.reduce_sum(x=x, axes=[1]), lambda x: x.sum(1)),
    "reduce_mean": (
        lambda x: mb.reduce_mean(x=x, axes=[0, -1], keep_dims=True),
        lambda x: x.mean((0, 2), keepdims=True),
    ),
    "reduce_max": (lambda x: mb.reduce_max(x=x, axes=[-1]), lambda x: x.max(-1)),
    "reduce_l2_norm": (
        lambda x: mb.reduce_l2_norm(x=x, axes=[-1]),
        lambda x: np.sqrt((x * x).sum(-1)),
    ),
    "reshape": (lambda x: mb.reshape(x=x, shape=[0, 2, -1]), lambda x: x.reshape(2, 2, 6)),
    "transpose": (lambda x: mb.transpose(x=x, perm=[2, 0, 1]), lambda x: x.transpose(2, 0, 1)),
    "expand_dims": (lambda x: mb.expand_dims(x=x, axes=[0, -1]), lambda x: x[None, ..., None]),
    "squeeze": (
        lambda x: mb.squeeze(x=mb.reshape(x=x, shape=[1, 6, 1, 4]), axes=[2]),
        lambda x: x.reshape(1, 6, 4),
    ),
    "concat": (lambda x, y: mb.concat(values=[x, y], axis=-1), lambda x, y: np.concatenate([x, y], -1)),
    "stack": (lambda x, y: mb.stack(values=[x, y], axis=1), lambda x, y: np.stack([x, y], 1)),
    "slice_by_index": (
        lambda x: mb.slice_by_index(
            x=x, begin=[1, 0, -3], end=[0, 2, 0], stride=[1, 1, 2], begin_mask=[False, True, False],
            end_mask=[False, False, True], squeeze_mask=[True, False, False],
        ),
        lambda x: x[1, :2, -3::2],
    ),
    "gather": (
        lambda x: mb.gather(x=x, indices=[[2, 0], [1, 1]], axis=1),
        lambda x: x[:, [[2, 0], [1, 1]]],
    ),
    "gather from the end": (
        lambda x: mb.gather(x=x, indices=[-1, 0, -3], axis=1),
        lambda x: x[:, [-1, 0, -3]],
    ),
    "linear": (lambda x: mb.linear(x=x, weight=WEIGHT, bias=BIAS), lambda x: x @ WEIGHT.T + BIAS),
    "matmul": (
        lambda x, y: mb.matmul(x=x, y=y, transpose_y=True),
        lambda x, y: x @ y.transpose(0, 2, 1),
    ),
    "matmul of a transposed x": (
        lambda x, y: mb.matmul(x=x, y=y, transpose_x=True),
        lambda x, y: x.transpose(0, 2, 1) @ y,
    ),
    "softmax": (
        lambda x: mb.softmax(x=x, axis=1),
        lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True),
    ),
    "layer_norm": (
        lambda x: mb.layer_norm(x=x, axes=[-1], gamma=GAMMA, beta=BETA, epsilon=0.125),
        lambda x: layer_norm(x, 0.125),
    ),
    "gelu": (lambda x: mb.gelu(x=x), lambda x: F.gelu(T(x)).numpy()),
    "gelu tanh": (
        lambda x: mb.gelu(x=x, mode="TANH_APPROXIMATION"),
        lambda x: F.gelu(T(x), approximate="tanh").numpy(),
    ),
    "gelu sigmoid": (
        lambda x: mb.gelu(x=x, mode="SIGMOID_APPROXIMATION"),
        lambda x: x / (1 + np.exp(-1.702 * x)),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Array]:
    """Of every case, out of one program: converting is what takes the time."""

    def together(x: Any, y: Any) -> list[Any]:
        return [build(*(x, y)[: build.__code__.co_argcount]) for build, _ in CASES.values()]

    found = outputs(tmp_path_factory.mktemp("operations"), together, {"x": X, "y": Y})
    return dict(zip(CASES, found, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_operation_equals_numpy(name: str, answers: dict[str, Array]) -> None:
    build, wanted = CASES[name]
    given = (X, Y)[: build.__code__.co_argcount]
    np.testing.assert_allclose(answers[name], wanted(*given), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ascending", [False, True])
def test_topk(ascending: bool, tmp_path: Path) -> None:
    build = lambda x: mb.topk(x=x, k=2, axis=-1, ascending=ascending)
    values, ids = outputs(tmp_path, build, {"x": X})
    order = np.argsort(X if ascending else -X, -1)[..., :2]
    assert np.array_equal(ids, order)
    np.testing.assert_array_equal(values, np.take_along_axis(X, order, -1))


def test_convolution_with_uneven_padding(tmp_path: Path) -> None:
    (found,) = outputs(tmp_path, conv, {"x": PICTURE})
    padded = F.pad(T(PICTURE), (2, 1, 1, 0))
    np.testing.assert_allclose(found, F.conv2d(padded, T(FILTERS), stride=(2, 1)).numpy(), rtol=1e-4, atol=1e-5)


def test_convolution_in_groups_and_dilated(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        return mb.conv(x=x, weight=FILTERS[:3, :1], groups=3, dilations=[2, 3])

    (found,) = outputs(tmp_path, build, {"x": PICTURE})
    wanted = F.conv2d(T(PICTURE), T(FILTERS[:3, :1]), groups=3, dilation=(2, 3)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_pooling(tmp_path: Path) -> None:
    def pool(x: Any) -> Any:
        return mb.max_pool(x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1])

    (found,) = outputs(tmp_path, pool, {"x": PICTURE})
    np.testing.assert_array_equal(found, F.max_pool2d(T(PICTURE), 3, 2, 1).numpy())

"""Arrays without NumPy against NumPy itself: every operation that the phone's path makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mue_edge import plain
from mue_edge.errors import EnvironmentLacksError

RANDOM = np.random.Generator(np.random.PCG64(7))
DTYPES = ("float32", "float16", "int32", "int64", "uint8")
SHAPES = [(), (5,), (0,), (2, 3), (2, 0, 3), (2, 3, 4), (3, 1, 2, 4)]


def both(shape: tuple[int, ...], dtype: str) -> tuple[np.ndarray[Any, Any], Any]:
    values = np.asarray(RANDOM.uniform(0, 200, shape)).astype(dtype)
    return values, plain.frombuffer(values.tobytes(), dtype).reshape(shape)


def same(ours: Any, theirs: np.ndarray[Any, Any]) -> None:
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    assert ours.tobytes() == theirs.tobytes() and ours.tolist() == theirs.tolist()


@st.composite
def keyed(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """A shape, and an index of the kinds that are known."""
    shape = draw(st.sampled_from([shape for shape in SHAPES if 0 not in shape]))
    keys: list[Any] = []
    listed = draw(st.booleans())
    for size in shape[: draw(st.integers(0, len(shape)))]:
        kind = draw(st.sampled_from(["number", "slice", "list" if listed else "slice"]))
        if kind == "number":
            keys.append(draw(st.integers(-size, size - 1)))
        elif kind == "slice":
            keys.append(slice(draw(st.none() | st.integers(-1, size)), draw(st.none() | st.integers(0, size))))
        else:
            listed = False
            keys.append(draw(st.lists(st.integers(-size, size - 1), min_size=1, max_size=4, unique=True)))
    if not any(isinstance(key, list) for key in keys):  # NumPy moves a list's axis if they stand apart
        for new in (None, ...):
            if draw(st.booleans()):
                keys.insert(draw(st.integers(0, len(keys))), new)
    elif any(not isinstance(key, list) for key in keys):
        numbers = [i for i, key in enumerate(keys) if not isinstance(key, slice)]
        if numbers != list(range(numbers[0], numbers[-1] + 1)):
            keys = [slice(None) if isinstance(key, int) else key for key in keys]
    return shape, tuple(keys)


@given(keyed(), st.sampled_from(DTYPES))
def test_parts(case: tuple[tuple[int, ...], tuple[Any, ...]], dtype: str) -> None:
    shape, key = case
    theirs, ours = both(shape, dtype)
    try:
        wanted = theirs[key]
    except IndexError:  # an ellipsis moves numbers to shorter axes
        with pytest.raises(IndexError):
            ours[key]
        return
    same(ours[key], np.asarray(wanted))


@given(keyed(), st.sampled_from(DTYPES), st.sampled_from(DTYPES))
def test_assigned(case: tuple[tuple[int, ...], tuple[Any, ...]], dtype: str, other: str) -> None:
    shape, key = case
    theirs, ours = both(shape, dtype)
    try:
        part = np.asarray(theirs[key])
    except IndexError:
        return
    for given_shape in {part.shape, part.shape[1:], (1,) * part.ndim}:
        value, mine = both(given_shape, other)
        theirs[key], ours[key] = value, mine
        same(ours, theirs)
    theirs[key] = ours[key] = 3
    same(ours, theirs)


def test_a_part_is_a_view() -> None:
    theirs, ours = both((2, 3, 4), "float32")
    theirs[1].transpose(1, 0)[2:] = 5
    ours[1].transpose(1, 0)[2:] = 5
    same(ours, theirs)
    same(ours.transpose(2, 0, 1)[1:], theirs.transpose(2, 0, 1)[1:])
    for shape in (6, 4), [2, 3, 4], (24,):
        same(ours.transpose(2, 0, 1).reshape(shape), theirs.transpose(2, 0, 1).reshape(shape))
    same(ours.reshape(6, 4), theirs.reshape(6, 4))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_types(shape: tuple[int, ...], dtype: str) -> None:
    theirs, ours = both(shape, "float32")
    same(ours.astype(dtype), theirs.astype(dtype))
    same(plain.zeros(shape, dtype), np.zeros(shape, dtype))
    same(plain.full(shape, 7, dtype), np.full(shape, 7, dtype))
    assert plain.dtype(dtype).itemsize == np.dtype(dtype).itemsize


def test_halves_round_as_numpys() -> None:
    hard = [0.1, -1e4, 65504, 65519.9, 65520, 1e6, -7e4, 2**-24, 2**-25, 1 + 2**-11, 1 + 3 * 2**-11, -0.0]
    with np.errstate(over="ignore"):
        same(plain.array(hard, "float16"), np.array(hard, "float16"))


@pytest.mark.parametrize("shapes", [((2, 3), (3,)), ((2, 1, 3), (4, 1)), ((3,), (3,)), ((2, 2), ())])
def test_sums_and_differences(shapes: tuple[tuple[int, ...], ...]) -> None:
    (a, mine), (b, other) = (both(shape, "float32") for shape in shapes)
    operations: list[Callable[[Any, Any], Any]] = [lambda x, y: x + y, lambda x, y: x - y]
    for operation in operations:
        same(operation(mine, other), operation(a, b))


def test_a_table_is_expanded() -> None:
    theirs, ours = both((2, 5, 3), "float32")
    index, mine = np.array([[0, 4, 1], [2, 2, 3]], np.int32), plain.array([[0, 4, 1], [2, 2, 3]], "int32")
    same(plain.take(ours.transpose(0, 2, 1), mine, 2), np.take(theirs.transpose(0, 2, 1), index, 2))
    same(plain.take(ours, plain.array([[2]], "int32"), 2), np.take(theirs, np.array([[2]]), 2))


@pytest.mark.parametrize("values", [3, 2.5, [1, 2], [1.5, 2], [[1, 2], [3, 4]], (0.5, 1), [], range(3)])
def test_arrays_of_numbers(values: Any) -> None:
    same(plain.array(values, "float32"), np.array(values, "float32"))
    if values != []:
        same(plain.asarray(values), np.asarray(values))
    held = plain.array(values, "float32")
    assert plain.asarray(held) is held and plain.asarray(held, "float32") is held


def test_what_does_not_fit_is_an_error() -> None:
    _, ours = both((2, 3), "float32")
    with pytest.raises(ValueError, match="does not fit"):
        ours[...] = plain.zeros((2, 2), "float32")
    with pytest.raises(IndexError):
        ours[2]
    with pytest.raises(IndexError):
        ours[0, 0, 0]
    with pytest.raises(ValueError, match="do not have the shape"):
        ours.reshape(4, 2)
    with pytest.raises(EnvironmentLacksError, match=r"needs numpy \(einsum\)"):
        plain.einsum  # noqa: B018

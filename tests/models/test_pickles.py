"""The stack machine: plain values come out as they went in, all else is inert or a typed error."""

from __future__ import annotations

import argparse
import collections
import contextlib
import enum
import io
import pickle
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mue_edge.errors import InputFileError
from mue_edge.models import pickles
from mue_edge.models.pickle_values import Attributes, Global, Placeholder
from tests.models.crafted import END, Raw, call, code, name, text

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def read(data: bytes) -> Any:
    return pickles.read(io.BytesIO(data))


def plain_values() -> st.SearchStrategy[Any]:
    atoms = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text()
        | st.binary()
        | st.binary().map(bytearray)
        | st.complex_numbers(allow_nan=False)
    )
    keys = st.integers() | st.text() | st.tuples(st.integers(), st.text()) | st.binary()
    return st.recursive(
        atoms,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.lists(inner, max_size=4).map(tuple)
            | st.dictionaries(keys, inner, max_size=4)
            | st.sets(keys, max_size=4)
            | st.frozensets(keys, max_size=4)
            | st.dictionaries(keys, inner, max_size=3).map(collections.OrderedDict)
        ),
        max_leaves=12,
    )


@settings(max_examples=150, deadline=None)
@given(plain_values(), st.sampled_from(PROTOCOLS))
def test_plain_values_come_back(value: Any, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol=protocol)) == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_and_circular_values(protocol: int) -> None:
    shared = [1]
    loop: list[Any] = [shared, shared]
    loop.append(loop)
    got = read(pickle.dumps(loop, protocol=protocol))
    assert got[0] is got[1] and got[2] is got


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_namespaces(protocol: int) -> None:
    value = argparse.Namespace(a=1, b=argparse.Namespace(c=(2, None)))
    got = read(pickle.dumps(value, protocol=protocol))
    assert got == {"a": 1, "b": {"c": (2, None)}}
    assert isinstance(got, Attributes) and isinstance(got["b"], Attributes)


SCALARS = [
    *(np.float64(2.5), np.float32(-1.5), np.float16(0.25), np.int64(-7), np.uint8(255), np.bool_(True)),
    *(np.str_("words"), np.bytes_(b"ab"), np.dtype(">f4").type(3), np.float64("inf")),
]


@pytest.mark.parametrize("core", [b"_core", b"core"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_scalars_under_both_names(protocol: int, core: bytes) -> None:
    for value in SCALARS:
        data = pickle.dumps({"best": value}, protocol=protocol)
        if protocol < 4:  # a name of another length would not fit the newer frames
            data = data.replace(b"numpy._core.", b"numpy." + core + b".")
        got = read(data)["best"]
        assert got == value.item() and type(got) is type(value.item())


def test_numpy_byte_order_and_what_is_no_number() -> None:
    def scalar(kind: str, order: str, data: bytes) -> Any:
        dtype = call(name("numpy", "dtype"), kind, False, True)
        dtype += code((3, order, None, None, None, -1, -1, 0)) + b"b"
        raw = b"C" + bytes([len(data)]) + data
        return read(name("numpy.core.multiarray", "scalar") + b"(" + dtype + raw + b"tR" + END)

    assert scalar("f8", ">", struct.pack(">d", 1.25)) == 1.25
    assert scalar("i4", "<", struct.pack("<i", -3)) == -3
    for kind, order, data in (
        *(("O8", "|", bytes(8)), ("f8", "<", b"short"), ("f8", "?", bytes(8)), ("V8", "|", bytes(8))),
        *(("M8", "<", bytes(8)), ("f16", "<", bytes(16)), ("f8,f8", "<", bytes(16)), ("U0", "<", b"")),
    ):
        assert isinstance(scalar(kind, order, data), Placeholder)


class Colour(enum.Enum):
    RED = "red"


class Own:
    def __init__(self) -> None:
        self.x = [np.arange(3)]


class OwnList(list):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_all_else_is_inert_and_says_its_name(protocol: int) -> None:
    here = __name__
    for value, said in (
        (Own(), f"{here}.Own"),
        (Colour.RED, f"{here}.Colour"),
        (OwnList([1, 2]), f"{here}.OwnList"),
        (np.arange(3), None),
        (collections.defaultdict(list, a=1), "collections.defaultdict"),
        (collections.deque([1]), "collections.deque"),
        (Own, f"{here}.Own"),
        (len, None),
    ):
        got = read(pickle.dumps({"value": value, "after": 1}, protocol=protocol))
        assert got["after"] == 1
        assert isinstance(got["value"], (Placeholder, Global))
        assert said is None or got["value"].name.startswith(said)


def test_enums_of_fairseq_are_names() -> None:
    owner = name("fairseq.dataclass.constants", "DDP_BACKEND_CHOICES")
    assert read(call(owner, "pytorch_ddp") + END) == "pytorch_ddp"
    assert read(call(name("builtins", "getattr"), *map(Raw, (owner, text("none")))) + END) == "none"
    other = call(name("builtins", "getattr"), Raw(name("posix", "path")), "system") + END
    assert read(other).name == "posix.path.system"


DAMAGED = {
    "nothing": b"",
    "no end": b"N",
    "nothing on the stack": b".",
    "no mark": b"t.",
    "unknown instruction": b"\xff.",
    "a list for a key": b"}]Ns.",
    "a dict for a key": b"}(}Nu.",
    "a key in a key": b"}((]tNu.",
    "odd number of entries": b"}(Nu.",
    "a set of lists": b"\x8f(]\x90.",
    "append to a number": b"K\x01K\x01a.",
    "entry of a number": b"K\x01K\x01K\x01s.",
    "unknown memo": b"h\x05.",
    "number too long": b"L" + b"9" * 5000 + b"L\n.",
    "text cut short": b"X\xff\xff\xff\x7fabc",
    "bytes larger than memory": b"\x8e" + b"\xff" * 7 + b"\x7f" + b"abc",
    "bad text": b"X\x01\x00\x00\x00\xff.",
    "extension": b"\x82\x01.",
    "buffer": b"\x97.",
    "name that is no text": b"K\x01K\x02\x93.",
    "class under no mark": b"o.",
    "key nested deeply": b"}" + b")" + b"\x85" * 100_000 + b"Ns.",
    "key too large": b"}(" + b"N" * 2000 + b"tNs.",
    "key of many digits": b"}" + b"\x8b" + struct.pack("<i", 9000) + b"\x01" * 9000 + b"Ns.",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_pickles_are_typed_errors(case: str) -> None:
    with pytest.raises(InputFileError, match="pickle"):
        read(DAMAGED[case])


def test_far_memo_and_deep_nesting_cost_nothing() -> None:
    assert read(b"Nr\xff\xff\xff\xff0j\xff\xff\xff\xff.") is None
    got = read(b"]" * 200_000 + b"a" * 199_999 + b".")
    assert isinstance(got, list)
    assert isinstance(read(b")" + b"\x85" * 200_000 + b"."), tuple)
    assert read(b"K\x01" + b"\x8b" + struct.pack("<i", 9000) + b"\x01" * 9000 + b"\x86.")[0] == 1


def test_bombs_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MOST_STEPS", 1000)
    monkeypatch.setattr(pickles, "MOST_COPIED", 10_000)
    with pytest.raises(InputFileError, match="more than 1000 instructions"):
        read(b"N0" * 1000 + b"N.")
    for argument, function in (("x" * 500, ("_codecs", "encode")), ([1] * 100, ("builtins", "list"))):
        once = name(*function) + b"h\x01\x85R0"
        with pytest.raises(InputFileError, match="copies the same values"):
            read(code(argument) + b"q\x01" + once * 60 + END)
    state = code({str(i): i for i in range(50)}) + b"q\x01"
    update = name("argparse", "Namespace") + b")\x81h\x01b0"
    with pytest.raises(InputFileError, match="copies the same values"):
        read(state + update * 30 + END)


def test_names_stay_short_and_printable() -> None:
    long = read(text("a" * 10_000) + text("b\n\x1b[31m" * 1000) + b"\x93)R" + END)
    assert len(long.name) < 700 and long.name.isprintable()
    grown = name("builtins", "getattr") + b"h\x01" + text("x" * 50) + b"\x86Rq\x01"
    assert len(read(name("a", "b") + b"q\x01" + grown * 50 + END).name) <= 160


HONEST = [
    pickle.dumps(value, protocol=protocol)
    for protocol in PROTOCOLS
    for value in (
        {"a": [1, 2.5, "x", None, (True, b"y")], "s": {1, 2}, "f": frozenset([3])},
        {"n": argparse.Namespace(a=np.float64(1)), "e": Colour.RED, "o": Own(), "l": OwnList([1])},
        collections.OrderedDict(a=bytearray(b"z"), b=np.arange(3)),
    )
]


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(HONEST), st.data())
def test_mutated_pickles_are_values_or_typed_errors(honest: bytes, data: st.DataObject) -> None:
    changed = bytearray(honest)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        how = data.draw(st.sampled_from(["replace", "insert", "delete", "cut", "copy"]))
        if how == "replace":
            changed[at] = data.draw(st.integers(0, 255))
        elif how == "insert":
            changed[at:at] = data.draw(st.binary(min_size=1, max_size=5))
        elif how == "delete":
            del changed[at : at + 1]
        elif how == "copy":
            changed[at:at] = changed[at // 2 : at // 2 + 20]
        else:
            del changed[at + 1 :]
        if not changed:
            break
    with contextlib.suppress(InputFileError):
        read(bytes(changed))

"""A reader of pickles that runs nothing: no class or function that a file names is ever looked up.

A pickle is a program for a stack machine. This is such a machine, but what a file names stays a
name (`Global`). A call of a name gives a plain value if the name has a meaning here (the table in
`pickle_values` and the caller's), else a `Placeholder`, which takes every further instruction and
does nothing.
"""

from __future__ import annotations

import pickletools
import struct
import warnings
from collections.abc import Callable, Mapping
from typing import IO, Any

from mue_edge.errors import InputFileError
from mue_edge.models.pickle_values import MEANINGS, Global, Placeholder, build, call, key, pairs

# Far above what checkpoints hold (a large one: half a million), low enough to end within a minute.
MOST_STEPS = 10_000_000
# What calls may copy, in characters and sixteenths of an entry: a copy costs a file only few bytes.
MOST_COPIED = 256 << 20

Meaning = Callable[..., Any]
# What a damaged stream makes of lookups, conversions, hashes and nesting.
_DAMAGE = (
    *(ValueError, LookupError, TypeError, OverflowError, AttributeError, struct.error),
    *(RecursionError, MemoryError, AssertionError),
)


def read(
    file: IO[bytes],
    meanings: Mapping[str, Meaning] | None = None,
    persistent: Callable[[Any], Any] = lambda _: Placeholder("a persistent id"),
) -> Any:
    """The value of the next pickle in `file`, which is read up to its end and no further.

    `meanings`: what calls of further names give, from the call's arguments. `persistent`: the value
    of a persistent id. Raises InputFileError for all that is no sound pickle, and for one too large.
    """
    machine = _Machine({**MEANINGS, **(meanings or {})}, persistent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in text
            return machine.run(file)
    except _DAMAGE as problem:
        kind = type(problem).__name__
        raise InputFileError(f"its pickle is damaged ({kind}: {str(problem)[:100] or kind!a})") from problem


class _Machine:
    """The stack, the stacks under its marks, and the memo."""

    def __init__(self, meanings: Mapping[str, Meaning], persistent: Callable[[Any], Any]) -> None:
        self.meanings, self.persistent = meanings, persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def run(self, file: IO[bytes]) -> Any:
        for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
            if count > MOST_STEPS:
                raise InputFileError(f"its pickle has more than {MOST_STEPS} instructions")
            if operation.name in _PUSHED:
                self.push(argument)
            else:
                _STEPS[operation.name](self, argument)
        return self.stack.pop()

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def marked(self) -> list[Any]:
        """All above the last mark, taken off with it."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def call(self, function: Any, arguments: Any) -> None:
        if not isinstance(arguments, tuple):
            arguments = (Placeholder("arguments that are no tuple"),)
        self.spend(arguments, *arguments)
        self.push(call(function, arguments, self.meanings))

    def spend(self, *values: Any) -> None:
        """Count what a call may copy: the same large value may be handed over again and again."""
        for value in values:
            if isinstance(value, (str, bytes, bytearray)):
                self.copied += len(value)
            elif isinstance(value, (list, tuple, dict, set, frozenset)):
                self.copied += 16 * len(value)
        if self.copied > MOST_COPIED:
            raise InputFileError("its pickle copies the same values without end")


def _global(m: _Machine, argument: str) -> None:
    module, _, name = argument.partition(" ")
    m.push(Global.of(module, name))


def _stack_global(m: _Machine, _: Any) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise ValueError("a name is not text")
    m.push(Global.of(module, name))


def _reduce(m: _Machine, _: Any) -> None:
    arguments, function = m.stack.pop(), m.stack.pop()
    m.call(function, arguments)


def _new_with_keywords(m: _Machine, _: Any) -> None:
    keywords, arguments, function = m.stack.pop(), m.stack.pop(), m.stack.pop()
    # No class with a meaning here takes keywords.
    m.call(function if keywords == {} else Placeholder.of(function), arguments)


def _inst(m: _Machine, argument: str) -> None:
    arguments = tuple(m.marked())
    _global(m, argument)
    m.call(m.stack.pop(), arguments)


def _obj(m: _Machine, _: Any) -> None:
    function, *arguments = m.marked()
    m.call(function, tuple(arguments))


def _build(m: _Machine, _: Any) -> None:
    state = m.stack.pop()
    m.spend(state, *(state if isinstance(state, tuple) else ()))
    build(m.stack[-1], state)


def _put_into(m: _Machine, items: list[Any], *, named: bool) -> None:
    """Entries, or names and values in turn, into the value on top."""
    target = m.stack[-1]
    if named and isinstance(target, dict):
        target.update(_table(items))
    elif not named and isinstance(target, list):
        target.extend(items)
    elif not named and isinstance(target, set):
        target.update(map(key, items))
    elif not isinstance(target, (Global, Placeholder)):
        raise TypeError("entries are put into what holds none")


def _table(items: list[Any]) -> dict[Any, Any]:
    """Of names and values in turn."""
    return pairs(zip(items[::2], items[1::2], strict=True))


def _top(m: _Machine, count: int) -> list[Any]:
    """The last `count` values, taken off."""
    return [m.stack.pop() for _ in range(count)][::-1]


def _pop(m: _Machine, _: Any) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.marked()


def _mark(m: _Machine, _: Any) -> None:
    m.below.append(m.stack)
    m.stack = []


def _memoize(m: _Machine, index: int) -> None:
    m.memo[index] = m.stack[-1]


def _refuse(m: _Machine, _: Any) -> None:
    raise ValueError("an instruction that no checkpoint has")


_PUSHED = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING",
    "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "BINBYTES",
    "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda m, _: None),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "MARK": _mark,
    "POP": _pop,
    "POP_MARK": lambda m, _: m.marked().clear(),
    "DUP": lambda m, _: m.push(m.stack[-1]),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _memoize),
    "MEMOIZE": lambda m, _: _memoize(m, len(m.memo)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, index: m.push(m.memo[index])),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "EMPTY_SET": lambda m, _: m.push(set()),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "LIST": lambda m, _: m.push(m.marked()),
    "TUPLE": lambda m, _: m.push(tuple(m.marked())),
    "TUPLE1": lambda m, _: m.push(tuple(_top(m, 1))),
    "TUPLE2": lambda m, _: m.push(tuple(_top(m, 2))),
    "TUPLE3": lambda m, _: m.push(tuple(_top(m, 3))),
    "DICT": lambda m, _: m.push(_table(m.marked())),
    "FROZENSET": lambda m, _: m.push(frozenset(map(key, m.marked()))),
    "APPEND": lambda m, _: _put_into(m, _top(m, 1), named=False),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda m, _: _put_into(m, m.marked(), named=False)),
    "SETITEM": lambda m, _: _put_into(m, _top(m, 2), named=True),
    "SETITEMS": lambda m, _: _put_into(m, m.marked(), named=True),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _reduce),
    "NEWOBJ_EX": _new_with_keywords,
    "INST": _inst,
    "OBJ": _obj,
    "BUILD": _build,
    "PERSID": lambda m, argument: m.push(m.persistent(argument)),
    "BINPERSID": lambda m, _: m.push(m.persistent(m.stack.pop())),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"), _refuse),
}

"""The wire format of protocol buffers, read without generated classes; every length is checked against what
is there, since files come from outside."""

from __future__ import annotations

from collections.abc import Iterator

# What a field holds: a number, or the bytes of a message, a string or packed numbers.
Field = int | memoryview
_FIXED = {1: 8, 5: 4}


def fields(data: memoryview) -> Iterator[tuple[int, Field]]:
    """(number, value) of every field of a message, in order; fixed-width values are given as their bytes.
    Raises ValueError or IndexError for what is no message."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            number, at = varint(data, at)
            yield key >> 3, number
            continue
        if kind == 2:
            length, at = varint(data, at)
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise ValueError(f"unknown wire type {kind}")
        if at + length > len(data):
            raise ValueError("a field is longer than the file")
        yield key >> 3, data[at : at + length]
        at += length


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


class Message:
    """One message, its fields by number; of a field that should occur once the last value counts. Methods
    raise ValueError, IndexError or KeyError for a field that is missing or of another kind."""

    def __init__(self, data: memoryview) -> None:
        self.fields: dict[int, list[Field]] = {}
        for number, value in fields(data):
            self.fields.setdefault(number, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self.fields

    def raw(self, number: int) -> list[memoryview]:
        """All values of a field that holds bytes."""
        values = self.fields.get(number, [])
        messages = [value for value in values if not isinstance(value, int)]
        if len(messages) < len(values):
            raise ValueError("a number where a message belongs")
        return messages

    def number(self, number: int, default: int | None = None) -> int:
        """The number that a field holds; `default`, if there is one, where it is missing."""
        if default is not None and number not in self.fields:
            return default
        value = self.fields[number][-1]
        if not isinstance(value, int):
            raise ValueError("a message where a number belongs")
        return value

    def texts(self, number: int) -> tuple[str, ...]:
        return tuple(bytes(value).decode("utf-8") for value in self.raw(number))

    def text(self, number: int) -> str:
        return self.texts(number)[-1]

    def messages(self, number: int) -> list[Message]:
        return list(map(Message, self.raw(number)))

    def message(self, number: int) -> Message:
        return Message(self.raw(number)[-1])

    def map(self, number: int) -> dict[str, Message]:
        """The entries of a map from text to messages."""
        return {entry.text(1): entry.message(2) for entry in self.messages(number)}

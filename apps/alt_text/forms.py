"""Forms with a file, as browsers and `curl -F` send them (multipart/form-data). Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser

from mue_edge.errors import UsageError

MAX_PARTS = 32


@dataclass(frozen=True)
class Form:
    """file: the bytes of its first file, whatever that field is called. fields: its texts by name."""

    file: bytes
    fields: Mapping[str, str]


def is_form(content_type: str) -> bool:
    """Whether a body of this type is a form with parts."""
    return _typed(content_type).get_content_type() == "multipart/form-data"


def read(content_type: str, body: bytes) -> Form:
    """The form in a body. Raises UsageError for one that is damaged or holds no file."""
    boundary = _typed(content_type).get_boundary("").encode()
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary, MAX_PARTS + 1)[1:] if boundary else []
    if not pieces or not any(piece.startswith(b"--") for piece in pieces):
        raise UsageError(
            f"the form does not end with the boundary that its header names, or has over {MAX_PARTS} parts"
        )
    file, fields = None, dict[str, str]()
    for piece in pieces:
        if piece.startswith(b"--"):
            break
        head, _, data = piece.partition(b"\r\n\r\n")
        part = BytesHeaderParser().parsebytes(head.lstrip(b" \t").removeprefix(b"\r\n"))
        if part.get_filename() is None:
            name = part.get_param("name", "", "content-disposition")
            fields[str(name)] = data.decode("utf-8", "replace")
        elif file is None and data:
            file = data
    if file is None:
        raise UsageError(
            "the form holds no file: send one in a field of any name, as curl -F picture=@picture.png does"
        )
    return Form(file, fields)


def _typed(content_type: str) -> Message:
    made = Message()
    made["content-type"] = content_type
    return made

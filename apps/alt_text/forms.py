"""Forms with a file, as browsers and `curl -F` send them (multipart/form-data). Standard library only."""

from __future__ import annotations

from email.message import Message
from email.parser import BytesHeaderParser

from mue_edge.errors import UsageError

MAX_PARTS = 32


def is_form(content_type: str) -> bool:
    """Whether a body of this type is a form with parts."""
    return _typed(content_type).get_content_type() == "multipart/form-data"


def read(content_type: str, body: bytes) -> tuple[bytes, dict[str, str]]:
    """The first file of the form in a body, whatever its field is called, and the form's texts by name.

    Raises UsageError for a form that is damaged or holds no file.
    """
    boundary = _typed(content_type).get_boundary("").encode()
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary, MAX_PARTS + 1)[1:] if boundary else []
    end = next((i for i, piece in enumerate(pieces) if piece.startswith(b"--")), None)
    if end is None:
        raise UsageError(
            f"the form does not end with the boundary that its header names, or has over {MAX_PARTS} parts"
        )
    file, fields = b"", dict[str, str]()
    for piece in pieces[:end]:
        head, _, data = piece.partition(b"\r\n\r\n")
        part = BytesHeaderParser().parsebytes(head.lstrip(b" \t").removeprefix(b"\r\n"))
        if part.get_filename() is None:
            name = part.get_param("name", "", "content-disposition")
            fields[str(name)] = data.decode("utf-8", "replace")
        else:
            file = file or data
    if not file:
        raise UsageError(
            "the form holds no file: send one in a field of any name, as curl -F picture=@picture.png does"
        )
    return file, fields


def _typed(content_type: str) -> Message:
    message = Message()
    message["content-type"] = content_type
    return message

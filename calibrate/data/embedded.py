"""Pictures in base64 inside a table, as OFA's data files hold them: found by position, read when needed.

Such tables have many gigabytes, so that only the position of each picture is kept.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mue_edge.errors import InputFileError

MAX_LINE_BYTES = 256 << 20


@dataclass(frozen=True)
class EmbeddedPicture:
    """`length` bytes of base64 from byte `start` of a file; `where` names the line."""

    path: Path
    start: int
    length: int
    where: str

    def read(self) -> bytes:
        """The picture file's bytes. Raises InputFileError when they are no base64."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.start)
                text = file.read(self.length)
            # OFA writes both alphabets.
            return base64.b64decode(text.translate(bytes.maketrans(b"-_", b"+/")), validate=True)
        except binascii.Error as problem:
            raise InputFileError(f"{self.where}: the picture is no base64: {problem}") from problem
        except OSError as problem:
            raise InputFileError(f"{self.path} cannot be read: {problem.strerror}") from problem


def rows_of(path: Path) -> Iterator[tuple[str, str, EmbeddedPicture]]:
    """Image id, captions joined by &&, and picture of each line of a table: unique id, image id, captions,
    object labels, base64 picture.

    Raises InputFileError, which names the line, where there are not five columns.
    """
    end = 0
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            where = f"{path}, line {number}"
            if len(line) > MAX_LINE_BYTES:
                raise InputFileError(f"{where} has more than {MAX_LINE_BYTES >> 20} MB")
            cells = line.rstrip(b"\r\n").split(b"\t")
            if len(cells) != 5 or not cells[4]:
                raise InputFileError(
                    f"{where}: {len(cells)} columns; OFA's table has id, image id, captions, labels, base64 picture"
                )
            start = end + sum(len(cell) + 1 for cell in cells[:4])
            end += len(line)
            try:
                image_id, captions = cells[1].decode("utf-8"), cells[2].decode("utf-8")
            except UnicodeDecodeError as problem:
                raise InputFileError(f"{where}: not UTF-8 text") from problem
            yield image_id, captions, EmbeddedPicture(path, start, len(cells[4]), where)

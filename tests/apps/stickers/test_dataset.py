"""Without the sticker set an error names what makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mue_edge.apps.stickers.dataset import read
from mue_edge.errors import InputFileError


def test_no_data_set_is_an_error_with_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"python -m tools\.stickers\.recipe"):
        read(tmp_path)

"""Blocks of pages that evidence writes, between `<!-- evidence: NAME -->` and `<!-- /evidence -->`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_BLOCK = re.compile(r"(<!-- evidence: (\S+) -->\n)(.*?)(<!-- /evidence -->)", re.DOTALL)


def fill(page: str, blocks: Mapping[str, Callable[[], str]]) -> str:
    """The page with the blocks that `blocks` names as they are to be; others stay."""
    return _BLOCK.sub(lambda m: m[1] + (blocks[m[2]]() if m[2] in blocks else m[3]) + m[4], page)


def names(page: str) -> list[str]:
    """The blocks that stand in a page."""
    return [m[2] for m in _BLOCK.finditer(page)]

"""How large pictures are for a checkpoint: as it says, as was published for its name, or OFA's usual size.

Sizes by name: OFA's pretraining scripts (base and large 384), the Hugging Face fork's page (tiny 256), the
scripts of captions and SNLI-VE and of OFA-huge (480). A model works at other sizes too, but worse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mue_edge.errors import InputFileError

PATCH = 16  # pixels a side
USUAL = 480
_SEPARATOR = r"(?:^|[^a-z])"
# What a name holds → side in pixels, and what was trained so. The task goes before the size of the network.
_PUBLISHED = (
    (re.compile(_SEPARATOR + r"(?:caption|coco)"), 480, "OFA's trainings for captions"),
    (re.compile(_SEPARATOR + r"(?:snli|entail|visual[-_ ]?entailment)"), 480, "OFA's trainings for SNLI-VE"),
    (re.compile(_SEPARATOR + r"ofa[-_ ]?tiny"), 256, "OFA-tiny"),
    (re.compile(_SEPARATOR + r"ofa[-_ ]?(?:base|large)"), 384, "OFA-base's and OFA-large's pretraining"),
    (re.compile(_SEPARATOR + r"ofa[-_ ]?huge"), 480, "OFA-huge"),
)


@dataclass(frozen=True)
class PictureSize:
    """Side in pixels and why; `sure`: the user or the checkpoint says so."""

    side: int
    why: str
    sure: bool


def choose(asked: int | None, stated: int | None, names: Iterable[str], buckets: int) -> PictureSize:
    """The size of pictures.

    asked: by the user; stated: by the checkpoint; names: of files and folders that it came from, the most
    telling first; buckets: patches a side that it has positions for.
    Raises InputFileError for a size that it has no positions for.
    """
    if asked is not None:
        found = PictureSize(asked, "--image-size", True)
    elif stated is not None:
        found = PictureSize(stated, "the checkpoint says so", True)
    else:
        found = _by_name(names, buckets)
    side = -(-found.side // PATCH)
    if not 0 < side <= buckets:
        raise InputFileError(
            f"pictures of {found.side} pixels ({found.why}) have {side} patches a side, but the checkpoint "
            f"has positions for 1 to {buckets}; choose another --image-size"
        )
    return found


def _by_name(names: Iterable[str], buckets: int) -> PictureSize:
    most = buckets * PATCH
    for name in names:
        for pattern, side, what in _PUBLISHED:
            if side <= most and pattern.search(name.lower()):
                return PictureSize(side, f"as {what}, by the name {name!r}", False)
    if most < USUAL:
        return PictureSize(most, "the most that it has positions for", False)
    return PictureSize(USUAL, "as most of OFA's trainings", False)

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
# What a name holds, after no letter → side in pixels, and what was trained so. The task goes before the size
# of the network.
_PUBLISHED = (
    (r"caption|coco", 480, "OFA's trainings for captions"),
    (r"snli|entail|visual[-_ ]?entailment", 480, "OFA's trainings for SNLI-VE"),
    (r"ofa[-_ ]?tiny", 256, "OFA-tiny"),
    (r"ofa[-_ ]?(?:base|large)", 384, "OFA-base's and OFA-large's pretraining"),
    (r"ofa[-_ ]?huge", 480, "OFA-huge"),
)


@dataclass(frozen=True)
class PictureSize:
    """Side in pixels and why; `sure`: the user or the checkpoint says so."""

    side: int
    why: str
    sure: bool


def choose(option: int | None, stated: int | None, names: Iterable[str], buckets: int) -> PictureSize:
    """The size of pictures.

    option: the user's; stated: the checkpoint's; names: of files and folders that it came from, the most
    telling first; buckets: patches a side that it has positions for.
    Raises InputFileError for a size that it has no positions for.
    """
    if option is not None:
        size = PictureSize(option, "--image-size", True)
    elif stated is not None:
        size = PictureSize(stated, "the checkpoint says so", True)
    else:
        size = _by_name(names, buckets)
    side = -(-size.side // PATCH)
    if not 0 < side <= buckets:
        raise InputFileError(
            f"pictures of {size.side} pixels ({size.why}) have {side} patches a side, but the checkpoint "
            f"has positions for 1 to {buckets}; choose another --image-size"
        )
    return size


def _by_name(names: Iterable[str], buckets: int) -> PictureSize:
    most = buckets * PATCH
    for name in names:
        for pattern, side, what in _PUBLISHED:
            if side <= most and re.search(rf"(?:^|[^a-z])(?:{pattern})", name.lower()):
                return PictureSize(side, f"as {what}, by the name {name!r}", False)
    if most < USUAL:
        return PictureSize(most, "the most that it has positions for", False)
    return PictureSize(USUAL, "as most of OFA's trainings", False)

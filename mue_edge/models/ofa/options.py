"""What only the torch model knows of MuE: how similarity is measured, and over what one decision is taken.

The thresholds themselves are a policy's (`mue_edge.policy`); this module states the part of a
policy that the network reads, so that any object with these attributes will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol


class ExitPolicy(Protocol):
    """Thresholds on the exit score; None never exits, and the test is strict (score > threshold)."""

    @property
    def theta_image(self) -> float | None: ...

    @property
    def theta_text(self) -> float | None: ...

    @property
    def theta_decoder(self) -> float | None: ...

    @property
    def min_depth(self) -> int:
        """No exit before this many layers."""
        ...

    def decoder_threshold(self, step: int, max_length: int) -> float:
        """Threshold at decoding step `step` (from 0) of at most `max_length`; infinite: never."""
        ...


@dataclass(frozen=True)
class MueOptions:
    """How an exit score is formed.

    encoder, decoder: what one decision covers. "batch": one vector over all samples (and beams),
        as published; "sample": each sample by itself; "rows" (decoder only): a step exits when
        every row, each by itself, would.
    pads: whether padded tokens take part.
    similarity: "flat" is the cosine of all tokens as one vector, "mean" the mean of the tokens' cosines.
    """

    encoder: Literal["batch", "sample"] = "sample"
    decoder: Literal["batch", "sample", "rows"] = "rows"
    pads: Literal["included", "masked"] = "masked"
    similarity: Literal["flat", "mean"] = "flat"


MUE = MueOptions()
MUE_PUBLISHED = MueOptions(encoder="batch", decoder="batch", pads="included")


def options_for(policy: ExitPolicy | None, options: MueOptions | None) -> MueOptions:
    """`options` if given; else those that belong to the policy's rule."""
    if options is not None:
        return options
    return MUE_PUBLISHED if getattr(policy, "rule", None) == "mue-published" else MUE

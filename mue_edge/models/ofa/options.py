"""What only the torch model knows of MuE: how similarity is measured, and over what one decision is taken.

Thresholds are the policy's (`mue_edge.loop.policy`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mue_edge.errors import UsageError
from mue_edge.loop.policy import ExitPolicy, Policy
from mue_edge.loop.signals import SIMILARITY
from mue_edge.rules import RULES


@dataclass(frozen=True)
class MueOptions:
    """How an exit score is formed.

    encoder, decoder: what one decision covers. "batch": one vector over all samples (and beams), as
        published; "sample": each sample by itself, its beams as one vector; "rows" (decoder only):
        a step exits when every row, each by itself, would.
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
    """`options` if given; else those that belong to the policy's rule.

    Raises UsageError for a rule whose tests read what the torch model does not measure.
    """
    if isinstance(policy, Policy):
        what = ""
        if policy.signal("decoder") != SIMILARITY:
            what = f"tests similarity only, not {policy.signal('decoder')}"
        elif RULES[policy.rule].keep is not None:
            what = "leaves no layer out"
        if what:
            raise UsageError(
                f"the torch model {what} (rule {policy.rule!r}); run this policy on a bundle: mue-edge export"
            )
    if options is not None:
        return options
    return MUE_PUBLISHED if getattr(policy, "rule", None) == "mue-published" else MUE

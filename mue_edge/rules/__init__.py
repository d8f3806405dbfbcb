"""Exit rules by name: a file and a line each. Nothing else knows them; `Policy.rule` picks one.

Calibration, the host loop and export learn from a rule what its tests read and which heads that needs.
"""

from __future__ import annotations

from mue_edge.rules import (
    calm_classifier,
    calm_saturation,
    calm_softmax,
    deebert,
    deebert_ramps,
    deecap,
    fixed,
    gate,
    mue,
    mue_published,
    never,
    pabee,
    uniform_skip,
)
from mue_edge.rules.rule import Rule

RULES: dict[str, Rule] = {
    "mue": mue.RULE,
    "mue-published": mue_published.RULE,
    "calm-softmax": calm_softmax.RULE,
    "calm-saturation": calm_saturation.RULE,
    "calm-classifier": calm_classifier.RULE,
    "deebert": deebert.RULE,
    "deebert-ramps": deebert_ramps.RULE,
    "pabee": pabee.RULE,
    "deecap": deecap.RULE,
    "gate": gate.RULE,
    "never": never.RULE,
    "fixed": fixed.RULE,
    "uniform-skip": uniform_skip.RULE,
}

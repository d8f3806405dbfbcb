"""Exit rules by name: a file and a line each. Nothing else knows them; `Policy.rule` picks one.

Calibration, the host loop and export learn from a rule what its tests read and which heads that needs.
"""

from __future__ import annotations

from mue_edge.rules import calm_classifier, calm_softmax, deebert, fixed, mue, mue_published, never
from mue_edge.rules.rule import Rule

RULES: dict[str, Rule] = {
    "mue": mue.RULE,
    "mue-published": mue_published.RULE,
    "calm-softmax": calm_softmax.RULE,
    "calm-classifier": calm_classifier.RULE,
    "deebert": deebert.RULE,
    "never": never.RULE,
    "fixed": fixed.RULE,
}

"""Every stack ends at the policy's depth for it; no score is read."""

from mue_edge.rules.rule import Rule, no_test

RULE = Rule(no_test, calibrated=False)

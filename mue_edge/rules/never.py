"""Full depth, whatever the policy's other fields say."""

from mue_edge.rules.rule import Rule, no_test

RULE = Rule(no_test, calibrated=False)

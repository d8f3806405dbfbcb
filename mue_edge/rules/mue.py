"""MuE (Tang et al. 2023): exit when a layer hardly changed the states; in the decoder θ decays."""

from mue_edge.rules.rule import Rule, scheduled

RULE = Rule(scheduled)

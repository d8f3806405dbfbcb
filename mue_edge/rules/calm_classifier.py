"""CALM's classifier (Schuster et al. 2022): a trained head says how likely the arg-max after this decoder
layer is that of the last one; exit when that exceeds λ, which decays like MuE's θ. Here each boundary has a
vector of its own, and all the rows of a few frequent words: never the whole vocabulary. In the encoder there
is no arg-max: its tests stay MuE's."""

from mue_edge.loop.signals import CONFIDENCE
from mue_edge.rules.rule import Rule, scheduled

RULE = Rule(scheduled, decoder=CONFIDENCE, heads="confidence")

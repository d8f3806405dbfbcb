"""CALM's softmax rule (Schuster et al. 2022): exit the decoder when its best word is likelier than the
second by more than λ, which decays like MuE's θ. A test runs the vocabulary head; that costs nothing where it
is passed, for its answer is the step's. In the encoder there are no words: its tests stay MuE's."""

from mue_edge.loop.signals import MARGIN
from mue_edge.rules.rule import Rule, scheduled

RULE = Rule(scheduled, decoder=MARGIN)

"""DeeBERT's rule (Xin et al. 2020) on the decoder: exit when the words' entropy is low. Its off-ramps are
the shared head here, which the layer-wise loss has trained at every layer; a test runs it, as CALM's softmax
rule does."""

from mue_edge.loop.signals import ENTROPY
from mue_edge.rules.rule import Rule, scheduled

RULE = Rule(scheduled, decoder=ENTROPY)

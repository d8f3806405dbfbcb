"""DeeBERT (Xin et al. 2020) with off-ramps of its own on the decoder: at every boundary a trained linear map
of the states, which the shared head reads: exit when the words' entropy is low; the word is the off-ramp's.
"""

from mue_edge.loop.signals import RAMP
from mue_edge.rules.rule import Rule, in_decoder, scheduled

RULE = Rule(in_decoder(scheduled), encoder=None, decoder=RAMP, heads="ramps")

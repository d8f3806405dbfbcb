"""PABEE (Zhou et al. 2020) on the decoder: exit when the best word has stayed the same over `patience`
boundaries, which θ = 1 − 1/(patience + ½) says. Its classifiers are the shared head here, which the
layer-wise loss has trained at every layer, and which must run at every boundary. θ does not decay."""

from mue_edge.loop.signals import AGREEMENT
from mue_edge.rules.rule import Rule, constant, in_decoder

RULE = Rule(in_decoder(constant), encoder=None, decoder=AGREEMENT)

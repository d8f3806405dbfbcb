"""DeeCap (Fei et al. 2022) on the decoder: at every boundary a small network imitates the last layer's state
from the present one, a sigmoid gate mixes the two, and the shared head reads the mix: exit when the words'
entropy is low; the word is that of the mix. The K/V of skipped layers follow from the real state.

DeeCap imitates every deeper layer of pooled, bounded states by a tanh network. The states of a decoder that
normalises before its layers are not bounded, so here the tanh stands inside of what is added to the state."""

from mue_edge.loop.signals import IMITATION
from mue_edge.rules.rule import Rule, in_decoder, scheduled

RULE = Rule(in_decoder(scheduled), encoder=None, decoder=IMITATION, heads="foresight")

"""A gate before the encoder, after ECO-M2F (Yao et al. 2024): a small network on the stem's features says for
every depth how likely it is that exiting the encoder there keeps the caption; the first depth at which that
exceeds θ is the one. It is known before the first layer runs, so that no test waits for a score.

ECO-M2F's gate learns one label, argmax_k q_k − β·k, and another trade-off β is another training. A
probability for every depth leaves the trade-off to θ. The decoder's tests are CALM's margin, as in
`calm-softmax`."""

from mue_edge.loop.signals import DEPTH_GATE, MARGIN
from mue_edge.rules.rule import Rule, scheduled

RULE = Rule(scheduled, encoder=DEPTH_GATE, decoder=MARGIN, heads="gate")

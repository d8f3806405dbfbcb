"""Choosing among given answers (entailment): each is scored after a prompt that the decoder is fed.

Only words that continue an answer may be predicted, so that probabilities compete among answers.
Shapes: C answers, L decoder inputs, V words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from mue_edge.errors import UsageError
from mue_edge.loop.policy import ExitPolicy, Policy
from mue_edge.models.ofa.network.decoder import Decoder
from mue_edge.models.ofa.network.exits import DecoderExit, MueOptions
from mue_edge.models.ofa.network.outputs import EncoderOutput, padded

Form = Literal["joint", "prompt"]


@dataclass(frozen=True)
class Scores:
    """scores: log-probability of each answer, its end included; best: index of the highest;
    exit: decoder layers run; exit_scores: the deciding score after layers 1, 2, …"""

    scores: tuple[float, ...]
    best: int
    exit: int
    exit_scores: tuple[float, ...]


def score(
    decoder: Decoder,
    encoder_output: EncoderOutput,
    prompt: Sequence[int],
    answers: Sequence[Sequence[int]],
    policy: ExitPolicy | None,
    options: MueOptions,
    form: Form,
) -> Scores:
    """Scores of `answers` (token ids) after the decoder input `prompt` (bos first), for one sample.

    form "joint": all answers in one call, as in the authors' code, whose exit test covers them all;
    "prompt": one pass over the prompt alone, for answers of one token each: equal at full depth.
    A MuE policy's decoder threshold does not decay here, since there are no steps.
    """
    if len(encoder_output.hidden) != 1:
        raise UsageError(f"scoring takes one sample at a time, not {len(encoder_output.hidden)}")
    if not prompt or not answers or not all(answers):
        raise UsageError("scoring needs a prompt and at least one answer, none of them empty")
    if form == "prompt" and any(len(answer) != 1 for answer in answers):
        raise UsageError('form "prompt" takes answers of one token each; use form "joint"')
    eos = decoder.config.eos
    fed = [prompt] if form == "prompt" else [[*prompt, *answer] for answer in answers]
    tokens = padded(fed, decoder.config.pad).to(encoder_output.hidden.device)
    live = tokens.ne(decoder.config.pad) if options.pads == "masked" else None
    if isinstance(policy, Policy) and policy.rule in ("mue", "mue-published"):
        policy = replace(policy, rule="mue", beta=1.0, warmup=0.0)
    test = DecoderExit(policy, options, 0, tokens.shape[1], live)
    x = decoder.hidden_states(tokens, encoder_output, test)[-1]
    logits = decoder.project(x[:, len(prompt) - 1 :])
    # In the form "prompt" there is no logit for the end, and no alternative to it.
    ends = () if form == "prompt" else (eos,)
    rows = logits.expand(len(answers), -1, -1)
    scores = [_restricted(row, [*answer, *ends], answers, eos) for row, answer in zip(rows, answers)]
    return Scores(tuple(scores), scores.index(max(scores)), len(test.scores), tuple(test.scores))


def _restricted(logits: Tensor, words: Sequence[int], answers: Sequence[Sequence[int]], eos: int) -> float:
    """Log-probability of `words` under logits [>= len(words), V] that only let answers be spelled."""
    total = 0.0
    for k, word in enumerate(words):
        before = list(words[:k])
        spelled = [[*answer, eos] for answer in answers]
        allowed = sorted({answer[k] for answer in spelled if len(answer) > k and answer[:k] == before})
        logprobs = torch.log_softmax(logits[k, allowed].float(), 0)
        total += float(logprobs[allowed.index(word)])
    return total

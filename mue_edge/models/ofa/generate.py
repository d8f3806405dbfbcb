"""Captions from an encoder's output: greedy and beam search over the incremental decoder, with exits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Literal

import torch
from torch import Tensor

from mue_edge.errors import UsageError
from mue_edge.loop import search
from mue_edge.loop.policy import NEVER, ExitPolicy, should_exit
from mue_edge.models.ofa.decoder import Decoder
from mue_edge.models.ofa.incremental import KV_MODES, DecoderCache, KvMode
from mue_edge.models.ofa.options import MueOptions
from mue_edge.models.ofa.outputs import EncoderOutput
from mue_edge.models.ofa.similarity import exit_scores


@dataclass(frozen=True)
class GeneratedHypothesis(search.Hypothesis):
    """A finished caption, and what its sample's search did.

    exits: decoder layers run at every step. exit_scores: at every step, the score after layers
    1, 2, … (of several rows decided one by one, the lowest). Both cover all steps of the search,
    which may go on after this hypothesis is finished. encoder_exits, encoder_scores: by modality.
    """

    exits: tuple[int, ...] = ()
    exit_scores: tuple[tuple[float, ...], ...] = ()
    encoder_exits: dict[str, int] = field(default_factory=dict)
    encoder_scores: dict[str, tuple[float, ...]] = field(default_factory=dict)


class DecoderExit:
    """Decides after each decoder layer whether to stop, and keeps the scores of the step."""

    def __init__(self, policy: ExitPolicy | None, options: MueOptions, step: int, max_length: int) -> None:
        self.policy, self.options, self.step, self.max_length = policy, options, step, max_length
        self.scores: list[float] = []

    def __call__(self, depth: int, before: Tensor, after: Tensor) -> bool:
        live = torch.ones(before.shape[:2], dtype=torch.bool, device=before.device)
        return self.decide(depth, before, after, live)

    def decide(self, depth: int, before: Tensor, after: Tensor, live: Tensor) -> bool:
        """States [R, L, d] before and after the layer; live: boolean [R, L], tokens that take part."""
        over: Literal["rows", "batch"] = "rows" if self.options.decoder == "rows" else "batch"
        score = exit_scores(before, after, live, over=over, similarity=self.options.similarity)
        self.scores.append(float(score.min()))
        if self.policy is None:
            return False
        threshold = self.policy.threshold("decoder", depth, self.step, self.max_length)
        return threshold != NEVER and should_exit(self.scores[-1], None, threshold)


def generate(
    decoder: Decoder, encoder_output: EncoderOutput, settings: search.SearchSettings,
    *, policy: ExitPolicy | None, options: MueOptions, kv: KvMode,
) -> list[list[GeneratedHypothesis]]:  # fmt: skip
    """For each sample its finished hypotheses, best first.

    Samples are decoded one after another, except where one exit decision covers the whole batch.
    """
    if kv not in KV_MODES:
        raise UsageError(f"unknown kv mode {kv!r}; known: {', '.join(KV_MODES)}")
    if options.decoder == "batch":
        return _generate(decoder, encoder_output, settings, policy, options, kv)
    found = []
    for sample in range(len(encoder_output.hidden)):
        one = encoder_output.rows(torch.tensor([sample], device=encoder_output.hidden.device))
        found += _generate(decoder, one, settings, policy, options, kv)
    return found


def _generate(
    decoder: Decoder, encoder_output: EncoderOutput, settings: search.SearchSettings,
    policy: ExitPolicy | None, options: MueOptions, kv: KvMode,
) -> list[list[GeneratedHypothesis]]:  # fmt: skip
    """All samples' rows go through the decoder together; a sample drops out when its search ends."""
    device, limit = encoder_output.hidden.device, settings.max_length + 1
    cache = DecoderCache(decoder, encoder_output, limit, kv)
    searches = [search.BeamSearch(settings) for _ in cache.samples]
    depths: list[list[int]] = [[] for _ in searches]
    scores: list[list[tuple[float, ...]]] = [[] for _ in searches]
    live = list(range(len(searches)))
    # Before the first word all beams are equal: one row a sample does.
    tokens = [settings.bos] * len(live)
    for step in range(limit):
        test = DecoderExit(policy, options, step, settings.max_length)
        x = cache.step(torch.tensor(tokens, device=device), test)
        rows = _candidates(decoder.project(x)[:, 0], settings)
        chosen, tokens, still, start = [], [], [], 0
        for sample, width in zip(live, _widths(live, searches, step), strict=True):
            depths[sample].append(len(test.scores))
            scores[sample].append(tuple(test.scores))
            parents = searches[sample].advance(rows[start : start + width])
            if parents is not None:
                still.append(sample)
                chosen += [start + parent for parent in parents]
                tokens += [words[-1] for words in searches[sample].tokens]
            start += width
        live = still
        if not live:
            break
        cache.select(torch.tensor(chosen, device=device))
    return [
        [_with_exits(h, encoder_output, i, depths[i], scores[i]) for h in beam_search.hypotheses()]
        for i, beam_search in enumerate(searches)
    ]


def _widths(live: Sequence[int], searches: Sequence[search.BeamSearch], step: int) -> list[int]:
    return [len(searches[sample].tokens) if step else 1 for sample in live]


def _candidates(logits: Tensor, settings: search.SearchSettings) -> list[search.Row]:
    """Each row's best words, their log-probabilities and that of eos, from logits [R, V]."""
    logprobs = torch.log_softmax(logits.float(), -1)
    values, ids = logprobs.topk(min(settings.candidate_count, logprobs.shape[1]))
    eos = logprobs[:, settings.eos].tolist()
    return list(zip(ids.tolist(), values.tolist(), eos, strict=True))


def _with_exits(
    found: search.Hypothesis, encoder_output: EncoderOutput, sample: int,
    depths: Sequence[int], scores: Sequence[tuple[float, ...]],
) -> GeneratedHypothesis:  # fmt: skip
    return GeneratedHypothesis(
        **{f.name: getattr(found, f.name) for f in fields(found)},
        exits=tuple(depths),
        exit_scores=tuple(scores),
        encoder_exits={name: values[sample] for name, values in encoder_output.exits.items()},
        encoder_scores={name: values[sample] for name, values in encoder_output.scores.items()},
    )

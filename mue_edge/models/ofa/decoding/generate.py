"""Captions from an encoder's output: greedy and beam search over the incremental decoder, with exits."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mue_edge.errors import UsageError
from mue_edge.loop import search
from mue_edge.loop.policy import ExitPolicy
from mue_edge.models.ofa.decoding.incremental import KV_MODES, DecoderCache, KvMode
from mue_edge.models.ofa.network.decoder import Decoder
from mue_edge.models.ofa.network.exits import DecoderExit, MueOptions
from mue_edge.models.ofa.network.outputs import EncoderOutput


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


def generate(
    decoder: Decoder,
    encoder_output: EncoderOutput,
    settings: search.SearchSettings,
    policy: ExitPolicy | None,
    options: MueOptions,
    kv: KvMode,
) -> list[list[GeneratedHypothesis]]:
    """For each sample its finished hypotheses, best first.

    Samples are decoded one after another, except where one exit decision covers the whole batch.
    """
    if kv not in KV_MODES:
        raise UsageError(f"unknown kv mode {kv!r}; known: {', '.join(KV_MODES)}")
    device, samples = encoder_output.hidden.device, len(encoder_output.hidden)
    if samples > 1 and options.decoder != "batch":
        alone = (encoder_output.rows(torch.tensor([sample], device=device)) for sample in range(samples))
        return [generate(decoder, one, settings, policy, options, kv)[0] for one in alone]
    limit = settings.max_length + 1
    cache = DecoderCache(decoder, encoder_output, limit, kv)
    searches = [search.BeamSearch(settings) for _ in range(samples)]
    tests: list[list[DecoderExit]] = [[] for _ in searches]
    live = list(range(samples))
    # All samples' rows go through the decoder together; a sample drops out when its search ends. Before the
    # first word all beams are equal: one row a sample does.
    tokens, widths = [settings.bos] * samples, [1] * samples
    for step in range(limit):
        test = DecoderExit(policy, options, step, settings.max_length)
        x = cache.step(torch.tensor(tokens, device=device), test)
        rows = _candidates(decoder.project(x)[:, 0], settings)
        parents, tokens, live_next, start = [], [], [], 0
        for sample, width in zip(live, widths, strict=True):
            tests[sample].append(test)
            own = searches[sample].advance(rows[start : start + width])
            if own is not None:
                live_next.append(sample)
                parents += [start + parent for parent in own]
                tokens += [words[-1] for words in searches[sample].tokens]
            start += width
        live = live_next
        if not live:
            break
        widths = [len(searches[sample].tokens) for sample in live]
        cache.select(torch.tensor(parents, device=device))
    return [
        [
            GeneratedHypothesis(
                **vars(hypothesis),
                exits=tuple(len(test.scores) for test in tests[i]),
                exit_scores=tuple(tuple(test.scores) for test in tests[i]),
                encoder_exits={name: values[i] for name, values in encoder_output.exits.items()},
                encoder_scores={name: values[i] for name, values in encoder_output.scores.items()},
            )
            for hypothesis in searches[i].hypotheses()
        ]
        for i in range(samples)
    ]


def _candidates(logits: Tensor, settings: search.SearchSettings) -> list[search.Row]:
    """Each row's best words, their log-probabilities and that of eos, from logits [R, V]."""
    logprobs = torch.log_softmax(logits.float(), -1)
    values, ids = logprobs.topk(min(settings.candidate_count, logprobs.shape[1]))
    eos = logprobs[:, settings.eos].tolist()
    return list(zip(ids.tolist(), values.tolist(), eos, strict=True))

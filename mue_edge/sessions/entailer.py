"""The Python API of visual entailment: does a picture show what a statement says?"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mue_edge.bundle.manifest import Manifest
from mue_edge.inputs.statements import source_ids, unknown_words
from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.driver import Stopwatch, drive, set_inputs
from mue_edge.loop.policy import ExitPolicy, Policy
from mue_edge.loop.protocol import Outcome
from mue_edge.loop.search import new_search
from mue_edge.sessions.captioner import AlternatingExits
from mue_edge.sessions.session import Session, SessionResult, record_of

if TYPE_CHECKING:
    from mue_edge.inputs.image import PictureSource


@dataclass(frozen=True)
class Entailment(SessionResult):
    """An answer and how it came about.

    probabilities: answer → probability among the answers. unknown: words of the statement and the caption
    that the model lacks.
    """

    answer: str
    probabilities: Mapping[str, float]
    unknown: tuple[str, ...] = ()


class Entailer(Session):
    """A bundle that judges statements. Not for several threads at once; open one each."""

    def source(self, statement: str, caption: str | None = None) -> tuple[int, ...]:
        """Ids of the source text around a statement, and around a caption of the picture where one is given.
        Raises UsageError for an empty one, and for a caption that the model was not trained to read."""
        return source_ids(self.bundle.manifest.template, statement, self.tokenizer, caption)

    def unknown(self, statement: str, caption: str | None = None) -> tuple[str, ...]:
        """Words that the model lacks."""
        return unknown_words(self.bundle.manifest.template, statement, self.tokenizer, caption)

    def entail(
        self,
        picture: PictureSource,
        statement: str,
        *,
        caption: str | None = None,
        policy: str | Path | Policy | None = None,
        trace: bool = False,
    ) -> Entailment:
        """Whether one picture shows what the statement says. `trace` reads all scores.

        caption: one of the picture, for a model that was trained with them (`manifest.caption_prompt`).
        Raises InputFileError for a picture that cannot be used, UsageError for a statement or caption that is
        empty or longer than the bundle reads, for a caption to a model that reads none, and after `close`.
        """
        self.check_open()
        source = self.source(statement, caption)
        entailment = self._judge(picture, source, self.policy(policy), trace=trace)
        return replace(entailment, unknown=self.unknown(statement, caption))

    def run(self, picture: Any, source: Sequence[int], policy: Policy) -> None:
        """An answer."""
        self._judge(picture, source, policy, trace=False)

    def warm_up(self) -> None:
        """Load every segment, on a grey picture."""
        from PIL import Image

        size = self.bundle.manifest.preprocess
        grey = Image.new("RGB", (size.width, size.height), "grey")
        for policy in (Policy("never"), AlternatingExits()):
            self._judge(grey, self.source("grey"), policy, trace=True)

    def _judge(self, picture: Any, source: Sequence[int], policy: ExitPolicy, *, trace: bool) -> Entailment:
        started = time.perf_counter()
        manifest = self.bundle.manifest
        set_inputs(self.runtime, self.pixels(picture), source)
        watch, prepared = Stopwatch(), time.perf_counter() - started
        loop = caption_loop(self.layout, policy, new_search(manifest.search, source), trace=trace)
        outcome = drive(loop, self.runtime, watch)
        record = record_of(outcome, watch, started, prepared)
        return Entailment(*answer_probabilities(manifest, outcome), **record)


def answer_probabilities(manifest: Manifest, outcome: Outcome) -> tuple[str, dict[str, float]]:
    """The likeliest answer, and answer → probability among the answers, in the manifest's order."""
    words = dict(zip(manifest.search.answers, manifest.answers, strict=True))
    likely = {words[h.tokens[0]]: math.exp(h.score) for h in outcome.hypotheses}
    return next(iter(likely)), {word: likely[word] for word in manifest.answers}

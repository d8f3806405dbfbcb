"""The public Python API: `mue_edge.open(bundle).caption(picture)`."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mue_edge.bundle.folder import Bundle
from mue_edge.errors import UsageError
from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.deadline import Deadline
from mue_edge.loop.driver import Runtime, Stopwatch, drive, stepwise
from mue_edge.loop.lossless import Payoff, lossless_loop
from mue_edge.loop.policy import ALWAYS, NEVER, ExitPolicy, Policy
from mue_edge.loop.protocol import DECODER, Answer, DeadlineResult, Outcome, Request
from mue_edge.loop.search import BeamSearch, SearchSettings
from mue_edge.loop.speed import SpeedEstimate
from mue_edge.sessions.session import Session, SessionResult, record_of

if TYPE_CHECKING:
    from mue_edge.inputs.image import PictureSource


WARM_UP = 4
FULL = Policy("never", name="full")


@dataclass(frozen=True)
class Caption(SessionResult):
    """A caption and how it came about; `deadline` says what one did, if there was one: a caption that it cut
    before the first token is empty."""

    text: str
    tokens: tuple[int, ...]
    score: float
    deadline: DeadlineResult | None = None


class Captioner(Session):
    """A bundle with its runtime. Not for several threads at once; open one each."""

    def __init__(self, bundle: Bundle, runtime: Runtime, max_pixels: int | None = None) -> None:
        super().__init__(bundle, runtime, max_pixels)
        self.speed = SpeedEstimate()

    def run(self, picture: Any, source: Sequence[int], policy: Policy) -> None:
        """A caption."""
        self.caption(picture, policy=policy)

    def caption(
        self,
        picture: PictureSource,
        *,
        policy: str | Path | Policy | None = None,
        beam: int | None = None,
        trace: bool = False,
        deadline: float | None = None,
        lossless: bool | Payoff = False,
    ) -> Caption:
        """Caption one picture. `beam` up to what the bundle was exported for; `trace` reads all scores.

        `deadline`: seconds from this call on, preprocessing included, after which no segment starts:
        the faster policies of the bundle's front stand in when time is short (`mue_edge.loop.deadline`).
        Call `warm_up` once before, or the first captions pay for loading segments.
        `lossless`: the caption is full depth's; `policy` only drafts it (`mue_edge.loop.lossless`), with a
        `Payoff` as long as that pays.

        Raises InputFileError for a picture that cannot be used, UsageError after `close`.
        """
        steps = self.stream(picture, policy=policy, beam=beam, trace=trace, deadline=deadline, lossless=lossless)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                result: Caption = end.value
                return result

    def stream(
        self,
        picture: PictureSource,
        *,
        policy: str | Path | Policy | None = None,
        beam: int | None = None,
        trace: bool = False,
        deadline: float | None = None,
        lossless: bool | Payoff = False,
    ) -> Generator[str, None, Caption]:
        """Like `caption`, yielding the text so far, in whole characters, after every token (with beams, of
        the best row).

        The generator's return value is the `Caption`. What its reader does between tokens counts
        towards a deadline. Raises UsageError after `close`.
        """
        self.check_open()

        def steps() -> Generator[str, None, Caption]:
            started = time.perf_counter()
            if deadline is not None and not 0 < deadline < math.inf:
                raise UsageError(f"a deadline is a number of seconds above 0, not {deadline}")
            if lossless and (trace or deadline is not None):
                raise UsageError("a lossless caption has neither a trace of exit scores nor a deadline")
            chosen, search = self.policy(policy), BeamSearch(self.settings(beam))
            self.runtime.set_pixels(self.pixels(picture))
            watch, prepared, due = Stopwatch(), time.perf_counter() - started, None
            if deadline is not None:
                due = Deadline(started, deadline, prepared, self.faster(chosen), self.speed)
            payoff = lossless if isinstance(lossless, Payoff) and lossless.pays else None
            if lossless is True or payoff is not None:
                loop, last = lossless_loop(self.layout, chosen, search), "verify_head"
            else:
                decisive = FULL if lossless else chosen
                loop, last = caption_loop(self.layout, decisive, search, trace=trace, deadline=due), "head"
            # The clock must tell what each segment took.
            timed = nullcontext() if due is None else stepwise(self.runtime)
            try:
                with timed:
                    request = next(loop)
                    while True:
                        answer = self.runtime.execute(request)
                        watch(request, answer)
                        if payoff is not None:
                            payoff.record(request.run)
                        token_ended = request.run == last
                        request = loop.send(answer)
                        if token_ended:
                            yield self.tokenizer.caption(search.tokens[0][1:], ended=False)
            except StopIteration as end:
                outcome: Outcome = end.value
            if payoff is not None:
                payoff.record_caption(len(outcome.steps))
            best = outcome.hypotheses[0]
            return Caption(
                self.tokenizer.caption(best.tokens),
                best.tokens,
                best.score,
                outcome.deadline,
                **record_of(outcome, watch, started, prepared),
            )

        return steps()

    def warm_up(self) -> None:
        """Load every segment and learn its time, on a grey picture; a few captions long."""
        from PIL import Image

        size = self.bundle.manifest.preprocess
        self.runtime.set_pixels(self.pixels(Image.new("RGB", (size.width, size.height), "grey")))
        last = time.perf_counter()

        def learn(request: Request, answer: Answer) -> None:
            nonlocal last
            self.speed.record(request.run, max(0.0, answer.now - last))
            last = answer.now

        with stepwise(self.runtime):
            for _ in range(WARM_UP):
                last = time.perf_counter()
                drive(caption_loop(self.layout, AlternatingExits(), BeamSearch(self.settings())), self.runtime, learn)

    def settings(self, beam: int | None = None) -> SearchSettings:
        """The search of the bundle, with another beam. Raises UsageError for one that it cannot run."""
        settings, rows = self.bundle.manifest.search, self.bundle.manifest.layout.rows
        if beam is None or beam == settings.beam:
            return settings
        if not 1 <= beam <= rows:
            raise UsageError(
                f"this bundle was exported for a beam of {rows}; for {beam}: mue-edge export --beam {beam}"
            )
        return replace(settings, beam=beam)


class AlternatingExits(ExitPolicy):
    """The first layer, then all layers, step by step: so every segment runs, `fill` too."""

    def threshold(self, stack: str, depth: int, step: int = 0, max_length: int = 16) -> float:
        return ALWAYS if stack == DECODER and step % 2 == 0 else NEVER

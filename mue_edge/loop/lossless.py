"""Greedy captions that are full depth's, word for word, drafted with exits. Standard library only.

A few steps are drafted under a policy that leaves the decoder early. Then the deeper segments run once over
all of them (`verify.j`: as many query rows as drafts, each seeing those before it), and the head says what
full depth would have said after each. Words are kept up to the first that differs, and full depth's own in
its place: so every round gives at least one, and rows of the cache behind it are written again by the next.

The segments that all drafts ran need no second run, if all left after the same one: what came before them
was full depth's, so their states there are exact. Else the pass begins with the words. The encoder runs at
full depth, for no later pass could check it. (After LayerSkip, Elhoushi et al. 2024.)
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

from mue_edge.errors import UsageError
from mue_edge.loop.caption_loop import Run, check_candidates
from mue_edge.loop.policy import ExitPolicy, Policy
from mue_edge.loop.protocol import (
    DECODER,
    EXIT_STATES,
    HEAD_PORTS,
    Answer,
    Layout,
    Loop,
    Position,
    Request,
    SegmentCall,
    StepLog,
    Store,
)
from mue_edge.loop.search import BeamSearch

TRIED = 8  # captions


def lossless_loop(layout: Layout, policy: ExitPolicy, search: BeamSearch) -> Loop:
    """Encode one picture and decode it: the caption of full depth, drafted under `policy`.

    `Outcome.steps` holds for each word the layers of its draft; of rejected drafts only the calls tell.
    Raises UsageError for beams, and for a bundle that cannot verify.
    """
    if search.settings.beam != 1 or layout.rows != 1:
        raise UsageError("lossless captions are greedy: export without --beam, and caption without it")
    if not layout.verify_rows:
        raise UsageError("this bundle cannot verify drafts; export it again with --lossless")
    drafter = drafting(policy)
    if isinstance(drafter, Policy) and not drafter.may_exit:
        raise UsageError(
            f"policy {drafter.name or drafter.rule} leaves no decoder layer out: nothing to draft with; "
            "choose another (--policy)"
        )
    return (yield from _Lossless(layout, drafter, search).run())


def drafting(policy: ExitPolicy) -> ExitPolicy:
    """The policy with an encoder at full depth."""
    if not isinstance(policy, Policy):
        return policy
    return replace(policy, exits={DECODER: policy.stack_exit(DECODER)})


@dataclass(frozen=True)
class _Draft:
    """A drafted step: the word that went in, the one that came out (None: the end), what it ran."""

    given: int
    word: int | None
    step: StepLog


class _Lossless(Run):
    def _decode(self) -> Generator[Request, Answer, None]:
        known = self.search
        while True:
            first = self.cache.step
            drafts = yield from self._drafts(known)
            self.search = known
            answer = yield from self._verify(first, drafts)
            kept = 0
            for draft, row in zip(drafts, answer.candidates):
                parents, kept = known.advance([row]), kept + 1
                word = known.tokens[0][-1] if parents is not None else None
                ended = () if word is None else (word,)
                self.steps.append(StepLog(draft.step.depth, ended, tuple(parents or ())))
                if word is None or word != draft.word:
                    break
            if word is None:
                return
            self.cache.rewind(first + kept)

    def _drafts(self, known: BeamSearch) -> Generator[Request, Answer, list[_Draft]]:
        """As many steps as one pass can verify, or up to the end."""
        self.search = known.copy()
        drafts: list[_Draft] = []
        while len(drafts) < self.layout.verify_rows:
            given = self.search.tokens[0][-1]
            step = yield from self._step()
            drafts.append(_Draft(given, step.tokens[0] if step.parents else None, step))
            if not step.parents:
                break
        return drafts

    def _verify(self, first: int, drafts: Sequence[_Draft]) -> SegmentCall:
        """Full depth's answer after each of the steps `first`, `first` + 1, …"""
        layout, count = self.layout, len(drafts)
        slots = tuple(range(first, first + count))
        position = Position(first, tuple(tuple(range(slot)) for slot in slots), together=True)
        start, source = self._begin(drafts), EXIT_STATES
        if not start:
            source = "verify.0"
            ids = self.embedded([d.given for d in drafts], slots, layout.verify_rows)
            yield from self._ask(Request("verify_embed", {"ids": "verify_ids"}, {"x": source}, ids=ids))
        for place, j in enumerate(range(start, len(layout.decoder.stages))):
            yield from self._cross(j)
            inputs = {
                "x": source,
                "slots": f"slots.{j}",
                "slot_bias": f"verify_slot_bias.{j}",
                "own_bias": f"verify_own_bias.{j}",
                "cross_k": f"cross_k.{j}",
                "cross_v": f"cross_v.{j}",
                "cross_bias": "verify_cross_bias",
            }
            rows, source = slots if source == EXIT_STATES else (), f"verify.{(place + 1) % 2}"
            outputs = {
                "y": source,
                "score": "verify_score",
                "gap": "verify_gap",
                "kv_rows": f"verify_rows.{j}",
            }
            store = (Store("kv_rows", f"slots.{j}", slots),)
            yield from self._ask(
                Request(f"verify.{j}", inputs, outputs, gather=rows, store=store, position=position)
            )
        ports = {port: f"verify_{port}" for port in HEAD_PORTS}
        answer = yield from self._ask(Request("verify_head", {"y": source}, ports, read=HEAD_PORTS))
        check_candidates(answer.candidates, count, first)
        return answer

    def _begin(self, drafts: Sequence[_Draft]) -> int:
        """The first segment that must run again: the one after that which all drafts left, if it is one and
        not the last."""
        depths = {draft.step.depth for draft in drafts}
        stages = self.layout.decoder.stages
        whole = self.wanted == set(range(len(stages)))  # no layer was left out before it
        left = [i + 1 for i, stage in enumerate(stages[:-1]) if {stage.depth} == depths]
        return left[0] if left and whole else 0


class Payoff:
    """Whether drafting pays, by a profile's times of the segments and by what captions called so far.

    A word costs full depth `embed`, every decoder segment and `head`. What drafting costs depends on the
    policy and on how many drafts are kept, so a few captions are drafted and the times of their calls are
    added up; drafting goes on if that is less than full depth would have needed. `seconds`: of one call of a
    segment (`Profile.call_seconds`).
    """

    def __init__(self, layout: Layout, seconds: Callable[[str], float]) -> None:
        self._seconds, names = seconds, [stage.name for stage in layout.decoder.stages]
        self.word = sum(map(seconds, ("embed", *names, "head")))
        rows = layout.verify_rows
        checked = [f"verify.{j}" for j in range(1, len(names))]
        least = rows * sum(map(seconds, ("embed", names[0], "head")))
        least += sum(map(seconds, (*checked, "verify_head"))) if rows else 0.0
        # Drafts of one segment, all of them kept: nothing can do better.
        self._may = bool(rows) and least < rows * self.word
        self._spent, self._words, self._captions = 0.0, 0, 0
        # What a caption calls once, drafted or not.
        self._once = {name for stack in layout.encoders for name in (stack.stem, stack.joins)}
        self._once |= {stage.name for stack in layout.encoders for stage in stack.stages}
        self._once |= {f"cross_kv.{j}" for j in range(len(names))}

    @property
    def pays(self) -> bool:
        """Whether the next caption is to be drafted."""
        return self._may and (self._captions < TRIED or self.ratio < 1)

    @property
    def ratio(self) -> float:
        """Time of the drafted captions' words over full depth's for the same; 1 before there are any."""
        return self._spent / (self._words * self.word) if self._words else 1.0

    def record(self, run: str) -> None:
        """A drafted caption called this segment."""
        if run not in self._once:
            self._spent += self._seconds(run)

    def record_caption(self, words: int) -> None:
        """A drafted caption ended with so many."""
        self._words, self._captions = self._words + words, self._captions + 1

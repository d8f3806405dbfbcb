"""Greedy captions that are full depth's, word for word, drafted with exits. Standard library only.

A few steps are drafted under a policy that exits the decoder early. Then the deeper segments run once over
all of them (`verify.j`: as many query rows as drafts, each seeing those before it), and the head gives full
depth's word after each. Words are kept up to the first that differs, and full depth's own in its place: so
every round gives at least one, and rows of the cache behind it are written again by the next.

The segments that all drafts ran need no second run, if all exited after the same one: what came before them
was full depth's, so their states there are exact. Else the pass begins with the words. The encoder runs at
full depth, for no later pass could check it. (After LayerSkip, Elhoushi et al. 2024.)
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

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
    if isinstance(policy, Policy):
        policy = replace(policy, exits={DECODER: policy.stack_exit(DECODER)})
        if not policy.may_exit:
            raise UsageError(
                f"policy {policy.label} leaves no decoder layer out: nothing to draft with; choose another (--policy)"
            )
    return (yield from _Lossless(layout, policy, search).run())


class _Lossless(Run):
    def _decode(self) -> Generator[Request, Answer, None]:
        accepted = self.search
        while True:
            first, inputs = self.cache.step, list[int]()
            drafts: list[StepLog] = []
            self.search = accepted.copy()
            while len(drafts) < self.layout.verify_rows and (not drafts or drafts[-1].parents):
                inputs.append(self.search.tokens[0][-1])
                drafts.append((yield from self._step()))
            self.search = accepted
            answer = yield from self._verify(first, inputs, drafts)
            for draft, row in zip(drafts, answer.candidates):
                parents = accepted.advance([row])
                tokens = () if parents is None else (accepted.tokens[0][-1],)
                self.steps.append(StepLog(draft.depth, tokens, tuple(parents or ())))
                if parents is None:
                    return
                if tokens != draft.tokens:
                    break
            self.cache.rewind(len(self.steps))

    def _verify(self, first: int, words: Sequence[int], drafts: Sequence[StepLog]) -> SegmentCall:
        """Full depth's answer after each of the steps `first`, `first` + 1, …, whose inputs are `words`."""
        layout, count = self.layout, len(drafts)
        slots = tuple(range(first, first + count))
        position = Position(first, tuple(tuple(range(slot)) for slot in slots), together=True)
        start, source = self._first_segment(drafts), EXIT_STATES
        if not start:
            source = "verify.0"
            ids = self.embed_ids(words, slots, layout.verify_rows)
            yield from self._send(Request("verify_embed", {"ids": "verify_ids"}, {"x": source}, ids=ids))
        for number, j in enumerate(range(start, len(layout.decoder.stages))):
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
            rows, source = slots if source == EXIT_STATES else (), f"verify.{(number + 1) % 2}"
            outputs = {"y": source, "score": "verify_score", "gap": "verify_gap", "kv_rows": f"verify_rows.{j}"}
            store = (Store("kv_rows", f"slots.{j}", slots),)
            yield from self._send(Request(f"verify.{j}", inputs, outputs, gather=rows, store=store, position=position))
        ports = {port: f"verify_{port}" for port in HEAD_PORTS}
        answer = yield from self._send(Request("verify_head", {"y": source}, ports, read=HEAD_PORTS))
        check_candidates(answer.candidates, count, first)
        return answer

    def _first_segment(self, drafts: Sequence[StepLog]) -> int:
        """The first segment that must run again: the one after that at which all drafts exited, if it is one
        and not the last."""
        depths, ends = {draft.depth for draft in drafts}, self.layout.decoder.ends
        whole = self.may_run == set(range(len(ends)))  # no layer was left out before it
        exits = [i for i, depth in enumerate(ends[:-1], 1) if {depth} == depths]
        return exits[0] if exits and whole else 0


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

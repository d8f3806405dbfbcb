"""Deadlines through the Python API, on the tiny bundle."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import mue_edge
from mue_edge.errors import UsageError
from mue_edge.inputs.bpe import ALPHABET
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.loop.protocol import Answer, Request
from mue_edge.sessions.captioner import Captioner

PICTURE = Image.new("RGB", (60, 50), "teal")
SHALLOW = Policy("fixed", {"image": StackExit(depth=1), "decoder": StackExit(depth=1)}, name="shallow")


class Late:
    """A runtime whose clock jumps `seconds` further with every call of a kind, without waiting."""

    def __init__(self, runtime: object, kind: str, seconds: float) -> None:
        self.runtime, self.kind, self.seconds, self.added = runtime, kind, seconds, 0.0

    def __getattr__(self, name: str) -> object:
        return getattr(self.runtime, name)

    def execute(self, request: Request) -> Answer:
        answer: Answer = self.runtime.execute(request)  # type: ignore[attr-defined]
        self.added += self.seconds * request.run.startswith(self.kind)
        return replace(answer, now=answer.now + self.added)


@pytest.fixture
def captioner(tiny_bundle: Path) -> Iterator[Captioner]:
    with mue_edge.open(tiny_bundle, threads=1) as opened:
        front = (SHALLOW.to_json(), *opened.bundle.manifest.front)
        manifest = replace(opened.bundle.manifest, front=front)
        yield Captioner(replace(opened.bundle, manifest=manifest), opened.runtime)


def test_what_stands_in_for_a_policy(captioner: Captioner) -> None:
    full = captioner.policy("full")
    assert captioner.faster(full) == (SHALLOW,)
    assert captioner.faster(SHALLOW) == ()
    assert captioner.faster(Policy("mue", {"decoder": StackExit(0.9)})) == (SHALLOW,)  # not of the front


def test_warming_up_learns_every_segment(captioner: Captioner) -> None:
    captioner.warm_up()
    known = {name for name in captioner.bundle.manifest.segments if captioner.speed.seconds(name) > 0}
    assert known == set(captioner.bundle.manifest.segments)
    assert captioner.speed.remaining_steps(0, 17) == (8.5, 17)  # a grey picture says nothing of captions' lengths


def test_a_slow_decoder_moves_it_to_the_faster_policy(captioner: Captioner) -> None:
    captioner.warm_up()
    runtime = captioner.runtime
    full = captioner.caption(PICTURE, deadline=1e6)
    assert full.deadline is not None and not full.deadline.hurried
    captioner.runtime = Late(runtime, "decoder", 1000.0)  # type: ignore[assignment]
    hurried = captioner.caption(PICTURE, deadline=15_000.0)
    assert hurried.deadline is not None and hurried.deadline.changes[-1].policy == "shallow"
    assert hurried.decoder_layers < full.decoder_layers
    captioner.runtime = Late(runtime, "stem", 20_000.0)  # type: ignore[assignment]
    empty = captioner.caption(PICTURE, deadline=15_000.0)
    assert empty.text == "" and empty.calls == 1 and empty.decoder_layers == 0
    assert empty.deadline is not None and empty.deadline.cut_short


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_deadline(captioner: Captioner, limit: float) -> None:
    with pytest.raises(UsageError, match="above 0"):
        captioner.caption(PICTURE, deadline=limit)


def test_what_was_closed_says_so(tiny_bundle: Path) -> None:
    captioner = mue_edge.open(tiny_bundle, threads=1)
    going = captioner.stream(PICTURE)
    next(going)
    captioner.close()
    captioner.close()
    for use in (
        lambda: captioner.caption(PICTURE),
        lambda: captioner.stream(PICTURE),
        captioner.warm_up,
        lambda: next(going),
        lambda: captioner.caption("nowhere.png", lossless=True),
    ):
        with pytest.raises(UsageError, match="was closed"):
            use()
    assert captioner.policy().name == "full"  # what needs no runtime still works


def test_a_stream_yields_whole_characters(tiny_bundle: Path) -> None:
    """Every token ends in the first byte of é, and begins with its second."""
    second, first = ALPHABET[0xA9], ALPHABET[0xC3]
    with mue_edge.open(tiny_bundle, threads=1) as captioner:
        words = captioner.tokenizer
        pieces = tuple(f"{second}{'a' * (i + 1)}{first}" for i in range(len(words.pieces)))
        captioner.tokenizer = replace(words, pieces=pieces, merges=())
        steps, texts = captioner.stream(PICTURE), []
        while True:
            try:
                texts.append(next(steps))
            except StopIteration as end:
                whole = end.value.text
                break
    assert "é" in texts[-1] and all(whole.startswith(text) for text in texts), (whole, texts)

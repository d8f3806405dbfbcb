"""The page's Python under CPython: the same captions when the host's runtime answers it."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mue_edge
from mue_edge.apps.web.session import FILES, PageSession
from mue_edge.bundle.folder import with_pareto_front
from mue_edge.errors import InputFileError, UsageError
from mue_edge.loop.driver import set_inputs
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import Answer, Position, Request, Store
from mue_edge.targets import open_entailer
from tests.apps.web.conftest import STATEMENTS, noise


def request_of(data: dict[str, Any]) -> Request:
    position = data["position"]
    return Request(
        data["run"],
        data["inputs"],
        data["outputs"],
        tuple(data["read"]),
        tuple(data["ids"]),
        tuple(data["gather"]),
        tuple(Store(s["port"], s["buffer"], tuple(s["rows"])) for s in data["store"]),
        position and Position(position["step"], tuple(map(tuple, position["ancestry"]))),
    )


def answer_of(answer: Answer) -> dict[str, Any]:
    return {"scalars": dict(answer.scalars), "candidates": [list(row) for row in answer.candidates], "now": answer.now}


@pytest.fixture
def bundle(tiny_bundle: Path, front: tuple[Policy, ...], tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    with_pareto_front(folder, front, "early")
    return folder


@pytest.fixture
def session(bundle: Path, tmp_path: Path) -> PageSession:
    """What Pyodide's file system holds, and no more."""
    folder = tmp_path / "page"
    folder.mkdir()
    for name in FILES:
        shutil.copy(bundle / name, folder)
    return PageSession(str(folder))


def test_captions_equal_the_captioners(session: PageSession, bundle: Path) -> None:
    picture = Image.new("RGB", (60, 40), (200, 30, 90))
    with mue_edge.open(bundle, threads=1) as captioner:
        for name in [policy["name"] for policy in session.policies()]:
            wanted = captioner.caption(picture, policy=name)
            captioner.runtime.set_pixels(captioner.pixels(picture))
            run, tokens = session.caption(name), []
            step = run.start()
            while "request" in step:
                step = run.send(answer_of(captioner.runtime.execute(request_of(step["request"]))))
                tokens += [(step["text"], step["depth"])] if "text" in step else []
            found = step["caption"]
            assert (found["text"], found["tokens"]) == (wanted.text, list(wanted.tokens))
            assert (found["exits"], found["calls"]) == (dict(wanted.exits), wanted.calls)
            assert [depth for _, depth in tokens] == wanted.exits["decoder"][:-1]
            assert all(wanted.text.startswith(text) for text, _ in tokens)
            assert "".join(found["words"]).strip() == wanted.text


def test_answers_equal_the_entailers(tiny_entail_bundle: Path) -> None:
    session = PageSession(str(tiny_entail_bundle))
    assert session.task() == "entail"
    picture = noise(60, 50, 0)
    with open_entailer(tiny_entail_bundle, threads=1) as entailer:
        for statement in STATEMENTS:
            wanted = entailer.entail(picture, statement)
            run = session.entail(statement)
            set_inputs(entailer.runtime, entailer.pixels(picture), run.source())
            step = run.start()
            while "request" in step:
                step = run.send(answer_of(entailer.runtime.execute(request_of(step["request"]))))
            assert step["entailment"] == {
                "answer": wanted.answer,
                "probabilities": wanted.probabilities,
                "note": "",
                "exits": wanted.exits,
                "calls": wanted.calls,
            }


def test_answers_with_a_caption_equal_the_entailers(tiny_captions_bundle: Path) -> None:
    session, picture = PageSession(str(tiny_captions_bundle)), noise(60, 50, 0)
    with open_entailer(tiny_captions_bundle, threads=1) as entailer:
        for caption in (None, "d E", "f xyz"):
            wanted = entailer.entail(picture, "a b", caption=caption)
            run = session.entail("a b", None, caption)
            assert tuple(run.source()) == entailer.source("a b", caption)
            set_inputs(entailer.runtime, entailer.pixels(picture), run.source())
            step = run.start()
            while "request" in step:
                step = run.send(answer_of(entailer.runtime.execute(request_of(step["request"]))))
            assert step["entailment"]["probabilities"] == wanted.probabilities
            assert ("xyz" in step["entailment"]["note"]) == (caption == "f xyz")
    with pytest.raises(UsageError, match="--text-length 17"):
        session.entail("a", None, "b " * 11)


def test_statements_that_cannot_be_judged(tiny_entail_bundle: Path, session: PageSession) -> None:
    judging = PageSession(str(tiny_entail_bundle))
    for statement, message in (("!", "says nothing"), ("a " * 8, "shorten the statement")):
        with pytest.raises(UsageError, match=message):
            judging.entail(statement)
    with pytest.raises(UsageError, match="full"):
        judging.entail("a", "no such policy")
    with pytest.raises(UsageError, match="not trained with captions"):
        judging.entail("a", "full", "b")
    with pytest.raises(UsageError, match="judges statements"):
        judging.caption()
    assert session.task() == "caption"
    with pytest.raises(UsageError, match="captions pictures"):
        session.entail("a")


def test_what_the_slider_shows(session: PageSession) -> None:
    assert [(p["name"], p["opening"]) for p in session.policies()] == [
        ("fixed", False),
        ("early", True),
        ("full", False),
    ]
    assert session.stacks() == [
        {"name": "image", "reads": "the picture", "layers": 3},
        {"name": "text", "reads": "", "layers": 3},
        {"name": "decoder", "reads": "", "layers": 3},
    ]
    with pytest.raises(UsageError, match="early"):
        session.caption("no such policy")


def test_numbers_that_are_none_end_in_one_line(session: PageSession, bundle: Path) -> None:
    run = session.caption("early")
    step = run.start()
    while "request" in step:
        rows = [[[4, 2], [math.nan, -1.0], -1.0]]
        scalars = {port: [math.nan] for port in step["request"]["read"]}
        step = run.send({"scalars": scalars, "candidates": rows, "now": 0.0})
    assert "not finite" in step["error"] and "\n" not in step["error"]


def test_files_are_the_manifests(session: PageSession, bundle: Path) -> None:
    data = (bundle / "segments" / "weights.bin").read_bytes()
    check = session.check("segments/weights.bin")
    for start in range(0, len(data), 1000):
        check.update(data[start : start + 1000])
    check.finish()
    for wrong in (data[:-1], data[:-1] + bytes([data[-1] ^ 1])):
        check = session.check("segments/weights.bin")
        check.update(wrong)
        with pytest.raises(InputFileError, match="Load the page again"):
            check.finish()
    with pytest.raises(InputFileError, match="lists no file"):
        session.check("../secret")

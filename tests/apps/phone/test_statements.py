"""The app of a bundle that judges statements: the app itself, its reader, and what is shown of an answer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mue_edge import targets
from mue_edge.apps.phone.reader import BackgroundReader, BundleSummary
from mue_edge.apps.phone.reading import DepthRow, judged
from mue_edge.errors import InputFileError, UsageError
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.sessions.entailer import Entailer, Entailment
from tests.apps.cli.run import Runner, picture
from tests.apps.phone.driven import driven
from tests.apps.phone.finished import finished

FAST = Policy(
    "fixed", {"image": StackExit(depth=1), "text": StackExit(depth=1), "decoder": StackExit(depth=1)}, name="fast"
)
FULL = Policy("never", name="full")


@pytest.fixture
def bundle(tiny_entail_bundle: Path, tmp_path: Path) -> Path:
    """With two policies."""
    made = tmp_path / "bundle"
    shutil.copytree(tiny_entail_bundle, made)
    manifest = json.loads((made / "manifest.json").read_text())
    manifest |= {"front": [p.to_json() | {"name": p.name} for p in (FAST, FULL)], "chosen": "full"}
    (made / "manifest.json").write_text(json.dumps(manifest))
    return made


@pytest.fixture
def entailer(bundle: Path) -> Iterator[Entailer]:
    with targets.open_entailer(bundle, threads=1) as opened:
        yield opened


def plain(text: str) -> str:
    return text.replace("\n", " ")


def test_statements_are_judged_and_read_aloud(backend: str, bundle: Path, entailer: Entailer, tmp_path: Path) -> None:
    pytest.importorskip("toga", reason="Toga is not installed: pip install 'mue-edge[phone]'")
    first, second = picture(tmp_path / "a.png"), picture(tmp_path / "b.png", seed=7)
    found = driven(backend, tmp_path, bundle, first, second, driver="drive_statements")

    def answer(file: Path, statement: str, policy: Policy = FULL) -> tuple[str, str]:
        """The answer, and the line that starts with the statement."""
        judged = entailer.entail(file, statement, policy=policy)
        shares = ", ".join(f"{word} {share:.0%}" for word, share in judged.probabilities.items())
        return judged.answer, f"“{statement}”: {shares}"

    def saw(name: str, file: Path, statement: str, policy: Policy = FULL) -> dict[str, Any]:
        shown: dict[str, Any] = found[name]
        assert (shown["caption"], shown["state"].splitlines()[0]) == answer(file, statement, policy), name
        assert shown["aloud"] == ["Read aloud", True]
        return shown

    assert found["title"] == "Statements" and found["ready"]["asks"] and found["ready"]["choose"]
    assert found["no picture"]["state"] == "Now choose a picture."
    shown = found["picture"]
    assert shown["state"] == "Now write a statement." and shown["picture"] == [50, 60]
    assert shown["caption"] == shown["problem"] == "" and not shown["aloud"][1]
    assert plain(found["empty"]["problem"]) == "the statement '' says nothing"

    asked = saw("asked", first, "a b")
    assert asked["problem"] == "" and " ms: picture " in asked["state"]
    assert [tuple(row) for row in asked["rows"]] == [
        ("the picture", 3, "3 of 3"),
        ("the statement", 3, "3 of 3"),
        ("the answer", 3, "3 of 3"),
    ]
    other = saw("other picture", second, "a b")
    spoken = f"a b? {other['caption']}"
    assert (tmp_path / "spoken").read_text().strip() == spoken
    unknown = saw("unknown", second, "a xyz")
    assert unknown["problem"] == "the model has no words for xyz"
    long = found["long"]
    assert "this bundle reads 11" in plain(long["problem"]) and long["caption"] == long["state"] == ""
    fastest = saw("fastest", second, "a b", FAST)
    assert [row[2] for row in fastest["rows"]] == ["1 of 3"] * 3
    assert (fastest["policy"], fastest["problem"]) == ("Policy: fast", "")
    # What a screen reader says, in turn: nothing is said twice, although Enter was pressed twice.
    assert [plain(line) for line in found["announced"]] == [
        "Now choose a picture.",
        "Now write a statement.",
        "the statement '' says nothing",
        f"a b? {asked['caption']}",
        spoken,
        f"a xyz? {unknown['caption']}. the model has no words for xyz",
        plain(long["problem"]),
        f"a b? {fastest['caption']}",
    ]
    if backend == "toga_qt":
        assert found["field_name"] == "Does the picture show this?"
        assert other["picture_name"] == f"The picture: {spoken}"
        assert other["bar_name"][1] == "the statement: 3 of 3 layers"


def test_what_is_shown_of_an_answer(entailer: Entailer) -> None:
    found = Entailment(
        "yes",
        {"no": 0.1, "yes": 0.846, "maybe": 0.054},
        exits={"image": 2, "text": 1, "decoder": [1, 2, 3, 3]},
        decisions=(),
        seconds={"preprocess": 0.002, "total": 0.012},
        calls=17,
    )
    shown = judged(found, "a red dog", entailer.layout, "a note")
    assert (shown.text, shown.spoken, shown.note) == ("yes", "a red dog? yes", "a note")
    assert shown.shares == "“a red dog”: no 10%, yes 85%, maybe 5%"
    assert shown.times == "12 ms: picture 2 ms, model 10 ms in 17 calls"
    assert shown.rows == (
        DepthRow("the picture", 2, 3),
        DepthRow("the statement", 1, 3),
        DepthRow("the answer", 2.25, 3),
    )
    assert [row.count for row in shown.rows] == ["2 of 3", "1 of 3", "2.2 of 3"]


def test_the_reader_judges(entailer: Entailer, tmp_path: Path) -> None:
    reader, seen = BackgroundReader(lambda: entailer), list[tuple[int, int]]()

    async def use() -> None:
        assert await reader.start() == BundleSummary(("fast", "full"), 1, judges=True)
        file = picture(tmp_path / "a.png")
        watch = lambda shown: seen.append(shown.size)
        made = await reader.judge(file, "c", "fast", watch)
        assert made.text == entailer.entail(file, "c", policy="fast").answer and made.note == ""
        await reader.look(file, watch)
        with pytest.raises(UsageError, match="says nothing"):
            await reader.judge(file, "!", "full", watch)
        for work in (reader.judge(tmp_path / "b.png", "c", "full", watch), reader.look(tmp_path, watch)):
            with pytest.raises(InputFileError):
                await work
        # The picture of the statement that says nothing was seen; files that are none were not.
        assert seen == [(50, 60)] * 3

    finished(use())
    reader.close()


def test_a_caption_is_of_one_picture(backend: str, tiny_captions_bundle: Path, tmp_path: Path) -> None:
    """There is a field for it where the bundle reads captions, and another picture empties it."""
    pytest.importorskip("toga", reason="Toga is not installed: pip install 'mue-edge[phone]'")
    first, second = picture(tmp_path / "a.png"), picture(tmp_path / "b.png", seed=7)
    knowing = tmp_path / "knowing"
    shutil.copytree(tiny_captions_bundle, knowing)
    manifest = json.loads((knowing / "manifest.json").read_text())
    (knowing / "manifest.json").write_text(json.dumps(manifest | {"knows": "red squares only"}))
    found = driven(backend, tmp_path, knowing, first, second, driver="drive_captions")
    assert found["knows"] == "This model knows red squares only."
    with targets.open_entailer(tiny_captions_bundle, threads=1) as opened:
        for name, file, caption in (
            ("alone", first, None),
            ("captioned", first, "d e"),
            ("other picture", second, None),
        ):
            judged = opened.entail(file, "a b", caption=caption)
            shares = ", ".join(f"{word} {share:.0%}" for word, share in judged.probabilities.items())
            assert plain(found[name]["state"]).startswith(f"“a b”: {shares}"), name
    assert found["fields"] == 2 and "says nothing" in plain(found["nothing"]["problem"])


def test_the_command_takes_both_kinds_of_bundles(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_entail_bundle: Path, tiny_bundle: Path
) -> None:
    pytest.importorskip("toga", reason="Toga is not installed: pip install 'mue-edge[phone]'")
    from mue_edge.apps.cli.commands.apps import phone
    from mue_edge.apps.phone import app

    opened: list[str] = []

    def make(open_session: Any, **options: Any) -> Any:
        with open_session() as session:
            opened.append(type(session).__name__)
        return SimpleNamespace(main_loop=lambda: None)

    monkeypatch.setattr(app, "make", make)
    monkeypatch.setattr(phone.signal, "signal", lambda *what: None)
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    run = Runner(capsys)
    assert [run("phone", "--bundle", made).code for made in (tiny_entail_bundle, tiny_bundle)] == [0, 0]
    assert opened == ["Entailer", "Captioner"]

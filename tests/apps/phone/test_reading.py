"""What is shown of a caption, without any widget."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from mue_edge.apps.phone.reader import BackgroundReader, BundleSummary
from mue_edge.apps.phone.reading import captioned, wrapped
from mue_edge.errors import InputFileError, UsageError
from mue_edge.sessions.captioner import Captioner
from tests.apps.camera.made import FAST, FULL, captioner, plain
from tests.apps.cli.run import picture
from tests.apps.phone.finished import finished


def test_rows_are_the_layers_that_ran() -> None:
    made = captioner()
    caption = made.caption(plain(), policy=FULL)
    shown = captioned(caption, made.layout, made.tokenizer)
    assert shown.text == shown.spoken == caption.text
    assert [row.depth for row in shown.rows] == [3, *caption.exits["decoder"]]
    assert (shown.rows[0].label, shown.rows[-1].label) == ("the picture", "the end")
    assert shown.rows[0].count == "3 of 3"
    assert f"{caption.calls} calls" in shown.times and "3.0 of 3 decoder layers" in shown.times


def test_lines_are_short_and_lose_nothing() -> None:
    text = "a waning crescent moon with a very long caption"
    lines = wrapped(text, 22).split("\n")
    assert max(map(len, lines)) <= 22 and " ".join(lines) == text
    assert wrapped("", 22) == ""


def test_the_reader_grows_a_caption(tmp_path: Path) -> None:
    grown, seen = list[str](), list[tuple[int, int]]()
    reader = BackgroundReader(captioner)

    async def use() -> None:
        assert await reader.start() == BundleSummary(("full",), 0)
        file = picture(tmp_path / "a.png")
        made = await reader.caption(file, "full", lambda p: seen.append(p.size), grown.append)
        await asyncio.sleep(0)
        assert made.text.startswith(grown[0]) and len(grown) == 5 and seen == [(50, 60)]
        with pytest.raises(InputFileError, match="does not exist"):
            await reader.caption(tmp_path / "b.png", "full", seen.append, grown.append)  # type: ignore[arg-type]

    finished(use())
    reader.close()


def test_a_model_that_knows_little_opens_early() -> None:
    """With full depth beside it, unless somebody chose."""

    def knowing() -> Captioner:
        made = captioner()
        front = tuple(p.to_json() | {"name": p.name} for p in (FAST, FULL))
        manifest = replace(made.bundle.manifest, front=front, knows="red squares only")
        return Captioner(replace(made.bundle, manifest=manifest), made.runtime)

    front = finished(BackgroundReader(knowing).start())
    assert front == BundleSummary(("fast", "full"), 0, knows="red squares only")
    assert finished(BackgroundReader(knowing).start("full")).chosen == 1


def test_an_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'quick'.*\(full\)"):
        finished(BackgroundReader(captioner).start("quick"))

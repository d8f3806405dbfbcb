"""The app itself in a process of its own: on Qt without a display, and on Toga's stand-in of widgets."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mue_edge.errors import EnvironmentLacksError
from tests.apps.cli.run import Runner, picture
from tests.apps.phone.driven import driven

pytest.importorskip("toga", reason="Toga is not installed: pip install 'mue-edge[phone]'")

from mue_edge.apps.phone import app


def test_pictures_are_captioned_and_read_aloud(backend: str, tmp_path: Path) -> None:
    wide, bad = picture(tmp_path / "a.png"), tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    found = driven(backend, tmp_path, bad, wide)
    ready, (damaged, good), fastest = found["ready"], found["pictures"], found["fastest"]
    assert ready["state"] == "Ready." and ready["choose"] and ready["rows"] == []
    assert ready["aloud"] == ["Read aloud", False]  # nothing to read yet
    assert found["knows"] == ""  # nothing is said of a user's own model
    assert not ready["asks"] and found["title"] == "Captions"
    assert "is not a picture" in damaged["problem"].replace("\n", " ") and damaged["caption"] == ""
    assert damaged["choose"] and not damaged["aloud"][1]
    assert good["problem"] == "" and good["caption"] and good["aloud"][1]
    assert good["picture"] == [50, 60]
    assert [row[2] for row in good["rows"]] == ["3 of 3"] * 7
    assert [row[2] for row in fastest["rows"]] == ["1 of 3"] * 7
    assert (good["policy"], fastest["policy"]) == ("Policy: full", "Policy: fast")
    assert good["rows"][0][0] == "the picture" and good["rows"][-1][0] == "the end"
    assert " ms: picture " in good["state"]
    text = good["caption"].replace("\n", " ")
    assert (tmp_path / "spoken").read_text().strip() == text
    # What a screen reader says: the caption once, when it is complete, and names of what has no text.
    assert [line for line in found["announced"] if line == text] == [text] * 2
    if backend == "toga_qt":
        assert good["picture_name"] == f"The picture: {text}"
        assert good["bar_name"][0] == "the picture: 3 of 3 layers"
        assert found["window"][1] > 500


def test_without_a_voice(backend: str, tmp_path: Path) -> None:
    found = driven(backend, tmp_path, picture(tmp_path / "a.png"), voice=False)
    assert found["pictures"][0]["caption"]
    assert found["pictures"][0]["aloud"] == ["No text to speech here", False]


def test_without_a_display(tmp_path: Path) -> None:
    """One line, not an abort of Qt's."""
    from mue_edge.apps.cli.commands.apps import phone

    if sys.platform != "linux":
        pytest.skip("a display is Linux's question")
    with pytest.raises(EnvironmentLacksError, match="no display"):
        phone.check_display({})
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        phone.check_display({name: "something"})


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capsys)


@pytest.mark.parametrize("name", ["nope.png", "words.txt"])
def test_a_picture_that_cannot_be_read_is_told_before_a_window_opens(
    run: Runner, tiny_bundle: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "words.txt").write_text("words")
    assert name in run("phone", tmp_path / name, "--bundle", tiny_bundle).error(4)


def test_debians_packages_are_complete() -> None:
    """What Qt's plugin for X links, by Debian's rule for the names of libraries' packages."""
    objdump, qt = shutil.which("objdump"), pytest.importorskip("PySide6", reason="Qt is not installed")
    if sys.platform != "linux" or objdump is None:
        pytest.skip("no objdump here, or no Linux")
    folder, needed = Path(qt.__file__).parent / "Qt", set[str]()
    for file in ("plugins/platforms/libqxcb.so", "lib/libQt6XcbQpa.so.6", "lib/libQt6Gui.so.6"):
        said = subprocess.run([objdump, "-p", folder / file], capture_output=True, text=True, check=True).stdout
        needed |= set(re.findall(r"NEEDED +(\S+)", said))
    always = r"(libQt6.*|libc|libm|libgcc_s|libstdc\+\+|libpthread|libdl|librt|ld-linux.*)\.so.*"
    # Several libraries in a package, or one that brings another along.
    within = {
        "libgthread-2.0-0": "libglib2.0-0", "libglib-2.0-0": "libglib2.0-0", "libx11-6": "libx11-xcb1",
        "libxcb1": "libx11-xcb1", "libxcb-util1": "libxcb-cursor0", "libxcb-render0": "libxcb-render-util0",
        "libfreetype6": "libfontconfig1", "libz1": "libfontconfig1", "libzstd1": "libglib2.0-0",
    }  # fmt: skip
    found = set()
    for library in needed:
        if not re.fullmatch(always, library):
            stem, _, version = library.lower().partition(".so.")
            found.add(f"{stem}{'-' if stem[-1].isdigit() else ''}{version}")
    wanted = {within.get(name, name) for name in found}
    assert wanted <= set(app.DEBIAN.split()), wanted - set(app.DEBIAN.split())
    docs = (Path(__file__).parents[3] / "docs" / "phone.md").read_text(encoding="utf-8")
    assert app.DEBIAN in " ".join(docs.replace("\\\n", " ").split())


def test_options_that_exclude_each_other(run: Runner, tmp_path: Path) -> None:
    assert "--target is for --project" in run("phone", "--target", "iphone").error(2)
    both = run("phone", "--project", tmp_path / "p", "--bundle", "b", "--target", "host")
    assert "leave --target out" in both.error(2)
    assert "--bundle or --target only" in run("phone", "a.png", "--project", tmp_path / "p").error(2)

"""Terminals, disks and users as they are: a sentence, never a traceback, and nothing half-written."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mue_edge.files import sha256
from tests.apps.cli.run import Runner, picture

ROOT = Path(__file__).resolve().parents[3]
NO_HOME = """
import os, pwd, sys
def nobody(user):
    raise KeyError(f"getpwuid(): uid not found: {user}")
pwd.getpwuid = nobody
for name in ("HOME", "XDG_CACHE_HOME", "USER", "LOGNAME"):
    os.environ.pop(name, None)
"""
MAIN = "import sys; from mue_edge.apps.cli.main import main; main(sys.argv[1:])"


def child(
    *args: str | Path,
    code: str = MAIN,
    out: int | None = subprocess.PIPE,
    before: Callable[[], None] | None = None,
    **environment: str,
) -> subprocess.CompletedProcess[bytes]:
    """A command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        cwd=ROOT,
        stdout=out,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        preexec_fn=before,
        check=False,
    )


def sentence(done: subprocess.CompletedProcess[bytes], code: int) -> str:
    """The error's line."""
    text = done.stderr.decode()
    assert done.returncode == code and "Traceback" not in text, text
    last = text.strip().splitlines()[-1]
    assert last.startswith("error: "), text
    return last


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_every_encoding_takes_what_is_drawn(tiny_bundle: Path, tmp_path: Path, encoding: str) -> None:
    file = picture(tmp_path / "p.png")
    how = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = child("caption", tiny_bundle, file, "--trace", **how)
    assert done.returncode == 0, done.stderr
    bars = done.stdout.decode("utf-8")
    assert ("█" if encoding != "cp1252" else "#") in bars  # click writes UTF-8 where ASCII is asked for


def test_characters_without_a_stand_in_and_bytes_of_file_names(tmp_path: Path) -> None:
    code = (
        "import sys; from mue_edge.apps.cli.terminal import make_legible; make_legible(sys.stdout);"
        "sys.stdout.write('β → 漢 \\udcff…')"
    )
    done = child(code=code, PYTHONIOENCODING="cp1252", PYTHONUTF8="0")
    assert done.stdout == b"beta -> ? \xff\x85", done.stderr


def test_a_user_without_a_home(tiny_bundle: Path, tmp_path: Path) -> None:
    file = picture(tmp_path / "p.png")
    assert child("caption", tiny_bundle, file, code=NO_HOME + MAIN).returncode == 0
    found = child("list", tiny_bundle, "--json", code=NO_HOME + MAIN)
    assert len(json.loads(found.stdout)["bundles"]) == 1
    assert json.loads(child("doctor", "--json", code=NO_HOME + MAIN).stdout)["cache"] is None
    assert "XDG_CACHE_HOME" in sentence(child("caption", file, code=NO_HOME + MAIN), 5)


def test_standard_output_that_cannot_be_written() -> None:
    for unbuffered in ("", "1"):
        with Path("/dev/full").open("wb") as full:
            done = child("targets", out=full.fileno(), PYTHONUNBUFFERED=unbuffered)
        assert "standard output" in sentence(done, 5) and len(done.stderr.splitlines()) == 1
    closed = child("targets", out=None, before=lambda: os.close(1))
    assert closed.returncode == 0, closed.stderr


def table(folder: Path) -> Path:
    """Four captioned pictures."""
    for i in range(4):
        picture(folder / f"{i}.png", i)
    (folder / "t.csv").write_text("image,caption\n" + "".join(f"{i}.png,a b\n" for i in range(4)))
    return folder / "t.csv"


def test_a_full_disk(tiny_bundle: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for it: the system's error is of the same kind."""
    data, out = table(tmp_path), tmp_path / "out"
    wanted: dict[str, tuple[str | Path, ...]] = {
        "export": ("export", tiny_model_folder, "--out", out / "x"),
        "import": ("import", "--random", "ofa-tiny", "--out", out / "x"),
        "caption": ("caption", tiny_bundle, data.with_name("0.png"), "--svg", out / "x.svg"),
        "conformance": ("conformance", tiny_bundle, "--out", out / "x"),
        "alt-text": ("alt-text", tmp_path, "--bundle", tiny_bundle, "--table", out / "x.ndjson"),
        "train": ("train", tiny_model_folder, "--data", data, "--out", out, "--steps", "1", "--batch", "2"),
    }  # fmt: skip

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))

    for name, args in wanted.items():
        out.mkdir()
        said = sentence(child(*args, before=small), 5)
        assert str(out) in said and "too large" in said, (name, said)
        assert not {p.name for p in out.rglob("*")} - {"log.jsonl", "run.json"}, name
        for left in out.iterdir():
            left.unlink()
        out.rmdir()


@pytest.mark.parametrize(
    "args",
    [
        ("caption", "B", "P", "--svg"), ("profile", "B", "--out"), ("verify", "B", "--device", "--out"),
        ("bench", "B", "--out"), ("alt-text", "F", "--table"), ("alt-text", "F", "--review"),
        ("evaluate", "M", "--heatmap"),
    ],
)  # fmt: skip
def test_a_folder_that_is_not_there(args: tuple[str, ...], tmp_path: Path, run: Runner) -> None:
    """Before anything is read or computed: the bundle, model and pictures do not exist either."""
    line = run(*args, tmp_path / "nowhere" / "x").error(2)
    assert f"there is no folder {tmp_path / 'nowhere'}" in line and args[-1] in line


def test_folders_that_cannot_be_written(
    tiny_bundle: Path, tmp_path: Path, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the place of a folder stands for it, since tests may run as root."""
    (tmp_path / "file").write_text("")
    assert "file/x" in run("conformance", tiny_bundle, "--out", tmp_path / "file" / "x").error(5)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    line = run("profile", tiny_bundle, "--out", tmp_path / "x.json").error(2)
    assert "nothing can be written" in line


def test_too_few_pictures_to_calibrate_on(tiny_model_folder: Path, tmp_path: Path, run: Runner) -> None:
    data, out = table(tmp_path), tmp_path / "out"
    data.write_text("image,caption\n0.png,a b\n")
    args = ("calibrate", tiny_model_folder, "--budget", "50%", "--data", data, "--out", out)
    assert "1 pictures are too few" in run(*args).error(4)
    assert not out.exists()


def linked(folder: Path, hub: Path) -> Path:
    """A copy of the folder as Hugging Face's cache keeps it: links to files that are called by their hash."""
    snapshot = hub / "snapshots" / ("ab12" * 10)
    (hub / "blobs").mkdir(parents=True)
    for file in (f for f in folder.rglob("*") if f.is_file()):
        blob = hub / "blobs" / sha256(file)
        blob.write_bytes(file.read_bytes())
        link = snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


@pytest.mark.parametrize("links", ["all", "one"])
def test_a_bundle_of_links_can_be_copied(
    tiny_bundle: Path, tmp_path: Path, run: Runner, links: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that the error prints is followed."""
    monkeypatch.chdir(tmp_path)
    place = linked(tiny_bundle, tmp_path / "models--me--it's mine")
    if links == "one":
        text = (place / "manifest.json").read_text()
        (place / "manifest.json").unlink()
        (place / "manifest.json").write_text(text)
    file = picture(tmp_path / "p.png")
    line = run("caption", place, file).error(4)
    copy = line.partition("point to: ")[2]
    assert subprocess.run(copy, shell=True, check=False).returncode == 0, copy
    done = run("caption", shlex.split(copy)[-1], file)
    assert done.code == 0 and done.out == run("caption", tiny_bundle, file).out


def test_a_model_folder_of_links_is_one(tiny_model_folder: Path, tmp_path: Path, run: Runner) -> None:
    place = linked(tiny_model_folder, tmp_path / "models--me--mine")
    assert run("export", place, "--out", tmp_path / "bundle").code == 0
    assert not any(p.is_symlink() for p in (tmp_path / "bundle").rglob("*"))


def commands_of(text: str) -> list[list[str]]:
    """The words of every command of mue-edge in a text, as a shell would read them."""
    return [shlex.split(found) for found in re.findall(r"mue-edge (?:[a-z-]+ .*)$", text, re.MULTILINE)]


def test_commands_that_are_printed_keep_their_words(
    tiny_bundle: Path,
    tiny_model_folder: Path,
    tiny_entail_bundle: Path,
    tmp_path: Path,
    run: Runner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Folders with spaces, quotes and dollars: each is one word of the command that names it."""
    monkeypatch.chdir(tmp_path)
    here = tmp_path / "my sticker's $HOME"
    here.mkdir()
    model, bundle, judge, pages = here / "model", here / "bundle", here / "judge", here / "pages"
    for source, place in ((tiny_model_folder, model), (tiny_bundle, bundle), (tiny_entail_bundle, judge)):
        shutil.copytree(source, place)
    shutil.copytree(model, here / "empty")
    (here / "empty" / "config.json").unlink()
    pages.mkdir()
    file = picture(pages / "p.png")
    printed = {
        "export": run("export", model, "--out", here / "made").out,
        "caption": run("caption", bundle).err,
        "late": run("caption", file, bundle).err,
        "model": run("inspect", model).err,
        "judges": run("caption", judge, file).err,
        "captions": run("entail", bundle, file, "a").err,
        "build": run("build", bundle).err,
        "conformance": run("conformance", bundle, "--out", here / "kit").out,
        "alt-text": run("alt-text", pages, "--bundle", bundle).out,
        "review": run("alt-text", pages, "--review", here / "review.html").out,
        "camera": run("camera", file, "--bundle", bundle).err,
        "nothing": run("export", here / "empty").err,
        "import": run("import", "--random", "ofa-tiny", "--out", here / "random").out,
    }
    for name, text in printed.items():
        found = commands_of(text)
        assert found, (name, text)
        assert any(word.startswith(str(here)) for words in found for word in words), (name, text)
        pieces = {"sticker's", "my", "$HOME"}
        assert not any(pieces & set(words) for words in found), (name, text)


def test_every_printed_command_goes_through_the_helper() -> None:
    """No text of the source puts a path into a command by itself."""
    unquoted = re.compile(r"mue-edge (?!reads)[a-z-]+[^\"']*\{(?!name\}|beam\}|len\(ids\)\}|command_line)")
    rooms = ("mue_edge", "apps", "export", "targets", "calibrate")
    files = [file for room in rooms for file in (ROOT / room).rglob("*.py")]
    wrong = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in files
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if unquoted.search(line)
    ]
    assert len(files) > 100 and not wrong, wrong

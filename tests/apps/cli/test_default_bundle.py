"""The bundle that a name stands for: made once into the user's cache, and what may go wrong there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mue_edge
from mue_edge.apps.cli import default_bundle
from mue_edge.errors import EnvironmentLacksError, InputFileError, UsageError
from tests.apps.cli.conftest import Bundled
from tests.apps.cli.run import Runner

pytest.importorskip("torch")
pytest.importorskip("onnx")


def test_it_is_made_once(run: Runner, bundled: Bundled) -> None:
    first = run("caption", bundled.pictures / "0.png")
    assert first.code == 0 and len(first.err.splitlines()) == 1
    assert first.err.startswith("exporting the bundled model stickers to ") and "(once)" in first.err
    second = run("caption", bundled.pictures / "0.png")
    assert (second.code, second.out, second.err) == (0, first.out, "")
    assert bundled.exports == ["stickers-host"]
    (kept,) = bundled.kept()
    assert kept.name.startswith("stickers-host-") and list(Path().iterdir()) == []


def test_the_key_is_of_weights_and_version(
    bundled: Bundled, tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mue_edge.apps import stickers

    places = [default_bundle.place_of("stickers")]
    monkeypatch.setattr(mue_edge, "__version__", "0.1.1")
    places.append(default_bundle.place_of("stickers"))
    other = shutil.copytree(tiny_model_folder, tmp_path / "other")
    (other / "model.safetensors").write_bytes(b"other weights")
    monkeypatch.setattr(stickers, "model_folder", lambda: other)
    places.append(default_bundle.place_of("stickers"))
    assert len(set(places)) == 3


def flip(place: Path) -> None:
    """A bit, with the time as it was: a stamp cannot tell."""
    path = place / "segments" / "head.onnx"
    before, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda place: (place / "manifest.json").unlink(),
        lambda place: (place / "manifest.json").write_text("{"),
        lambda place: (place / "constants.bin").write_bytes(b""),
        lambda place: [shutil.rmtree(place), place.mkdir()],
        lambda place: [shutil.rmtree(place), place.write_text("")],
        # What a process that was killed leaves: its folder beside the place.
        lambda place: place.rename(place.with_name(f".{place.name}.killed")),
    ],
    ids=["flipped", "no-manifest", "cut", "emptied-file", "emptied", "a-file", "killed"],
)
def test_a_damaged_one_is_made_again(run: Runner, bundled: Bundled, damage: Callable[[Path], object]) -> None:
    text = run("caption", bundled.pictures / "0.png").out
    (place,) = bundled.kept()
    damage(place)
    done = run("caption", bundled.pictures / "0.png")
    assert (done.code, done.out) == (0, text)
    assert bundled.exports == ["stickers-host"] * 2 and bundled.kept() == [place]


def test_an_export_that_fails_leaves_nothing(bundled: Bundled, monkeypatch: pytest.MonkeyPatch) -> None:
    from mue_edge.export import build

    good = build.export

    def broken(*args: Any) -> None:
        good(*args)
        raise KeyboardInterrupt

    def atomic(folder: Path, out: Path, *rest: Any) -> Any:
        from mue_edge.files import atomic_folder

        with atomic_folder(out, "manifest.json") as work:
            shutil.rmtree(work)
            return broken(folder, work, *rest)

    monkeypatch.setattr(build, "export", atomic)
    with pytest.raises(KeyboardInterrupt):
        default_bundle.cached("stickers")
    assert bundled.kept() == []
    monkeypatch.setattr(build, "export", good)
    assert default_bundle.cached("stickers") == bundled.kept()[0]


def test_a_second_process_waits_for_the_first(bundled: Bundled, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fcntl")
    from mue_edge.export import build

    waits, good, found = threading.Event(), build.export, []

    def slow(*args: Any) -> Any:
        assert waits.wait(30)  # until the other one has found the lock taken
        return good(*args)

    monkeypatch.setattr(build, "export", slow)
    monkeypatch.setattr(default_bundle, "say", lambda text: "waiting" in text and waits.set())
    threads = [threading.Thread(target=lambda: found.append(default_bundle.cached("stickers"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == bundled.kept() * 2 and bundled.exports == ["stickers-host"]


def test_without_locks_the_faster_one_wins(bundled: Bundled, monkeypatch: pytest.MonkeyPatch) -> None:
    from mue_edge.export import build

    monkeypatch.setitem(sys.modules, "fcntl", None)
    good = build.export

    def overtaken(folder: Path, out: Path, *rest: Any) -> None:
        good(folder, out, *rest)  # by another process, whose folder cannot be replaced
        raise OSError(39, "Directory not empty")

    monkeypatch.setattr(build, "export", overtaken)
    assert default_bundle.cached("stickers") == bundled.kept()[0]


def test_a_cache_that_cannot_be_written(
    run: Runner, bundled: Bundled, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    error = run("caption", bundled.pictures / "0.png").error(5)
    assert "XDG_CACHE_HOME" in error and "mue-edge export stickers --out FOLDER" in error


def test_python_follows_the_same_rule(bundled: Bundled, tiny_bundle: Path, tiny_model_folder: Path) -> None:
    for path in ("stickers", None, tiny_bundle):
        with mue_edge.open(path, threads=1) as captioner:
            assert captioner.caption(bundled.pictures / "0.png").tokens
    assert bundled.exports == ["stickers-host"]
    with pytest.raises(UsageError, match="mue-edge entail stickers-entail"):
        mue_edge.open("stickers-entail")
    with pytest.raises(InputFileError, match="mue-edge export"):
        mue_edge.open(tiny_model_folder)
    with pytest.raises(InputFileError, match="mue-edge list"):
        mue_edge.open("stikers")


def test_every_command_takes_it(run: Runner, bundled: Bundled, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing --bundle, and a bundled model's name in a bundle's place."""
    from mue_edge.apps import stickers

    shown = [(bundled.pictures / f"{i}.png", f"cat {i}") for i in range(2)]
    monkeypatch.setattr(stickers, "demo_pictures", lambda: shown)
    (bundled.pictures / "1b-damaged.png").unlink()
    demo = run("demo")
    assert demo.code == 0 and "mue-edge caption stickers PICTURE" in demo.out
    assert run("alt-text", bundled.pictures).code == 0
    for words in (("inspect",), ("verify",), ("bench", "--rounds", "3", "--force")):
        done = run(words[0], "stickers", *words[1:])
        assert done.code == 0, done.err
    assert bundled.exports == ["stickers-host"] and list(Path().iterdir()) == []
    assert "--keep is for" in run("demo", "--keep").error(2)
    there = run("demo", "--out", "there")
    assert there.code == 0 and "mue-edge caption there PICTURE" in there.out
    assert bundled.exports == ["stickers-host"] * 2 and [p.name for p in Path().iterdir()] == ["there"]


def test_a_project_for_phones_takes_it(run: Runner, bundled: Bundled, tmp_path: Path) -> None:
    done = run("phone", "--project", tmp_path / "project")
    assert done.code == 0 and bundled.exports == ["stickers-host"], done.err
    assert (tmp_path / "project" / "src" / "captions" / "bundle" / "manifest.json").is_file()


def test_what_is_written_beside_a_bundle_stays_out_of_the_cache(
    run: Runner, bundled: Bundled, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run("profile", "stickers", "--captions", "200")
    assert done.code == 0, done.err
    assert [p.name for p in Path().iterdir()] == ["stickers.profile.json"] and len(bundled.kept()) == 1


SCRIPT = """
import sys
from pathlib import Path
for name in {blocked!r}:
    sys.modules[name] = None
from mue_edge.apps.cli import main as cli
from mue_edge.apps import stickers
stickers.model_folder = lambda: Path({model!r})
cli.main(["caption", {picture!r}])
"""


def start(bundled: Bundled, model: Path, blocked: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    code = SCRIPT.format(blocked=blocked, model=str(model), picture=str(bundled.pictures / "0.png"))
    root = str(Path(mue_edge.__file__).parent.parent)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )


def test_two_processes_really(bundled: Bundled, tiny_model_folder: Path) -> None:
    runs = [start(bundled, tiny_model_folder) for _ in range(2)]
    ends = [(*r.communicate(timeout=300), r.returncode) for r in runs]
    assert [code for _, _, code in ends] == [0, 0], ends
    assert ends[0][0] == ends[1][0] != "" and len(bundled.kept()) == 1
    if sys.platform != "win32":
        assert sum("exporting" in err for _, err, _ in ends) == 1


def test_without_torch(bundled: Bundled, tiny_model_folder: Path) -> None:
    missing = start(bundled, tiny_model_folder, ("torch", "onnx"))
    _, err = missing.communicate(timeout=60)
    assert missing.returncode == 5 and len(err.splitlines()) == 1, err
    assert "pip install 'mue-edge[export]'" in err and "stickers must be exported once" in err
    assert bundled.kept() == []
    default_bundle.cached("stickers")
    there = start(bundled, tiny_model_folder, ("torch", "onnx"))
    out, err = there.communicate(timeout=60)
    assert there.returncode == 0 and out.strip(), err


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_half_of_the_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mue_edge import targets
    from mue_edge.export import formats

    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "mue_edge.export.onnx.format", raising=False)
    with pytest.raises(EnvironmentLacksError, match=rf"^{package} is.*mue-edge\[export\]"):
        formats.of(targets.target("host"))

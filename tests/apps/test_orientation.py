"""A photograph in each EXIF orientation: through every door the network sees one picture."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxruntime")

import mue_edge
from mue_edge.apps.alt_text.answering import Captioning, Limits
from mue_edge.apps.phone.reader import BackgroundReader
from mue_edge.targets.host import HostRuntime
from tests.apps.cli.run import Runner, stdin
from tests.apps.phone.driven import driven
from tests.apps.phone.finished import finished
from tests.turned import STORED, smooth, stored

KINDS = ("JPEG", "PNG", "WEBP")
UPRIGHT = smooth(17)  # whose turned copies have other captions


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capsys)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What runtimes were given, but for the grey of warming up."""
    found: list[Any] = []
    before = HostRuntime.set_pixels

    def record(self: HostRuntime, pixels: object) -> None:
        values = np.array(pixels)
        if values.min() < values.max():
            found.append(values)
        before(self, pixels)

    monkeypatch.setattr(HostRuntime, "set_pixels", record)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a kind, with a file an orientation."""
    place = tmp_path_factory.mktemp("turned")
    for kind in KINDS:
        (place / kind).mkdir()
        for orientation in STORED:
            (place / kind / f"{orientation}.{kind.lower()}").write_bytes(stored(UPRIGHT, orientation, kind))
    return place


Door = Callable[[Runner, Path, list[Path], pytest.MonkeyPatch], list[str]]


def command_paths(run: Runner, bundle: Path, files: list[Path], patch: pytest.MonkeyPatch) -> list[str]:
    return texts(run("caption", bundle, *files, "--json").out)


def command_folder(run: Runner, bundle: Path, files: list[Path], patch: pytest.MonkeyPatch) -> list[str]:
    return texts(run("caption", bundle, files[0].parent, "--json").out)


def command_list(run: Runner, bundle: Path, files: list[Path], patch: pytest.MonkeyPatch) -> list[str]:
    patch.setattr(sys, "stdin", stdin("\n".join(map(str, files)).encode()))
    return texts(run("caption", bundle, "-", "--json").out)


def command_bytes(run: Runner, bundle: Path, files: list[Path], patch: pytest.MonkeyPatch) -> list[str]:
    found = []
    for file in files:
        patch.setattr(sys, "stdin", stdin(file.read_bytes()))
        found += texts(run("caption", bundle, "-", "--json").out)
    return found


def python_path(run: Runner, bundle: Path, files: list[Path], patch: pytest.MonkeyPatch) -> list[str]:
    return python(bundle, files)


def python_bytes(run: Runner, bundle: Path, files: list[Path], patch: pytest.MonkeyPatch) -> list[str]:
    return python(bundle, [file.read_bytes() for file in files])


def python_image(run: Runner, bundle: Path, files: list[Path], patch: pytest.MonkeyPatch) -> list[str]:
    return python(bundle, [Image.open(file) for file in files])


def python_twice(run: Runner, bundle: Path, files: list[Path], patch: pytest.MonkeyPatch) -> list[str]:
    """What was loaded is not loaded again, and carries nothing that would turn it."""
    from mue_edge.inputs import image

    once = [image.load(file) for file in files]
    assert all(image.load(picture) is picture for picture in once)
    assert not any(picture.rgb.getexif() or picture.rgb.info for picture in once)
    return python(bundle, once) + python(bundle, [picture.rgb for picture in once])


def alt_text_folder(run: Runner, bundle: Path, files: list[Path], patch: pytest.MonkeyPatch) -> list[str]:
    table = files[0].parent / "alt-text.ndjson"
    assert run("alt-text", files[0].parent, "--bundle", bundle).code == 0
    lines = table.read_text().splitlines()
    table.unlink()
    return [json.loads(line)["alt"] for line in lines]


def alt_text_page(run: Runner, bundle: Path, files: list[Path], patch: pytest.MonkeyPatch) -> list[str]:
    page, out = files[0].parent / "page.html", files[0].parent / "out.html"
    page.write_text("".join(f'<img src="{file.name}">\n' for file in files))
    assert run("alt-text", page, "--bundle", bundle, "--out", out).code == 0
    lines = out.read_text().splitlines()
    for made in (page, out, page.with_name("page.html.alt-text.ndjson")):
        made.unlink()
    return [line.partition('alt="')[2].partition('"')[0] for line in lines]


def serve(run: Runner, bundle: Path, files: list[Path], patch: pytest.MonkeyPatch) -> list[str]:
    """What a worker does, in this process."""
    answer = Captioning(lambda: mue_edge.open(bundle, threads=1), None, Limits())()
    return [answer(file.read_bytes(), None)["alt"] for file in files]


def camera_list(run: Runner, bundle: Path, files: list[Path], patch: pytest.MonkeyPatch) -> list[str]:
    listed = files[0].parent.parent / "list"
    listed.write_text("\n".join(map(str, files)))
    with listed.open() as stream:
        patch.setattr(sys, "stdin", stream)
        return texts(run("camera", "-", "--bundle", bundle, "--json", "--no-reuse").out)


def camera_bytes(run: Runner, bundle: Path, files: list[Path], patch: pytest.MonkeyPatch) -> list[str]:
    found = []
    for file in files:
        with file.open() as stream:
            patch.setattr(sys, "stdin", stream)
            found += texts(run("camera", "-", "--bundle", bundle, "--json").out)
    return found


def camera_folder(run: Runner, bundle: Path, files: list[Path], patch: pytest.MonkeyPatch) -> list[str]:
    found = []
    for file in files:
        watched = file.parent.parent / "watched"
        watched.mkdir(exist_ok=True)
        (watched / file.name).write_bytes(file.read_bytes())
        found += texts(run("camera", watched, "--bundle", bundle, "--json", "--limit", "1").out)
        (watched / file.name).unlink()
    return found


def phone(run: Runner, bundle: Path, files: list[Path], patch: pytest.MonkeyPatch) -> list[str]:
    async def read() -> list[str]:
        reader = BackgroundReader(lambda: mue_edge.open(bundle, threads=1))
        await reader.start()
        found = [await reader.caption(file, "full", lambda _: None, lambda _: None) for file in files]
        reader.close()
        return [reading.text for reading in found]

    return finished(read())


def texts(lines: str) -> list[str]:
    records = [json.loads(line) for line in lines.splitlines()]
    return [record["text"] for record in records if "text" in record]


def python(bundle: Path, pictures: list[Any]) -> list[str]:
    with mue_edge.open(bundle, threads=1) as captioner:
        return [captioner.caption(picture).text for picture in pictures]


DOORS = (
    command_paths, command_folder, command_list, command_bytes, python_path, python_bytes, python_image,
    python_twice, alt_text_folder, alt_text_page, serve, camera_list, camera_bytes, camera_folder, phone,
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_one_picture_and_one_caption(
    run: Runner,
    tiny_bundle: Path,
    folder: Path,
    seen: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    door: Door,
    kind: str,
) -> None:
    files = sorted((folder / kind).iterdir())
    expected = [as_shown(file.read_bytes(), orientation) for orientation, file in enumerate(files, 1)]
    captions = python(tiny_bundle, expected)
    pixels, seen[:] = list(seen), []
    found = door(run, tiny_bundle, files, monkeypatch)
    times = len(found) // len(files)
    assert found == captions * times and times
    assert len(seen) == len(found)
    for values, wanted in zip(seen, pixels * times, strict=True):
        np.testing.assert_array_equal(values, wanted)
    assert len(set(captions)) == 1 if kind != "JPEG" else captions  # JPEG's losses differ


def as_shown(data: bytes, orientation: int) -> Image.Image:
    """By the definition: what rows and columns mean."""
    picture = Image.open(io.BytesIO(data))
    values = np.asarray(picture)
    across = values.transpose(1, 0, 2)
    turned = {
        1: values,
        2: values[:, ::-1],
        3: values[::-1, ::-1],
        4: values[::-1],
        5: across,
        6: across[:, ::-1],
        7: across[::-1, ::-1],
        8: across[::-1],
    }[orientation]
    return Image.fromarray(np.ascontiguousarray(turned))


def test_in_the_app(tiny_bundle: Path, folder: Path, tmp_path: Path) -> None:
    """The window's caption and picture are those of the upright picture."""
    backend = next((name for name in ("toga_qt", "toga_dummy") if importlib.util.find_spec(name)), None)
    if backend is None:
        pytest.skip("no window system of Toga's is installed")
    files = sorted((folder / "PNG").iterdir())
    found = driven(backend, tmp_path, tiny_bundle, *files, driver="drive_turned")
    assert found["captions"] == python(tiny_bundle, [UPRIGHT]) * len(files)
    assert found["sizes"] == [[400, 320]] * len(files)

"""Large pictures: what they take, and where the limit is."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mue_edge
from mue_edge.errors import InputFileError
from mue_edge.inputs import image
from tests.apps.cli.run import Runner
from tests.attacks.test_images import png, png16
from tests.conftest import host_bundle

SIDE = 5000  # 25 million pixels
MOST_MB = 400
# getrusage would tell the parent's memory where that was larger.
COMMAND = """
import re, sys
from mue_edge.apps.cli import main as cli
try:
    cli.main(sys.argv[1:])
except SystemExit as end:
    peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]
    print(end.code or 0, int(peak) * 1024 // 10**6)
"""


def large(mode: str, side: int = SIDE) -> Image.Image:
    """With some detail, so that no decoder takes a short cut; an EXIF tag that turns it comes with saving."""
    values = np.random.default_rng(0).integers(0, 256, (side // 20, side // 20, 4), dtype=np.uint8)
    return Image.fromarray(values).resize((side, side), Image.Resampling.BILINEAR).convert(mode)


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = io.BytesIO()
    turned = {} if kind in ("GIF", "BMP") else {"exif": exif}
    picture.save(data, kind, **turned, **options)
    return data.getvalue()


def grey16() -> bytes:
    row = np.arange(SIDE, dtype=np.uint16)
    return saved(Image.fromarray(np.broadcast_to(row, (SIDE, SIDE)).copy()), "PNG", compress_level=1)


# WebP's decoder holds three canvases: fewer pixels are within the limit.
WEBP_SIDE = 4700
LARGE: dict[str, Callable[[], bytes]] = {
    "PNG with transparency": lambda: saved(large("RGBA"), "PNG", compress_level=1),
    "PNG of 16-bit grey": grey16,
    "PNG of 16-bit colour": lambda: png16(SIDE, SIDE, (1, 2, 3)),
    "progressive JPEG": lambda: saved(large("RGB"), "JPEG", progressive=True, subsampling=0),
    "progressive CMYK JPEG": lambda: saved(large("CMYK"), "JPEG", progressive=True, subsampling=0),
    "WebP": lambda: saved(large("RGB", WEBP_SIDE), "WEBP", method=0),
    "WebP with transparency": lambda: saved(large("RGBA", WEBP_SIDE - 200), "WEBP", method=0, quality=50),
    "GIF": lambda: saved(large("P"), "GIF", transparency=3),
}


@pytest.fixture(scope="module")
def stickers_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mue_edge.apps import stickers

    return host_bundle(stickers.model_folder(), tmp_path_factory, "stickers")


def memory(*arguments: str | Path) -> tuple[int, int]:
    """The exit code of a command in a process of its own, and the most memory that it held, in MB."""
    root = str(Path(mue_edge.__file__).parent.parent)
    command = [sys.executable, "-c", COMMAND, *map(str, arguments), "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": root})
    assert done.returncode == 0, done.stderr
    code, megabytes = done.stdout.split()[-2:]
    return int(code), int(megabytes)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells it")
@pytest.mark.parametrize("case", LARGE)
def test_a_command_on_the_largest_pictures_takes_less_than_the_limit(
    stickers_bundle: Path, tmp_path: Path, case: str
) -> None:
    path = tmp_path / "large"
    path.write_bytes(LARGE[case]())
    code, most = memory("caption", stickers_bundle, path, path)  # the second beside a loaded network
    assert code == 0 and most < MOST_MB


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells it")
def test_alt_text_of_several_large_pictures(stickers_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(2):
        large("RGBA", WEBP_SIDE - 200 + number).save(folder / f"{number}.webp", method=0, quality=50)
    code, most = memory("alt-text", folder, "--bundle", stickers_bundle)
    assert code == 0 and most < MOST_MB


@pytest.mark.parametrize(("kind", "mode", "each"), [("WEBP", "RGB", 12), ("JPEG", "CMYK", 12)])
def test_a_picture_that_would_take_more_is_refused(
    monkeypatch: pytest.MonkeyPatch, kind: str, mode: str, each: int
) -> None:
    data = saved(large(mode, 100), kind)
    size = len(data) if kind == "WEBP" else 0
    monkeypatch.setattr("mue_edge.inputs.decoding._DECODER_BYTES", each * 100 * 100 + size)
    assert image.load(data).rgb.size == (100, 100)
    monkeypatch.setattr("mue_edge.inputs.decoding._DECODER_BYTES", each * 100 * 100 + size - 1)
    with pytest.raises(InputFileError, match="takes too much memory; make it a PNG"):
        image.load(data)
    if kind == "JPEG":  # where the network needs less, a smaller one is decoded
        assert image.load(data, least=50).rgb.size == (50, 50)


def bomb() -> bytes:
    """A small file of 10⁸ pixels."""
    rows = zlib.compress(bytes(10_001 * 10_000), 9)
    return png(10_000, 10_000, (b"IDAT", rows), colour=0)


def test_the_message_names_the_limit_and_the_option(
    capsys: pytest.CaptureFixture[str], tiny_bundle: Path, tmp_path: Path
) -> None:
    run, path = Runner(capsys), tmp_path / "a.png"
    Image.new("1", (60, 50)).save(path)
    said = run("caption", tiny_bundle, path, "--max-pixels", "2999").error(4)
    assert "60 x 50 pixels" in said and "2,999" in said and "--max-pixels" in said and "a.png" in said
    assert run("caption", tiny_bundle, path, "--max-pixels", "3000").code == 0
    assert image.LIMIT_VARIABLE not in os.environ  # it held for the commands only
    path.write_bytes(bomb())
    said = run("caption", tiny_bundle, path).error(4)
    assert "10000 x 10000 pixels" in said and "25,000,000" in said
    path.write_bytes(png(2**31 - 1, 2**31 - 1))  # beyond what Pillow opens
    said = run("caption", tiny_bundle, path).error(4)
    assert "25,000,000" in said and "--max-pixels" in said and "bomb" not in said


def test_the_keyword(tiny_bundle: Path) -> None:
    picture = Image.new("RGB", (60, 50), "red")
    with (
        mue_edge.open(tiny_bundle, threads=1, max_pixels=2999) as captioner,
        pytest.raises(InputFileError, match="max_pixels"),
    ):
        captioner.caption(picture)
    with mue_edge.open(tiny_bundle, threads=1, max_pixels=3000) as captioner:
        assert captioner.caption(picture).tokens


def test_a_larger_jpeg_is_decoded_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "MAX_PIXELS", 100 * 100)
    picture = large("RGB", 20 * 20)
    data = saved(picture, "JPEG", quality=95)

    def side(least: int, side: int = 400) -> int:
        return image.load(data, max_pixels=side * side, least=least).rgb.width

    assert side(0) == side(100) == 100  # as little as needed
    assert side(101) == side(200) == 200
    assert side(201) == 400  # never below what the network needs twice
    small = image.load(data, max_pixels=10**6, least=96).rgb
    pixels = [image.preprocess(shown, 48, 48) for shown in (small, picture.transpose(Image.Transpose.ROTATE_270))]
    assert np.abs(pixels[0] - pixels[1]).max() < 0.08  # of 2
    monkeypatch.undo()
    assert image.load(data, least=0).rgb.width == 400


@pytest.mark.parametrize("command", ["bench", "profile", "conformance", "alt-text", "evaluate"])
def test_every_command_that_takes_pictures_has_the_option(
    capsys: pytest.CaptureFixture[str], tiny_bundle: Path, tiny_model_folder: Path, tmp_path: Path, command: str
) -> None:
    path = tmp_path / "pictures" / "a.png"
    path.parent.mkdir()
    Image.new("RGB", (60, 50)).save(path)
    (tmp_path / "table.csv").write_text(f"image,caption\n{path},a b c\n")
    words = {
        "alt-text": (path.parent, "--bundle", tiny_bundle),
        "evaluate": (tiny_model_folder, "--data", tmp_path / "table.csv"),
    }.get(command, (tiny_bundle, path))
    done = Runner(capsys)(command, *words, "--max-pixels", "2999")
    assert done.code == 4 and "60 x 50 pixels" in done.err and "2,999" in done.err

"""Files that are odd, broken or hostile: a picture comes out, or one error that names the file."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mue_edge.errors import InputFileError
from mue_edge.inputs import gathering, image

RED = (255, 0, 0)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def palette(transparent: bool) -> bytes:
    picture = Image.new("P", (6, 4), 1)
    picture.putpalette([0, 0, 255, *RED])
    picture.putpixel((0, 0), 0)
    return encoded(picture, "PNG", **({"transparency": 0} if transparent else {}))


def grey16(value: int) -> bytes:
    return encoded(Image.fromarray(np.full((4, 6), value, dtype=np.uint16)), "PNG")


def animation() -> Image.Image:
    return Image.new("RGB", (6, 4), RED)


def png(width: int, height: int, *chunks: tuple[bytes, bytes], colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    out = b"\x89PNG\r\n\x1a\n"
    for name, data in ((b"IHDR", header), *chunks, (b"IEND", b"")):
        out += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return out


# What a user would expect a caption of: file name, bytes, size, and the colour of the last pixel.
GOOD: dict[str, tuple[str, Callable[[], bytes], tuple[int, int], tuple[int, int, int]]] = {
    "one pixel": ("a.png", lambda: encoded(Image.new("RGB", (1, 1), RED), "PNG"), (1, 1), RED),
    "16-bit grey": ("a.png", lambda: grey16(0x8080), (6, 4), (128, 128, 128)),
    "16-bit white": ("a.png", lambda: grey16(0xFFFF), (6, 4), (255, 255, 255)),
    "16-bit colour": ("a.png", lambda: png16(6, 4, (0xFFFF, 0, 0x0100)), (6, 4), (255, 0, 1)),
    "CMYK": ("a.jpg", lambda: encoded(Image.new("CMYK", (6, 4), (0, 255, 255, 0)), "JPEG"), (6, 4), RED),
    "grey JPEG": ("a.jpg", lambda: encoded(Image.new("L", (6, 4), 77), "JPEG"), (6, 4), (77, 77, 77)),
    "one bit": ("a.png", lambda: encoded(Image.new("1", (6, 4), 1), "PNG"), (6, 4), (255, 255, 255)),
    "palette": ("a.png", lambda: palette(transparent=False), (6, 4), RED),
    "palette with transparency": ("a.png", lambda: palette(transparent=True), (6, 4), RED),
    "alpha": ("a.png", lambda: encoded(Image.new("RGBA", (6, 4), (255, 0, 0, 51)), "PNG"), (6, 4), (255, 204, 204)),
    "grey alpha": ("a.png", lambda: encoded(Image.new("LA", (6, 4), (0, 0)), "PNG"), (6, 4), (255, 255, 255)),
    "animated GIF": (
        "a.gif",
        lambda: encoded(animation(), "GIF", save_all=True, append_images=[Image.new("RGB", (6, 4), "blue")]),
        (6, 4),
        RED,
    ),
    "animated PNG": (
        "a.png",
        lambda: encoded(animation(), "PNG", save_all=True, append_images=[Image.new("RGB", (6, 4), "blue")]),
        (6, 4),
        RED,
    ),
    "GIF named jpg": ("a.jpg", lambda: encoded(animation(), "GIF"), (6, 4), RED),
    "no suffix": ("a", lambda: encoded(animation(), "PNG"), (6, 4), RED),
    "BMP": ("a.bmp", lambda: encoded(animation(), "BMP"), (6, 4), RED),
    "WebP": ("a.webp", lambda: encoded(animation(), "WEBP", lossless=True), (6, 4), RED),
    "damaged EXIF": (
        "a.jpg",
        lambda: encoded(Image.new("RGB", (6, 4), RED), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff"),
        (6, 4),
        RED,
    ),
    "EXIF orientation 99": ("a.png", lambda: encoded(animation(), "PNG", exif=orientation(99)), (6, 4), RED),
}


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def png16(width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    """16 bits a channel, which Pillow does not write."""
    rows = (b"\0" + struct.pack(">HHH", *colour) * width) * height
    data = png(width, height, (b"IDAT", zlib.compress(rows)))
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return data[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + data[33:]


@pytest.mark.parametrize("case", GOOD)
def test_odd_pictures_become_rgb(tmp_path: Path, case: str) -> None:
    name, make, size, colour = GOOD[case]
    path = tmp_path / name
    path.write_bytes(make())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = image.load(path).rgb
    assert (picture.mode, picture.size) == ("RGB", size)
    last = picture.getpixel((size[0] - 1, size[1] - 1))
    assert isinstance(last, tuple)
    assert max(abs(a - b) for a, b in zip(last, colour, strict=True)) <= 2, last
    assert image.load(path.read_bytes()).rgb.tobytes() == picture.tobytes()


def test_transparency_is_laid_on_white() -> None:
    picture = image.load(palette(transparent=True)).rgb
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    assert image.load(palette(transparent=False)).rgb.getpixel((0, 0)) == (0, 0, 255)


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "is empty"),
    "text": (lambda: b"hello, world\n" * 10, "is not a picture"),
    "TIFF": (lambda: encoded(NOISE, "TIFF"), "is not a picture"),
    "SVG": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a picture"),
    "only a signature": (lambda: b"\x89PNG\r\n\x1a\n", "damaged or cut short"),
    "truncated PNG": (lambda: encoded(NOISE, "PNG")[:5000], "cannot be decoded"),
    "truncated JPEG": (lambda: encoded(NOISE, "JPEG")[:1500], "cannot be decoded"),
    "truncated GIF": (lambda: encoded(NOISE, "GIF")[:1500], "cannot be decoded"),
    "truncated WebP": (lambda: encoded(NOISE, "WEBP")[:500], "damaged or cut short"),
    "truncated BMP": (lambda: encoded(NOISE, "BMP")[:5000], "cannot be decoded"),
    "60,000 x 60,000": (lambda: png(60_000, 60_000, (b"IDAT", zlib.compress(b""))), "pixels"),
    "two billion squared": (lambda: png(2**31 - 1, 2**31 - 1), "pixels"),
    "no width": (lambda: png(0, 5, (b"IDAT", zlib.compress(b""))), "named.bin"),
    "GIF of 65,535 x 65,535": (lambda: b"GIF89a" + b"\xff" * 4 + encoded(NOISE, "GIF")[10:], "pixels"),
    "compressed text of 80 MB": (
        lambda: png(4, 4, (b"zTXt", b"k\0\0" + zlib.compress(bytes(80 << 20))), (b"IDAT", b"")),
        "damaged or cut short",
    ),
    "a pickle": (lambda: b"\x80\x04cos\nsystem\n(S'false'\ntR.", "is not a picture"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_give_one_error_that_names_them(tmp_path: Path, case: str) -> None:
    make, said = BAD[case]
    path = tmp_path / "named.bin"
    path.write_bytes(make())
    with pytest.raises(InputFileError, match=said) as caught:
        image.load(path)
    assert "named.bin" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_folder_pipe_and_odd_names(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"absent\.jpg does not exist"):
        image.load(tmp_path / "absent.jpg")
    with pytest.raises(InputFileError, match="folder without pictures"):
        image.load(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(InputFileError, match="not a regular file"):
        image.load(tmp_path / "pipe.jpg")
    with pytest.raises(InputFileError):
        image.load("a\0b.jpg")
    with pytest.raises(InputFileError):
        image.load("a" * 5000 + ".jpg")


def test_limits_hold_before_pixels_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "big.png"
    path.write_bytes(encoded(NOISE, "PNG"))

    def decode(*_: Any) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(image, "decode", decode)
    with pytest.raises(InputFileError, match="64 x 64 pixels"):
        image.load(path, max_pixels=64 * 64 - 1)
    with pytest.raises(InputFileError, match="more than 100 bytes"):
        image.load(path, max_bytes=100)
    with pytest.raises(InputFileError, match="more than 100 bytes"):
        image.load(path.read_bytes(), max_bytes=100)
    monkeypatch.undo()
    assert image.load(path, max_pixels=64 * 64).rgb.size == (64, 64)


SEEDS = [encoded(NOISE.resize((9, 8)), kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP")]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SEEDS), st.data())
def test_mutated_files_never_raise_anything_else(seed: bytes, data: st.DataObject) -> None:
    changed = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    del changed[data.draw(st.integers(len(changed) // 2, len(changed))) :]
    with contextlib.suppress(InputFileError):
        assert image.load(bytes(changed), max_pixels=1_000_000).rgb.mode == "RGB"


@pytest.mark.parametrize("place", ["/proc/kmsg", "/proc/self/pagemap", "/dev/zero", "/dev/tty", "/proc", "/etc/passwd"])
def test_special_files_are_refused_at_once(place: str) -> None:
    if not Path(place).exists():
        pytest.skip("not on this system")
    with pytest.raises(InputFileError, match=place):
        image.load(place)
    assert gathering.is_picture_argument(place) is False

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mue_edge.errors import InputFileError
from mue_edge.inputs import gathering, image
from tests.apps.cli.run import stdin

SIDE = 48


def scene(width: int, height: int, seed: int) -> Image.Image:
    """A picture without symmetry: blurred noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BILINEAR)


def as_displayed(stored: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """EXIF 2.32: what the rows and columns of the stored picture mean."""
    transposed = stored.transpose(1, 0, 2)
    return {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: transposed,
        6: transposed[:, ::-1],
        7: transposed[::-1, ::-1],
        8: transposed[::-1],
    }[orientation]


@pytest.mark.parametrize("number", range(20))
def test_camera_pictures_equal_pillow_preprocessing(tmp_path: Path, number: int) -> None:
    orientation = number % 8 + 1
    width, height = 1800 + 53 * number, 2300 - 37 * number
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.jpg"
    scene(width, height, number).save(path, quality=90, exif=exif)
    stored = np.asarray(Image.open(path))
    upright = Image.fromarray(np.ascontiguousarray(as_displayed(stored, orientation)))
    small = np.asarray(upright.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(np.float64)
    expected = (small / 255 - 0.5) / 0.5
    loaded = image.load(path).rgb
    assert (loaded.mode, loaded.size) == ("RGB", upright.size)
    pixels = image.preprocess(loaded, SIDE, SIDE)
    assert (pixels.shape, pixels.dtype) == ((1, 3, SIDE, SIDE), np.float32)
    np.testing.assert_allclose(pixels[0].transpose(1, 2, 0), expected, atol=1e-6)


def test_height_width_and_channels() -> None:
    picture = Image.new("RGB", (5, 9), (255, 0, 51))
    pixels = image.preprocess(picture, 2, 3, mean=(0.5, 0.0, 0.2), std=(0.5, 1.0, 0.25))
    assert pixels.shape == (1, 3, 2, 3)
    assert pixels.flags.c_contiguous
    for channel, value in enumerate((1.0, 0.0, 0.0)):
        np.testing.assert_allclose(pixels[0, channel], value, atol=1e-6)


SIZES = [(100, 80, 48, 48), (7, 5, 48, 30), (1, 1, 9, 9), (640, 480, 48, 96), (40, 30, 480, 480), (61, 47, 61, 20)]
SIZES += [(150, 250, 240, 240), (30, 400, 20, 10)]


def resample_matrix(size_in: int, size_out: int) -> NDArray[np.float64]:
    """Weights [size_out, size_in] of Pillow's bicubic resampling along one axis; rows add up to 1.

    Columns first, then rows, with rounding to 0..255 between, gives Pillow's `resize` to one grey
    level (Pillow 13 takes the rows first where the height shrinks much more than the width).
    Keys' cubic with a = -1/2, widened by the scale when it shrinks (antialiasing).
    """
    scale = size_in / size_out
    stretch = max(scale, 1.0)
    centre = (np.arange(size_out) + 0.5) * scale
    first = np.maximum((centre - 2 * stretch + 0.5).astype(np.int64), 0)[:, None]
    last = np.minimum((centre + 2 * stretch + 0.5).astype(np.int64), size_in)[:, None]
    column = np.arange(size_in)
    # As Pillow does, pixels whose centre is outside of the rounded support are left out.
    distance = np.abs(column + 0.5 - centre[:, None]) / stretch
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights: NDArray[np.float64] = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    weights[(column < first) | (column >= last)] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


@pytest.mark.parametrize("sizes", SIZES)
def test_matrices_equal_pillow(sizes: tuple[int, int, int, int]) -> None:
    width, height, width_out, height_out = sizes
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pillow = np.asarray(Image.fromarray(noise).resize((width_out, height_out), Image.Resampling.BICUBIC))
    columns = resample_matrix(width, width_out)
    rows = resample_matrix(height, height_out)
    assert (columns.shape, columns.dtype) == ((width_out, width), np.float64)
    np.testing.assert_allclose(rows.sum(axis=1), 1)

    def across(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return rounded(np.einsum("ow,hwc->hoc", columns, values))

    def down(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return rounded(np.einsum("oh,hwc->owc", rows, values))

    values = noise.astype(np.float64)
    # Pillow 13 begins with the rows where that is faster: very tall pictures, or a width that grows.
    orders = [down(across(values)), across(down(values))]
    tall = height * width_out > width * height_out * 1.5
    worst = [float(np.abs(result - pillow).max()) for result in orders]
    assert (min(worst) if tall else worst[0]) <= 1


def rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(np.floor(values + 0.5), 0, 255)


@pytest.mark.parametrize("shape", [(9, 6), (7, 11)])
def test_a_given_pillow_picture_is_taken_as_it_is(shape: tuple[int, int]) -> None:
    picture = scene(*shape, seed=3)
    assert image.load(picture).rgb.tobytes() == picture.tobytes()
    turned = picture.copy()
    turned.getexif()[0x0112] = 6
    assert image.load(turned).rgb.size == shape[::-1]
    with pytest.raises(InputFileError, match="the given picture"):
        image.load(picture, max_pixels=10)


def test_gather_files_folders_and_stdin(tmp_path: Path) -> None:
    folder = tmp_path / "album"
    (folder / "sub").mkdir(parents=True)
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "c.webp"):
        (folder / name).touch()
    empty = tmp_path / "empty"
    empty.mkdir()
    single = tmp_path / "any.name"
    listed = stdin(f"{folder / 'a.png'}\r\n\n{folder}\n".encode())
    in_folder = [folder / "a.png", folder / "b.JPG", folder / "c.webp"]
    assert gathering.gather([single, str(folder), "-"], listed) == [single, *in_folder, folder / "a.png", *in_folder]
    # The empty folder keeps its place, so that the caller reports it beside the captions.
    assert gathering.gather([empty, single]) == [empty, single]
    with pytest.raises(InputFileError, match="folder without pictures"):
        image.load(empty)
    impossible = [Path("a" * 5000), Path("a\0b")]
    assert gathering.gather(impossible) == impossible


@pytest.mark.parametrize("paths", [[], ["-"], ["EMPTY"], ["EMPTY", "EMPTY"]])
def test_gather_refuses_nothing(tmp_path: Path, paths: list[Any]) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputFileError, match=str(tmp_path) if "EMPTY" in paths else "no picture"):
        gathering.gather([tmp_path if path == "EMPTY" else path for path in paths], stdin(b"\n"))

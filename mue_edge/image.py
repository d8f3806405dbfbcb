"""Pictures from anywhere to a network's input: checked, upright, RGB, resized as Pillow resizes.

A file is judged by its first bytes, never by its name, and by its header before its pixels.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from PIL import Image, ImageMath

from mue_edge.arrays import Array, np
from mue_edge.errors import InputFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PIXELS = 100_000_000
MAX_BYTES = 256 << 20
MAX_PATHS = 1_000_000
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})

_SIGNATURES = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n", "GIF": b"GIF8", "BMP": b"BM"}
_ORIENTATION = 0x0112
# EXIF orientation → what makes the picture upright (EXIF 2.32, table 6).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load(
    source: str | Path | bytes | Image.Image, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Image.Image:
    """A picture as upright 8-bit RGB: JPEG, PNG, WebP, BMP, or a GIF's first frame.

    Transparency is laid on white, 16-bit grey is scaled. Raises InputFileError, which names the
    file, for anything that is no such picture, is cut short, or exceeds a limit.
    """
    if isinstance(source, Image.Image):
        name, picture = "the given picture", source
    else:
        name = "the given bytes" if isinstance(source, bytes) else str(source)
        data = source if isinstance(source, bytes) else _read(Path(source), max_bytes)
        if len(data) > max_bytes:
            raise InputFileError(f"{name} has more than {max_bytes:,} bytes")
        picture = _open(data, name)
    width, height = picture.size
    if not 0 < width * height <= max_pixels:
        raise InputFileError(f"{name} has {width} x {height} pixels; 1 to {max_pixels:,} in all are read")
    try:
        # Pillow's warnings concern odd metadata, which is of no use here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _to_rgb(_upright(picture))
    except Exception as problem:  # a decoder fed with foreign bytes can raise anything
        raise InputFileError(f"{name} cannot be decoded: {problem}") from problem


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        if path.is_dir():
            raise InputFileError(f"{path} is a folder without pictures ({', '.join(sorted(SUFFIXES))})")
        if not path.exists():
            raise InputFileError(f"{path} does not exist")
        if not path.is_file():  # a pipe or a device could block for ever
            raise InputFileError(f"{path} is not a regular file")
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except (OSError, ValueError) as problem:
        raise InputFileError(f"{path} cannot be read: {problem}") from problem


def _open(data: bytes, name: str) -> Image.Image:
    """The picture's header; pixels are not yet decoded."""
    if not data:
        raise InputFileError(f"{name} is empty")
    kind = _kind(data)
    if kind is None:
        raise InputFileError(f"{name} is not a picture that is read here (JPEG, PNG, WebP, GIF or BMP)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(BytesIO(data), formats=(kind,))
    except Image.DecompressionBombError as problem:
        raise InputFileError(f"{name} has too many pixels: {problem}") from problem
    except Exception as problem:  # a decoder fed with foreign bytes can raise anything
        raise InputFileError(f"{name} starts like a {kind} picture but is damaged or cut short") from problem


def _kind(data: bytes) -> str | None:
    """Pillow's name for what a file is that starts so."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((kind for kind, start in _SIGNATURES.items() if data.startswith(start)), None)


def _upright(picture: Image.Image) -> Image.Image:
    picture.load()
    try:
        turn = _UPRIGHT.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF data: the picture itself is sound, so show it as it is
        turn = None
    return picture if turn is None else picture.transpose(turn)


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        picture = ImageMath.lambda_eval(_eight_bits, grey=picture.convert("I"))
    elif picture.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB")


def _eight_bits(given: dict[str, Any]) -> Any:
    """Of 16, to the nearest."""
    held = given["min"](given["max"](given["grey"], 0), 65535)
    return given["convert"]((held + 128) / 257, "L")


def levels(image: Image.Image, height: int, width: int) -> Array:
    """Grey levels of an RGB picture, as `preprocess` resizes it: uint8 [1, 3, height, width]."""
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    planes = b"".join(band.tobytes() for band in resized.split())
    return np.frombuffer(planes, np.uint8).reshape(1, 3, height, width)


def preprocess(
    image: Image.Image,
    height: int,
    width: int,
    mean: float | tuple[float, float, float] = 0.5,
    std: float | tuple[float, float, float] = 0.5,
) -> NDArray[np.float32]:
    """Pixels [1, 3, height, width] of an RGB picture: (x / 255 - mean) / std, by channel or for all.

    Resized by Pillow's bicubic filter without regard to the aspect ratio, as OFA's authors do.
    """
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return as_input(np.asarray(resized), mean, std)


def as_input(
    levels: NDArray[np.uint8],
    mean: float | tuple[float, float, float],
    std: float | tuple[float, float, float],
) -> NDArray[np.float32]:
    """Grey levels [H, W, 3] as the network takes them: float32 [1, 3, H, W], each step in float32."""
    values: NDArray[np.float32] = levels.astype(np.float32) / np.float32(255)
    values -= np.asarray(mean, dtype=np.float32)
    values /= np.asarray(std, dtype=np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


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


def gather(paths: Iterable[str | Path], stdin: TextIO | None = None) -> list[Path]:
    """Files behind a command's arguments: files as they are, folders' pictures by name, `-` a list on stdin.

    Files are not opened here: `load` reports each that is missing, and a folder without pictures,
    under its name, so that the others are still processed. Raises InputFileError when there is
    nothing but empty folders, or nothing at all.
    """
    found: list[Path] = []
    for path in paths:
        lines: list[Any] = [path]
        if str(path) == "-":
            text = (sys.stdin if stdin is None else stdin).read(MAX_PATHS * 256)
            lines = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
        for line in lines:
            found += _pictures_in(Path(line))
            if len(found) > MAX_PATHS:
                raise InputFileError(f"more than {MAX_PATHS:,} pictures; give them in parts")
    if not found:
        raise InputFileError("no picture was named: give files, folders, or '-' and a list on stdin")
    empty = [path for path in found if _is_folder(path)]
    if len(empty) == len(found):
        names = ", ".join(map(str, empty))
        raise InputFileError(f"no picture ({', '.join(sorted(SUFFIXES))}) in the folder {names}")
    return found


def names_pictures(argument: str) -> bool:
    """Whether one of a command's arguments is for `gather`: "-", a folder with pictures, or a file that is
    one by its first bytes or its name, so that a damaged one counts."""
    path = Path(argument)
    if argument == "-" or _is_folder(path):
        return argument == "-" or _pictures_in(path) != [path]
    try:
        if not path.is_file():  # a pipe could block for ever
            return False
        with path.open("rb") as file:
            return path.suffix.lower() in SUFFIXES or _kind(file.read(12)) is not None
    except (OSError, ValueError):
        return False


def _pictures_in(path: Path) -> list[Path]:
    """A folder's pictures, or the path itself."""
    if not _is_folder(path):
        return [path]
    try:
        files = sorted(path.iterdir())
    except OSError as problem:
        raise InputFileError(f"the folder {path} cannot be read: {problem.strerror}") from problem
    return [f for f in files if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")] or [path]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that no file can have; `load` says so
        return False

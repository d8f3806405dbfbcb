"""Pictures from anywhere to a network's input: checked, upright, RGB, resized as Pillow resizes.

A file is judged by its first bytes, never by its name, and by its header before its pixels.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeAlias

from PIL import Image

from mue_edge.arrays import Array, np
from mue_edge.errors import InputFileError, UsageError
from mue_edge.files import open_regular
from mue_edge.inputs.decoding import decode, upright

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PIXELS = 25_000_000
MAX_BYTES = 256 << 20
# Twice the input of any network that is known here.
LEAST = 2048
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})
# What `--max-pixels` sets for this process and its workers.
LIMIT_VARIABLE = "MUE_EDGE_MAX_PIXELS"

_SIGNATURES = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n", "GIF": b"GIF8", "BMP": b"BM"}
_SIGNATURE_BYTES = 12


@dataclass(frozen=True, eq=False)
class LoadedPicture:
    """A picture that was loaded, and is not loaded again: 8-bit RGB, turned upright, without metadata."""

    rgb: Image.Image


@dataclass(frozen=True)
class NamedPicture:
    """A picture that is no file: its name in messages, and what reads its bytes. Raises InputFileError."""

    name: str
    read: Callable[[], bytes]

    def __str__(self) -> str:
        return self.name


PerChannel: TypeAlias = "float | tuple[float, float, float]"
PictureSource: TypeAlias = "str | Path | bytes | NamedPicture | Image.Image | LoadedPicture"


class Input(Protocol):
    """What a network takes, as a bundle's `Preprocess` says it."""

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def mean(self) -> PerChannel: ...
    @property
    def std(self) -> PerChannel: ...


def load(
    source: PictureSource, *, max_pixels: int | None = None, max_bytes: int = MAX_BYTES, least: int = LEAST
) -> LoadedPicture:
    """A picture as upright 8-bit RGB: JPEG, PNG, WebP, BMP, or a GIF's first frame; what was loaded stays.

    Transparency is laid on white, 16-bit grey is scaled. max_pixels: width × height by the header, else
    `pixel_limit()`. least: where both sides stay at least so long, a JPEG of more than MAX_PIXELS (which
    only a larger limit lets in) is decoded at a half, quarter or eighth of its size.

    Raises InputFileError, which names the file, for anything that is no such picture, is cut short, or
    exceeds a limit.
    """
    if isinstance(source, LoadedPicture):
        return source
    limit = pixel_limit() if max_pixels is None else max_pixels
    if isinstance(source, Image.Image):
        name = "the given picture"
        _check_size(source, name, limit)
        with _decoding(name):
            source.load()
            return LoadedPicture(upright(source))
    name = "the given bytes" if isinstance(source, bytes) else str(source)
    with closing(_bytes(source)) as file:
        size = size_of(file)
        if size > max_bytes:
            raise InputFileError(f"{name} has more than {max_bytes:,} bytes")
        if not size:  # not read: what /proc holds has no size either, and could block for ever
            raise InputFileError(f"{name} is empty")
        # The decoded picture has no name here, so that it is freed as soon as its copy is made.
        opened = [_open(file, name, limit)]
        with _decoding(name):
            return LoadedPicture(upright(decode(opened.pop(), size, least, MAX_PIXELS)))


def pixel_limit() -> int:
    """The largest width × height of a picture: MAX_PIXELS unless `--max-pixels` says otherwise."""
    text = os.environ.get(LIMIT_VARIABLE, str(MAX_PIXELS))
    if not text.isdecimal():
        raise UsageError(f"{LIMIT_VARIABLE} is {text!r}, not a number of pixels")
    return int(text)


def _bytes(source: str | Path | bytes | NamedPicture) -> BinaryIO:
    if isinstance(source, bytes):
        return BytesIO(source)
    if isinstance(source, NamedPicture):
        return BytesIO(source.read())
    path = Path(source)
    if is_folder(path):
        raise InputFileError(f"{path} is a folder without pictures ({', '.join(sorted(SUFFIXES))})")
    return open_regular(path)


def size_of(file: BinaryIO) -> int:
    """Bytes of what `load` or `open_regular` opened; no seeking, which some of /proc's files refuse."""
    return file.getbuffer().nbytes if isinstance(file, BytesIO) else os.fstat(file.fileno()).st_size


def _open(file: BinaryIO, name: str, limit: int) -> Image.Image:
    """The picture's header; pixels are not yet decoded."""
    kind = kind_of(file.read(_SIGNATURE_BYTES))
    if kind is None:
        raise InputFileError(f"{name} is not a picture that is read here (JPEG, PNG, WebP, GIF or BMP)")
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(file, formats=(kind,))
    except Image.DecompressionBombError as problem:  # Pillow's own limit, which is far above ours
        raise _too_many(name, "too many", limit) from problem
    except Exception as problem:  # a decoder fed with foreign bytes can raise anything
        raise InputFileError(f"{name} starts like a {kind} picture but is damaged or cut short") from problem
    _check_size(picture, name, limit)
    return picture


def kind_of(data: bytes) -> str | None:
    """Pillow's name for what a file is that starts so; None: no picture that is read here."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((kind for kind, start in _SIGNATURES.items() if data.startswith(start)), None)


def _check_size(picture: Image.Image, name: str, limit: int) -> None:
    width, height = picture.size
    if not width * height:
        raise InputFileError(f"{name} has no pixels: {width} x {height}")
    if width * height > limit:
        raise _too_many(name, f"{width} x {height}", limit)


def _too_many(name: str, pixels: str, limit: int) -> InputFileError:
    return InputFileError(
        f"{name} has {pixels} pixels; the limit is {limit:,} in all, and --max-pixels (in Python max_pixels) "
        "sets another"
    )


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    try:
        # Pillow's warnings concern odd metadata, which is of no use here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as problem:  # a decoder fed with foreign bytes can raise anything
        raise InputFileError(f"{name} cannot be decoded: {problem}") from problem


def load_for_network(p: Input, source: PictureSource, *, max_pixels: int | None = None) -> LoadedPicture:
    """As `load`, for a network: twice its input is left of a large JPEG."""
    return load(source, max_pixels=max_pixels, least=2 * max(p.height, p.width))


def network_input(p: Input, source: PictureSource) -> NDArray[np.float32]:
    """The network's input for a picture: float32 [1, 3, H, W]. Raises InputFileError as `load`."""
    return preprocess(load_for_network(p, source).rgb, p.height, p.width, mean=p.mean, std=p.std)


def grey_levels(image: Image.Image, height: int, width: int) -> Array:
    """Grey levels of an RGB picture, as `preprocess` resizes it: uint8 [1, 3, height, width]."""
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    planes = b"".join(band.tobytes() for band in resized.split())
    return np.frombuffer(planes, np.uint8).reshape(1, 3, height, width)


def preprocess(
    image: Image.Image, height: int, width: int, mean: PerChannel = 0.5, std: PerChannel = 0.5
) -> NDArray[np.float32]:
    """Pixels [1, 3, height, width] of an RGB picture: (x / 255 - mean) / std, by channel or for all.

    Resized by Pillow's bicubic filter without regard to the aspect ratio, as OFA's authors do.
    """
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return as_input(np.asarray(resized), mean, std)


def as_input(levels: NDArray[np.uint8], mean: PerChannel, std: PerChannel) -> NDArray[np.float32]:
    """Grey levels [H, W, 3] as the network takes them: float32 [1, 3, H, W], each step in float32."""
    values: NDArray[np.float32] = levels.astype(np.float32) / np.float32(255)
    values -= np.asarray(mean, dtype=np.float32)
    values /= np.asarray(std, dtype=np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def is_folder(path: Path) -> bool:
    """Also of names that no file can have; `load` says so."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False

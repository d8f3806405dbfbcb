"""From an opened picture to upright 8-bit RGB, in the memory of about two copies of it."""

from __future__ import annotations

from typing import Any

from PIL import Image, ImageMath
from PIL.JpegImagePlugin import JpegImageFile
from PIL.WebPImagePlugin import WebPImageFile

_STRIP_PIXELS = 1 << 20
# What a decoder may take at once, so that a command stays under 400 MB.
_DECODER_BYTES = 270_000_000
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


def decode(picture: Image.Image, size: int, least: int, most: int) -> Image.Image:
    """The pixels of a picture of `size` bytes that was just opened, in little memory.

    A JPEG of more than `most` pixels, or with four colours and too many pixels for _DECODER_BYTES, is decoded
    at a half, quarter or eighth of its size where both sides stay at least `least` long. Raises ValueError
    for a picture of up to `most` pixels whose decoder would take more all the same.
    """
    width, height = picture.size
    scale = 1
    if isinstance(picture, JpegImageFile):
        while (
            scale < 8
            and min(width, height) // (2 * scale) >= least
            and (width * height > most * scale**2 or _decoder_bytes(picture, size, scale) > _DECODER_BYTES)
        ):
            scale *= 2
        picture.draft(None, (width // scale, height // scale))
    if width * height <= most and _decoder_bytes(picture, size, scale) > _DECODER_BYTES:
        raise ValueError(
            f"a {picture.format} of {width} x {height} pixels and {size:,} bytes takes too much memory; make it a PNG"
        )
    if isinstance(picture, WebPImageFile):
        return _still(picture)
    picture.load()
    return picture


def _decoder_bytes(picture: Image.Image, size: int, scale: int) -> int:
    """What Pillow's decoder holds at once at 1/scale of the size; 0: little beside the pixels."""
    pixels = picture.width * picture.height
    if isinstance(picture, WebPImageFile):
        return 12 * pixels + size  # three canvases and the file
    if isinstance(picture, JpegImageFile):  # coefficients of 2 bytes, where it has several scans, and pixels
        return 2 * picture.layers * pixels + 4 * pixels // scale**2
    return 0


def _still(picture: Any) -> Image.Image:
    """The first frame of a WebP. Pillow's `load` would hold its decoder's canvases beside two copies more."""
    data, *_ = picture._get_next()
    picture._decoder = None
    mode = picture.rawmode
    frame = Image.frombuffer(mode, picture.size, data, "raw", mode, 0, 1)
    frame.info = picture.info
    return frame


def upright(picture: Image.Image) -> Image.Image:
    """A copy without metadata: nothing turns it again."""
    try:
        turn = _UPRIGHT.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF data: the picture itself is sound, so show it as it is
        turn = None
    picture = _to_rgb(picture)
    return picture if turn is None else picture.transpose(turn)


def _to_rgb(picture: Image.Image) -> Image.Image:
    """By strips, since what lies between takes several times a picture's memory."""
    rgb, rows = Image.new("RGB", picture.size), max(1, _STRIP_PIXELS // picture.width)
    for top in range(0, picture.height, rows):
        strip = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        rgb.paste(_strip_to_rgb(strip), (0, top))
    return rgb


def _strip_to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        picture = ImageMath.lambda_eval(_eight_bits, grey=picture.convert("I"))
    elif picture.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB")


def _eight_bits(operands: dict[str, Any]) -> Any:
    """Of 16, to the nearest."""
    clipped = operands["min"](operands["max"](operands["grey"], 0), 65535)
    return operands["convert"]((clipped + 128) / 257, "L")

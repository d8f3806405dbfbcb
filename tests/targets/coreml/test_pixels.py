"""A picture in a pixel buffer of the stand-in's, whose rows are padded."""

from __future__ import annotations

import numpy as np
import pytest

from mue_edge.errors import EnvironmentLacksError
from mue_edge.targets.coreml.pixels import pixel_buffer
from tests.targets.objective_c import CoreVideo

PICTURE = np.random.Generator(np.random.PCG64(2)).integers(0, 256, (1, 3, 5, 7), np.uint8)


def test_a_picture_goes_in_and_the_buffer_is_released() -> None:
    video = CoreVideo()
    with pixel_buffer(video, PICTURE) as buffer:
        assert video.picture(buffer) == ("uint8", PICTURE.shape, PICTURE.tobytes())
        (memory,) = video.buffers.values()
        assert memory.raw[3 : 4 * 7 : 4] == b"\xff" * 7, "opaque"
    assert not video.buffers


def test_no_buffer() -> None:
    video = CoreVideo()
    video.CVPixelBufferCreate = lambda *arguments: -6660
    with pytest.raises(EnvironmentLacksError, match=r"5 x 7 pixels \(-6660\)"), pixel_buffer(video, PICTURE):
        pass

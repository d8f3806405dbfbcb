"""`config.json`: what is written is read, what does not fit is named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from mue_edge.bundle.manifest import Preprocess
from mue_edge.errors import InputFileError
from mue_edge.models.ofa.config import OFAConfig, from_json
from tests.models.ofa.tiny import TINY

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_what_is_written_is_read() -> None:
    config = replace(TINY, pixel_mean=MEAN, pixel_std=STD)
    stored = json.loads(json.dumps(config.to_json()))
    assert (stored["pixel_mean"], stored["pixel_std"], stored["trunk_blocks"]) == ([*MEAN], [*STD], [1, 1, 1])
    assert from_json(stored) == config
    assert config.preprocess == Preprocess(48, 48, MEAN, STD)


def test_a_configuration_of_0_1_has_a_mean_and_deviation_of_a_half() -> None:
    stored = TINY.to_json()
    del stored["pixel_mean"], stored["pixel_std"]
    assert from_json(stored) == TINY
    assert TINY.preprocess == Preprocess(48, 48)


@pytest.mark.parametrize(
    "change",
    [
        {"pixel_mean": 0.5}, {"pixel_mean": [0.5, 0.5]}, {"pixel_mean": [0.5, 0.5, "0.5"]},
        {"pixel_mean": [0.5, 0.5, float("nan")]}, {"pixel_std": [0.5, 0.5, 0]},
        {"pixel_std": [0.5, 0.5, -1]}, {"pixel_std": [0.5, 0.5, float("inf")]}, {"pixel_std": None},
        {"trunk_blocks": [3, 4]}, {"trunk_blocks": [3, 4, 0]}, {"trunk_blocks": [3, 4, 2.0]},
        {"vocab_size": -1}, {"vocab_size": True}, {"vocab_size": 4.0}, {"encoder_heads": 0},
        {"decoder_heads": 3}, {"scale_attn": 1}, {"attn_scale_factor": "2"}, {"surprise": 1},
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(change: dict[str, Any]) -> None:
    (name,) = change
    with pytest.raises(InputFileError, match=f"config.json.*{name.removeprefix('pixel_')}"):
        from_json(TINY.to_json() | change)


@pytest.mark.parametrize("change", [{"pixel_mean": (0.5,)}, {"pixel_std": (1.0, 1.0, 0.0)}])
def test_no_configuration_without_a_scale(change: dict[str, Any]) -> None:
    with pytest.raises(InputFileError, match="expected: three numbers"):
        OFAConfig(**change)

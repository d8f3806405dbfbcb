"""Which size of picture an import takes, and what it says of that."""

from __future__ import annotations

import pytest

from mue_edge.errors import InputFileError
from mue_edge.models.ofa.importing.weights import picture_size


@pytest.mark.parametrize(
    ("names", "side", "why"),
    [
        (["ofa_tiny.pt"], 256, "OFA-tiny"),
        (["OFA-base"], 384, "'OFA-base'"),
        (["pytorch_model.bin", "ofa-large"], 384, "pretraining"),
        (["OFA-huge"], 480, "OFA-huge"),
        (["caption_base_best.pt"], 480, "captions"),
        (["ofa_image-caption_coco_large_en"], 480, "captions"),
        (["snli_ve_large_best.pt", "ofa-base"], 480, "SNLI-VE"),
        (["ofa_visual-entailment_snli-ve_large_en"], 480, "SNLI-VE"),
        (["my-model"], 480, "most of OFA's"),
        (["sofa-tiny"], 480, "most of OFA's"),
        ([], 480, "most of OFA's"),
    ],
)
def test_published_sizes_go_by_name(names: list[str], side: int, why: str) -> None:
    found = picture_size(None, None, names, 42)
    assert found.side == side
    assert why in found.why
    assert not found.sure


def test_the_user_goes_before_the_checkpoint_and_that_before_a_name() -> None:
    assert picture_size(96, 128, ["ofa-tiny"], 42).side == 96
    stated = picture_size(None, 128, ["ofa-tiny"], 42)
    assert (stated.side, stated.sure) == (128, True)


def test_no_more_than_there_are_positions_for() -> None:
    assert picture_size(None, None, ["ofa-huge"], 10).side == 160
    for asked, stated in ((176, None), (None, 176), (0, None), (-16, None)):
        with pytest.raises(InputFileError, match="--image-size"):
            picture_size(asked, stated, [], 10)

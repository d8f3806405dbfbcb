"""Pictures to calibrate on: a bundled model's by default or by name, else the user's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mue_edge.apps.cli.calibration_pictures import to_calibrate_on
from mue_edge.apps.stickers import model_folder
from mue_edge.errors import UsageError


def test_a_model_of_another_name_takes_a_bundled_models_pictures_by_name(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(model_folder() / name, mine)
    with pytest.raises(UsageError, match="mine brings no pictures"):
        to_calibrate_on(mine, None)
    tune, certify, known = to_calibrate_on(mine, "stickers")
    own, _, _ = to_calibrate_on(model_folder(), None)
    assert (tune.source, len(tune)) == (own.source, len(own)) and known is not None
    assert not set(tune.clusters) & set(certify.clusters) and len(tune) + len(certify) == 415 + 1398
    assert len(set(certify.clusters)) > 500 and len(tune) > 800  # some of cal_render's emoji are tuned on


def test_a_folder_of_that_name_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stickers").mkdir()
    picture = next((model_folder().parent / "demo").glob("*"), None)
    assert picture is not None
    for i in range(20):
        shutil.copy(picture, tmp_path / "stickers" / f"{i}{picture.suffix}")
    tune, certify, known = to_calibrate_on(model_folder(), "stickers")
    assert len(tune) + len(certify) == 20 and known is None

"""Quality by depth: which depths are meant, and that each cell is measured at its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from mue_edge import models
from mue_edge.bundle.manifest import Preprocess
from mue_edge.calibrate.data.examples import read
from mue_edge.calibrate.data.pictures import Pictures
from mue_edge.calibrate.metrics import coco_metrics
from mue_edge.calibrate.metrics.bootstrap import mean_of
from mue_edge.calibrate.metrics.quality import caption_texts
from mue_edge.calibrate.training.caption_training import learner
from mue_edge.calibrate.training.depths import Captioned, caption, judge, mixed, parse
from mue_edge.errors import UsageError
from mue_edge.models.family import Depths
from tests.calibrate import captioned


def test_depths_by_name() -> None:
    assert parse(["all"], (2, 3)) == [(i, j) for i in (1, 2) for j in (1, 2, 3)]
    assert parse(["2,3", "1,all", "1,2"], (2, 3)) == [(2, 3), (1, 1), (1, 2), (1, 3)]
    for wrong in ("2", "1,2,3", "a,1", "0,1", "3,1", "1,4", "-1,1"):
        with pytest.raises(UsageError, match="--depths"):
            parse([wrong], (2, 3))


def test_captions_are_those_of_their_depth(tmp_path: Path) -> None:
    pupil = learner(captioned.model_folder(tmp_path / "model"), None)
    examples = read(captioned.pictures(tmp_path / "data"))
    some = mixed(examples, 5)
    assert some == mixed(examples, None)[:5] != examples[:5]
    shown = Pictures(some, Preprocess(32, 32))
    cells = [(1, 2), (2, 2)]
    found = caption(pupil, shown, cells, batch=2)
    assert [c.id for c in found] == [e.id for e in some]
    assert found[0].references in [("red",), ("blue",), ("green",), ("white",)]
    for image, decoder in cells:
        ids = models.training(pupil.model).greedy(
            pupil.model, pupil.prompt, shown.inputs([3]), encoder_depth=image, decoder_depth=decoder
        )
        assert [found[3].captions[image, decoder]] == caption_texts(pupil.tokenizer, ids)


SAMPLES = [
    Captioned("1", ("a cat", "cat"), "x", {(1, 1): "cat", (1, 2): "a dog"}),
    Captioned("2", ("a dog",), "y", {(1, 1): "a dog", (1, 2): "a dog"}),
]


def test_any_reference_counts() -> None:
    found = judge(SAMPLES, coco=())
    assert found.clusters == ("x", "y")
    assert found.quality((1, 1)).metrics["exact_match"].mean == 1.0
    assert found.quality((1, 2)).metrics["exact_match"].mean == 0.5
    assert set(found.metrics[1, 1]) == {"exact_match", "token_f1", "rouge_l"}


def test_changes_are_against_the_deepest() -> None:
    found = judge(SAMPLES, coco=(), scores={"score": lambda a, b: float(a == b)})
    assert found.deepest == (1, 2)
    change = found.change((1, 1), "score", 0.5)
    assert (change.mean, change.level) == (1.0, 0.5)
    same = found.change((1, 2), "score")
    assert same.mean == 0.0


def test_coco_s_metrics_stand_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def measured(sets: dict[Depths, list[str]], references: object, metrics: object) -> object:
        asked.append((references, metrics))
        scores = {cell: {"cider_d": mean_of([1.0, 3.0])} for cell in sets}
        return coco_metrics.CocoScores(scores, "ptb", ("a note",))

    monkeypatch.setattr("mue_edge.calibrate.training.depths.coco_measure", measured)
    found = judge(SAMPLES, coco=("cider_d",))
    assert asked == [([s.references for s in SAMPLES], ("cider_d",))]
    metrics = found.quality((1, 2)).metrics
    assert metrics["exact_match"].mean == 0.5
    assert (metrics["cider_d"].mean, metrics["cider_d"].low, metrics["cider_d"].high) == (2.0, 1.0, 3.0)
    assert (found.words, found.notes) == ("ptb", ("a note",))

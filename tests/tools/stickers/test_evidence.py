"""The model card shows what the evidence holds, and nothing else; the evidence holds what it should."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from mue_edge.apps.stickers import model_folder
from mue_edge.apps.stickers.dataset import Record
from mue_edge.calibrate.metrics import coco_metrics
from mue_edge.calibrate.training.depths import Captioned
from mue_edge.errors import InputFileError
from mue_edge.files import sha256
from tools.pages import fill
from tools.stickers import figures, tables
from tools.stickers.compare import arm, last_of_log, model_of, question
from tools.stickers.evidence import quality_map
from tools.stickers.figures import Found, early, exact_match_by, examples, kind
from tools.stickers.gallery import sheet
from tools.stickers.tables import CARD

EVIDENCE = Path(__file__).resolve().parents[3] / "evidence" / "stickers.json"
NAMES = ["grinning face", "red apple on a plate", "flag: chad", "waving hand: dark skin tone"]


def _found(split: str, wrong: int = 1) -> Found:
    """Four pictures; at full depth (2, 2) `wrong` of them are called a pear, at one decoder layer two."""
    records = [
        Record(
            f"{split}/{i}",
            "",
            name,
            (name,),
            (),
            "1f44b-1f3ff" if i == 3 else f"{i}",
            f"{i}",
            "noto" if i % 2 else "twemoji",
            "",
            split,
            "MIT",
        )
        for i, name in enumerate(NAMES)
    ]
    captioned = []
    for i, record in enumerate(records):
        said = {
            (image, decoder): "a pear" if i < (wrong if decoder == 2 else 2) else record.caption
            for image in (1, 2)
            for decoder in (1, 2)
        }
        captioned.append(Captioned(record.id, (record.caption,), f"{split}{i}", said))
    return Found(records, captioned)


@pytest.fixture(scope="module")
def content() -> dict[str, object]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coco_metrics.shutil, "which", lambda _name: None)  # METEOR takes seconds to start
        return figures.content({split: _found(split) for split in figures.SPLITS})


def test_content_by_split_and_depth(content: dict[str, object]) -> None:
    found = json.loads(json.dumps(content, allow_nan=False))
    assert list(found["splits"]) == [*figures.SPLITS, figures.UNION]
    assert found["splits"]["test_comp"]["exact_match"]["mean"] == 0.75
    union = found["splits"][figures.UNION]
    assert (union["samples"], union["clusters"]) == (8, 8)
    assert union["exact_match"]["low"] < 0.75 < union["exact_match"]["high"]
    values = {(c["image_depth"], c["decoder_depth"]): c["exact_match"] for c in found["by_depth"][figures.UNION]}
    assert values == {(1, 1): 0.5, (1, 2): 0.75, (2, 1): 0.5, (2, 2): 0.75}
    changes = {(c["image_depth"], c["decoder_depth"]): c for c in found["changes"]["cells"]}
    assert list(changes) == [(2, 1), (1, 2), (1, 1)]
    assert changes[1, 2]["mean"] == changes[1, 2]["high"] == 0.0
    assert changes[2, 1]["low"] < changes[2, 1]["mean"] < -0.2
    assert found["test_render_exact_match_by_kind"] == {
        "anything else": 0.5,
        "flag": 1.0,
        "person with a skin tone": 1.0,
    }
    assert found["test_render_exact_match_by_set"] == {"noto": 1.0, "twemoji": 0.5}
    assert found["test_render_failures"] == [["test_render/0", "grinning face", "a pear"]]
    assert len(found["test_render_examples"]) == 4


def test_halves_and_single_layers() -> None:
    assert early((6, 6)) == [(6, 3), (3, 6), (6, 1), (1, 6), (3, 3)]
    assert early((4, 1)) == [(4, 1), (2, 1), (1, 1)]


def test_the_block_of_the_card(content: dict[str, object]) -> None:
    page = "before\n<!-- evidence: stickers-card -->\nold 0.9\n<!-- /evidence -->\n<!-- evidence: other -->\nx\n"
    card = tables.with_block(page + "<!-- /evidence -->\n", "stickers-card", content)
    assert card.startswith("before\n") and "old" not in card and "\nx\n" in card
    assert "| flag | 1.000 |" in card
    assert "| test_render/0 | grinning face | a pear |" in card
    assert "| test_render/1 | red apple on a plate | the same |" in card
    assert "| 1 | 0.500 | 0.750 |" in card
    assert tables.with_block(card, "stickers-card", content) == card
    assert "by depth, test_render+test_comp" in quality_map(content)


def test_intervals_as_text() -> None:
    value = {"mean": -0.0184, "low": -0.03, "high": 0.001}
    assert tables.interval(value) == "-0.018 [-0.030, 0.001]"
    assert tables.interval(value, 1, 100, "+") == "-1.8 [-3.0, +0.1]"
    assert tables.interval({"mean": 0.5, "low": None, "high": None}) == "0.500"


def test_a_block_without_its_evidence_says_so(tmp_path: Path) -> None:
    assert "Not measured" in tables.block("stickers-card", tmp_path)
    assert fill("<!-- evidence: a -->\n1\n<!-- /evidence -->", {}).count("1") == 1


def test_the_contact_sheet_shows_picture_and_words() -> None:
    red = Image.new("RGB", (96, 96), "red")
    data = sheet([(red, "an apple", "a pear" * 60)] * 7)
    page = Image.open(BytesIO(data)).convert("RGB")
    assert page.size[0] == 6 * 168 and page.size[1] > 2 * 150
    pixel = page.getpixel((84, 50))
    assert isinstance(pixel, tuple) and pixel[0] > 200 and pixel[1] < 60
    words = page.crop((0, 105, 168, 240)).convert("L")
    assert min(words.tobytes()) < 120
    assert len(sheet([])) > 0


@pytest.mark.skipif(not coco_metrics.available(), reason="pycocoevalcap is not installed")
def test_comparison_is_paired(monkeypatch: pytest.MonkeyPatch) -> None:
    from tools.stickers import compare

    monkeypatch.setattr(coco_metrics.shutil, "which", lambda _name: None)
    splits = {"test_render": _found("test_render"), "test_comp": _found("test_comp", wrong=2)}
    splits[figures.UNION] = splits["test_render"] + splits["test_comp"]
    shared = compare.Arm((2, 2), splits, {"decoder_layers": 2, "step": 5, "seconds": 90.0})
    alone = replace(shared, splits={name: found.at((2, 2)) for name, found in splits.items()})
    same = question("full depth", [(shared, alone)], 2)
    change = same["splits"][figures.UNION]["cider_d"]["change"]
    assert (change["mean"], change["low"], change["high"]) == (0.0, 0.0, 0.0)
    assert same["holds"] and same["limit"] == 0.02
    less = question("one decoder layer", [(shared, alone)], 1)
    assert not less["holds"]
    assert less["splits"]["test_comp"]["exact_match"]["change"]["mean"] == 0.0
    assert less["splits"]["test_render"]["exact_match"]["change"]["mean"] == pytest.approx(-1 / 3, abs=1e-3)
    text = tables.comparison({"arms": {"all exits": shared.record}, "questions": [same, less]})
    assert "| all exits | 2 | 5 | 2 |" in text
    assert "| full depth | test_render+test_comp |" in text and "+0.0 [+0.0, +0.0] %" in text


def test_runs_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="holds no trained model"):
        model_of(tmp_path)
    with pytest.raises(InputFileError, match="holds no trained model"):
        arm(tmp_path, (0,), None, None)
    assert model_of(model_folder()) == model_folder() == model_of(model_folder().parent)
    assert last_of_log(tmp_path) == {}
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "val": 0.5}\n', encoding="utf-8")
    assert last_of_log(tmp_path) == {"step": 2, "loss": 2.0, "val": 0.5}
    (tmp_path / "log.jsonl").write_text('{"step": 1\n', encoding="utf-8")
    with pytest.raises(InputFileError, match="not JSON"):
        last_of_log(tmp_path)


def test_groups_and_examples_are_of_full_depth() -> None:
    found = _found("test_render")
    assert exact_match_by(found, kind)["anything else"] == 0.5
    assert examples(found, [0, 9]) == [["test_render/0", "grinning face", "a pear"]]


def test_the_card_holds_the_evidence_of_the_bundled_weights() -> None:
    record = json.loads(EVIDENCE.read_text(encoding="utf-8"))
    found = record.get("figures", record)
    card = CARD.read_text(encoding="utf-8")
    assert tables.stickers(found).rstrip("\n") in card
    assert found["model_sha256"] == sha256(model_folder() / "model.safetensors")
    assert found["splits"]["test_render"]["exact_match"]["mean"] >= 0.30
    assert (CARD.parent / "failures.webp").stat().st_size < 150_000

"""The model card shows what the evidence holds, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from mue_edge.apps.stickers import model_folder
from mue_edge.apps.stickers.evidence import BEGIN, CARD, END, tables, with_figures
from mue_edge.files import sha256

EVIDENCE = Path(__file__).resolve().parents[3] / "evidence" / "stickers.json"


def _content() -> dict[str, object]:
    metric = {"mean": 0.5, "standard_error": 0.01}
    row = {"samples": 4, "clusters": 2} | dict.fromkeys(
        ("exact_match", "exact_match_but_tone", "token_f1", "rouge_l"), metric
    )
    return {
        "splits": {"test_render": row},
        "test_render_exact_match_by_set": {"noto": 0.25},
        "test_render_exact_match_by_kind": {"flag": 0.125},
        "test_render_by_depth": [{"image_depth": 3, "decoder_depth": 1} | row],
        "test_render_examples": [["noto/1f600", "grin", "grin"], ["noto/1f601", "smile", "laugh"]],
    }


def test_figures_replace_what_stood_between_the_markers() -> None:
    card = with_figures(f"before\n{BEGIN}\nold 0.9\n{END}\nafter\n", _content())
    assert card.startswith("before\n")
    assert card.endswith(f"{END}\nafter\n")
    assert "old" not in card
    assert "| 3 | 1 | 0.500 ± 0.010 |" in card
    assert "| flag | 0.125 |" in card
    assert "| noto/1f600 | grin | the same |" in card
    assert "| noto/1f601 | smile | laugh |" in card
    assert with_figures(card, _content()) == card


def test_the_card_holds_the_evidence_of_the_bundled_weights() -> None:
    content = json.loads(EVIDENCE.read_text(encoding="utf-8"))
    card = CARD.read_text(encoding="utf-8")
    assert card.split(BEGIN)[1].split(END)[0].strip() == tables(content).strip()
    assert content["model_sha256"] == sha256(model_folder() / "model.safetensors")
    assert content["splits"]["test_render"]["exact_match"]["mean"] >= 0.30

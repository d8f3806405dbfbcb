"""Bundles and policies that 0.1 wrote; tests/version_1 holds two of its bundles, and what it made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mue_edge import targets
from mue_edge.bundle import version_1
from mue_edge.bundle.folder import open_bundle
from mue_edge.bundle.policy_files import from_json
from mue_edge.errors import InputFileError
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.loop.protocol import Layout
from mue_edge.schema import decode

FOLDER = Path(__file__).parents[1] / "version_1"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())


def pictures() -> list[Image.Image]:
    noise = (np.random.default_rng(seed).integers(0, 256, (60, 50, 3), dtype=np.uint8) for seed in range(4))
    return [Image.fromarray(pixels) for pixels in noise]


def policies(folder: Path) -> list[Path]:
    paths = []
    for number, policy in enumerate(EXPECTED["policies"]):
        paths.append(folder / f"{number}.json")
        paths[-1].write_text(json.dumps(policy))
    return paths


def test_a_bundle_of_0_1_captions_as_it_did(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with targets.open(FOLDER / "captions", threads=1) as captioner:
        results = [captioner.caption(picture, policy=path) for path in policies(tmp_path) for picture in pictures()]
    for result, (text, tokens, exits, score) in zip(results, EXPECTED["captions"], strict=True):
        assert (result.text, list(result.tokens), result.exits) == (text, tokens, exits)
        assert result.score == pytest.approx(score, abs=1e-4)


def test_a_bundle_of_0_1_judges_as_it_did(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with targets.open_entailer(FOLDER / "statements", threads=1) as entailer:
        results = [
            entailer.entail(picture, "a b c", policy=path) for path in policies(tmp_path)[:3] for picture in pictures()
        ]
    for result, (answer, exits, probabilities) in zip(results, EXPECTED["statements"], strict=True):
        assert (result.answer, result.exits) == (answer, exits)
        assert result.probabilities == pytest.approx(probabilities, abs=1e-4)


@pytest.mark.parametrize("name", ["captions", "statements"])
def test_golden_answers_of_0_1_are_verified(name: str) -> None:
    pytest.importorskip("onnxruntime")
    from mue_edge.targets.verify import verify

    bundle = open_bundle(FOLDER / name)
    runtime = targets.open_runtime(bundle, 1)
    try:
        checked = verify(bundle, runtime)
    finally:
        runtime.close()
    assert checked.replay_same_tokens == checked.free_same_exits == checked.logs > 0
    assert checked.max_score_error < 1e-4


def test_a_joint_encoder_that_reads_a_text() -> None:
    stages = [{"name": "encoder.0", "depth": 3}]
    layout = {
        "encoder": {"encoder": stages}, "decoder": [{"name": "decoder.0", "depth": 2}], "rows": 1, "slots": 9,
        "fill_rows": 4, "joins_text": True,
    }  # fmt: skip
    made = decode(Layout, version_1.manifest({"schema": 1, "layout": layout})["layout"], "layout")
    encoder, decoder = made.stacks
    assert (encoder.source, encoder.stem, encoder.joins, encoder.trained) == ("picture", "stem", "text_stem", False)
    assert (decoder.name, decoder.source, decoder.depth, made.text_stem) == ("decoder", "words", 2, "text_stem")


@pytest.mark.parametrize(
    ("stored", "mean", "std"),
    [
        ({}, [0.5] * 3, [0.5] * 3),
        ({"mean": 0.4, "std": 1}, [0.4] * 3, [1] * 3),
        ({"mean": [0, 0.456, 0.406], "std": 0.25}, [0, 0.456, 0.406], [0.25] * 3),
    ],
)
def test_one_mean_and_std_are_every_channels(stored: dict[str, Any], mean: list[float], std: list[float]) -> None:
    data = json.loads((FOLDER / "captions" / "manifest.json").read_text())
    scale = version_1.manifest(data | {"preprocess": {"height": 8, "width": 8, **stored}})["preprocess"]
    assert (scale.get("mean", [0.5] * 3), scale.get("std", [0.5] * 3)) == (mean, std)


def test_a_policy_of_0_1() -> None:
    old = {"rule": "mue", "theta_image": 0.9, "thetas_decoder": [0.5, None], "depth_text": 2, "beta": 0.95}
    exits = {"image": StackExit(0.9), "decoder": StackExit(thetas=(0.5, None)), "text": StackExit(depth=2)}
    assert from_json(old) == Policy("mue", exits, beta=0.95)
    assert from_json(Policy("mue", exits, beta=0.95).to_json()) == from_json(old)


@pytest.mark.parametrize(
    "data",
    [
        {"rule": "mue", "schema": 2, "theta_image": 0.9}, {"rule": "mue", "schema": 3}, {"schema": True},
        {"rule": "mue", "theta_encoder": 0.9}, {"schema": 2, "exits": {"image": {"thetas": 0.5}}},
        {"schema": 2, "exits": {"image": {"theta": True}}}, {"schema": 2, "exits": {"image": {"depth": 0}}},
        {"schema": 2, "exits": []}, {"schema": 2, "exits": {"image": {"beta": 1}}},
    ],
)  # fmt: skip
def test_forms_are_not_mixed(data: dict[str, Any]) -> None:
    with pytest.raises(InputFileError):
        from_json(data)

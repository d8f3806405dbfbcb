"""A ModelScope folder with positions in the decoder's input, on every runtime: as the original code says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

import torch
from PIL import Image

from mue_edge import models, targets
from mue_edge.bundle.folder import open_bundle
from mue_edge.export.build import export
from mue_edge.inputs.image import preprocess
from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.driver import drive
from mue_edge.loop.policy import Policy
from mue_edge.loop.search import BeamSearch, Row, SearchSettings
from mue_edge.models import importing
from mue_edge.models.importing import ImportRequest
from tests.golden_hf import folders

FULL = Policy("never", name="full")
VARIANT = "modelscope-entangled"
# What an adapter needs; jetson's is ONNX Runtime here, iphone's the evaluator of ML programs.
NEEDS = {
    "host": "onnx", "jetson": "onnx", "iphone": "coremltools", "embedded-linux": "executorch.runtime",
}  # fmt: skip


class Forced(BeamSearch):
    """Feeds given words, whatever the candidates are, and keeps the candidates of every step."""

    def __init__(self, settings: SearchSettings, words: Sequence[int]) -> None:
        super().__init__(settings)
        self._words, self.said, self.tokens = words, list[Row](), [[words[0]]]

    def advance(self, rows: Sequence[Row]) -> list[int] | None:
        self.said.append(rows[0])
        if len(self.said) == len(self._words):
            return None
        self.tokens = [[*self._words[: len(self.said) + 1]]]
        return [0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The imported model; there is no vocabulary, so the prompt is given as ids."""
    root = tmp_path_factory.mktemp("published")
    importing.write(ImportRequest(folders.write(VARIANT, root / "there"), allow_pickle=True), root / "model")
    ids = folders.reference(VARIANT)["in.input_ids"][0].tolist()
    (root / "model" / "prompts.json").write_text(json.dumps({"caption": {"text": " a", "ids": ids}}))
    return root / "model"


@pytest.mark.parametrize("name", NEEDS)
def test_words_are_as_likely_as_the_original_code_says(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(NEEDS[name])
    monkeypatch.setenv("MUE_EDGE_JETSON", "onnxruntime")
    precision = "fp32" if "fp32" in targets.target(name).precisions else None
    assert precision, f"{name} has no fp32"
    export(folder, tmp_path / name, name, {"ends": {"encoder": [3]}, "precision": precision})
    bundle, wanted = open_bundle(tmp_path / name), folders.reference(VARIANT)
    words = wanted["in.decoder_input_ids"][0]
    pixels = folders.images(VARIANT)[:1]
    likely = torch.log_softmax(wanted["dec.logits"][0], -1)
    runtime = targets.open_runtime(bundle, threads=1)
    try:
        layout, search = bundle.manifest.layout, Forced(bundle.manifest.search, words.tolist())
        if name != "iphone":  # its stem takes grey levels, not the reference's noise
            runtime.set_pixels(pixels.numpy())
            drive(caption_loop(layout, FULL, search), runtime)
            for step, (ids, logprobs, eos) in enumerate(search.said):
                torch.testing.assert_close(
                    torch.tensor(logprobs), likely[step, list(ids)], atol=1e-4, rtol=1e-4, msg=f"step {step}"
                )
                assert eos == pytest.approx(float(likely[step, 2]), abs=1e-4)
            assert len(search.said) == len(words)
    finally:
        runtime.close()
    _captions_equal(folder, bundle.path)


def _captions_equal(folder: Path, bundle: Path) -> None:
    """Captions of pictures that a file can hold are the torch model's."""
    model = models.load(folder)
    prompt = torch.tensor([json.loads((folder / "prompts.json").read_text())["caption"]["ids"]])
    levels = ((folders.images(VARIANT) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    with targets.open(bundle, threads=1) as captioner:
        for picture in levels:
            found = captioner.caption(Image.fromarray(picture), policy=FULL)
            size = captioner.bundle.manifest.preprocess
            pixels = preprocess(Image.fromarray(picture), size.height, size.width, size.mean, size.std)
            settings = captioner.bundle.manifest.search
            best = model.generate(
                prompt,
                torch.from_numpy(pixels),
                max_length=settings.max_length,
                min_length=settings.min_length,
                no_repeat_ngram=settings.no_repeat_ngram,
            )[0][0]
            assert found.tokens == best.tokens
            assert found.score == pytest.approx(best.score, abs=1e-4)

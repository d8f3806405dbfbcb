"""A model whose pictures have ImageNet's mean and deviation by channel: on every target its own network's
stem and captions, from pictures that were scaled here by the definition."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from mue_edge import models, targets  # noqa: E402
from mue_edge.bundle.folder import open_bundle  # noqa: E402
from mue_edge.bundle.manifest import MANIFEST  # noqa: E402
from mue_edge.export import formats  # noqa: E402
from mue_edge.export.build import export  # noqa: E402
from mue_edge.inputs.image import as_input  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PROMPT = (0, 5, 6, 7, 2)
# What an adapter needs; jetson's is ONNX Runtime here, iphone's the evaluator of ML programs. Android's
# program and adapter are embedded-linux's.
NEEDS = {
    "host": "onnx", "browser": "onnx", "jetson": "onnx", "iphone": "coremltools",
    "android": "executorch.runtime",
}  # fmt: skip
# Few segments: how layers are cut says nothing of pictures, and lowering takes long.
PLAN = {"ends": {"image": [3], "decoder": [3]}, "precision": "fp32"}


def pictures() -> list[Image.Image]:
    """Noise of four tints, at the network's size already."""
    rng = np.random.default_rng(0)
    tints = ((255, 80, 80), (80, 255, 80), (80, 80, 255), (255, 255, 255))
    shown = [rng.integers(0, np.array(tint) + 1, (48, 48, 3)).astype(np.uint8) for tint in tints]
    return [Image.fromarray(x) for x in shown]


def scaled(picture: Image.Image, mean: object = MEAN, std: object = STD) -> NDArray[np.float32]:
    """What the network shall see."""
    values = (np.asarray(picture, np.float64) / 255 - np.array(mean)) / np.array(std)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32)


def captions(folder: Path, seen: list[NDArray[np.float32]], beam: int, longest: int) -> list[tuple[int, ...]]:
    """Torch's own."""
    model, source = models.load(folder), torch.tensor([PROMPT])
    answers = [model.generate(source, torch.from_numpy(x), beam=beam, max_length=longest) for x in seen]
    return [hypotheses[0].tokens for [hypotheses] in answers]


@pytest.mark.parametrize("name", NEEDS)
def test_every_target_scales_by_channel(
    name: str, imagenet_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(NEEDS[name])
    monkeypatch.setenv("MUE_EDGE_JETSON", "onnxruntime")
    export(imagenet_folder, tmp_path / name, name, PLAN)
    bundle, shown = open_bundle(tmp_path / name), pictures()
    stored = json.loads((tmp_path / name / MANIFEST).read_text())["preprocess"]
    assert (stored["mean"], stored["std"]) == (list(MEAN), list(STD))

    call = formats.of(targets.target(name)).caller(bundle.manifest, tmp_path / name)
    assert call is not None
    seen = [scaled(picture) for picture in shown]
    encoder = models.load(imagenet_folder).encoder
    for x in seen:
        with torch.no_grad():
            wanted = encoder.embed_patches(torch.from_numpy(x))[0].numpy()
        np.testing.assert_allclose(call("stem", [x])[0], wanted, atol=1e-4)

    with targets.open(tmp_path / name, threads=1) as captioner:
        for picture, x in zip(shown, seen):
            given = np.asarray(captioner.pixels(picture))
            if given.dtype == np.uint8:  # its stem takes a picture
                given = as_input(given[0].transpose(1, 2, 0), MEAN, STD)
            np.testing.assert_allclose(given, x, atol=1e-5)
        found = [captioner.caption(picture).tokens for picture in shown]
    search = bundle.manifest.search
    wanted_words = captions(imagenet_folder, seen, search.beam, search.max_length)
    assert found == wanted_words
    halves = [scaled(picture, 0.5, 0.5) for picture in shown]
    assert found != captions(imagenet_folder, halves, search.beam, search.max_length)

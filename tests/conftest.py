"""Fixtures that several rooms share: a tiny random MuE model with words, and its host bundle."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

# Before any library makes its pool: tests run beside others, on tiny models.
os.environ.setdefault("OMP_NUM_THREADS", "1")


# Folders whose files share what is dear to make.
TOGETHER = ("tests/contract", "tests/apps/web", "tests/targets/trt")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where tests run in several processes, those of a file, or of such a folder, stay in one."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        file = item.path.relative_to(config.rootpath).as_posix()
        group = next((folder for folder in TOGETHER if file.startswith(f"{folder}/")), file)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def own_user_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stamps of opened bundles go to a folder of the test run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "user-cache"))


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder: 3 + 3 layers, decomposed, 48 × 48 pixels, forty one-letter words."""
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    from mue_edge.inputs.tokens import Tokenizer
    from mue_edge.models.weights import stored_weights
    from tests.models.ofa.tiny import make

    torch.set_num_threads(1)
    model = make(decomposed=True)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    weights = {name: value.contiguous().clone() for name, value in stored_weights(model).items()}
    safetensors.save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(model.config.to_json()))
    (folder / "prompts.json").write_text(json.dumps({"caption": {"text": " abc", "ids": [0, 5, 6, 7, 2]}}))
    letters = [f"Ġ{chr(ord('a') + i % 26)}{i // 26 or ''}" for i in range(36)]
    pieces = ("<s>", "<pad>", "</s>", "<unk>", *letters)
    Tokenizer(pieces, (), frozenset(range(4)), strip_punctuation=False).save(folder / "tokenizer.json")
    return folder


def host_bundle(folder: Path, factory: pytest.TempPathFactory, name: str) -> Path:
    """The host bundle of a model folder, where it can be made."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from mue_edge.export.build import export

    out = factory.mktemp("bundles") / name
    export(folder, out)
    return out


@pytest.fixture(scope="session")
def tiny_bundle(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host bundle of `tiny_model_folder`, greedy. Read only: copy it to change it."""
    return host_bundle(tiny_model_folder, tmp_path_factory, "tiny")


@pytest.fixture(scope="session")
def tiny_entail_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, asked about statements of up to seven one-letter words."""
    folder = tmp_path_factory.mktemp("models") / "tiny-entail"
    folder.mkdir()
    for file in tiny_model_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    answers = {"no": {"ids": [17]}, "yes": {"ids": [28]}, "maybe": {"ids": [16]}}
    asked = {"template": " z {hypothesis} y", "answers": answers, "decoder": "prev_output", "text_length": 11}
    (folder / "prompts.json").write_text(json.dumps({"entail": asked}))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["merges"] = [f"Ġ {chr(letter)}" for letter in range(ord("a"), ord("z") + 1)]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


@pytest.fixture(scope="session")
def joint_entail_folder(tiny_entail_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_entail_folder` with OFA's joint encoder, and positions in the inputs of encoder and decoder."""
    folder = tmp_path_factory.mktemp("models") / "joint-entail"
    shutil.copytree(tiny_entail_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"decomposed": False, "entangle_position_embedding": True, "disable_entangle": False}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def tiny_entail_bundle(tiny_entail_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host bundle of `tiny_entail_folder`. Read only: copy it to change it."""
    return host_bundle(tiny_entail_folder, tmp_path_factory, "tiny-entail")


@pytest.fixture(scope="session")
def imagenet_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, but that pictures come to it by ImageNet's mean and deviation of each channel."""
    folder = Path(shutil.copytree(tiny_model_folder, tmp_path_factory.mktemp("models") / "tiny-imagenet"))
    config = json.loads((folder / "config.json").read_text())
    config |= {"pixel_mean": [0.485, 0.456, 0.406], "pixel_std": [0.229, 0.224, 0.225]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def imagenet_bundle(imagenet_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host bundle of `imagenet_folder`. Read only: copy it to change it."""
    return host_bundle(imagenet_folder, tmp_path_factory, "tiny-imagenet")


@pytest.fixture(scope="session")
def tiny_captions_folder(tiny_entail_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, asked about statements beside a caption of the picture, or alone."""
    folder = tmp_path_factory.mktemp("models") / "tiny-captions"
    folder.mkdir()
    for file in tiny_entail_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    asked = json.loads((folder / "prompts.json").read_text())
    asked["entail"] |= {"with_caption": " z {caption} y {hypothesis} x", "text_length": 16}
    (folder / "prompts.json").write_text(json.dumps(asked))
    return folder


@pytest.fixture(scope="session")
def tiny_captions_bundle(tiny_captions_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host bundle of `tiny_captions_folder`. Read only: copy it to change it."""
    return host_bundle(tiny_captions_folder, tmp_path_factory, "tiny-captions")

"""`configuration.json` of a ModelScope folder is obeyed from import on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mue_edge.bundle.manifest import Preprocess
from mue_edge.errors import InputFileError
from mue_edge.models import importing
from mue_edge.models.importing import Imported, ImportRequest
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.prompts import stated_by
from tests.models.ofa import checkpoints
from tests.models.ofa.importing.test_tokenizer import hugging_face_folder
from tests.models.ofa.tiny import make


@pytest.fixture(scope="module")
def wordy() -> Model:
    """A small network with OFA's whole vocabulary."""
    return make(vocab_size=59457)


def written(root: Path, model: Model, task: str = "", config: Any = None, **said: Any) -> tuple[Imported, Any]:
    """What import says of such a folder, and prompts.json."""
    root.mkdir(exist_ok=True)
    folder = checkpoints.hugging_face(root / "ms", model)
    for file in hugging_face_folder(root / "words").iterdir():
        file.rename(folder / file.name)
    (folder / "labels.json").write_text(json.dumps({"yes": "is so", "no": "is not so"}))
    (folder / "configuration.json").write_text(json.dumps({"task": task, "model": said}))
    request = ImportRequest(folder)
    if config is not None:
        (root / "mine.json").write_text(json.dumps(config))
        request = ImportRequest(folder, config=root / "mine.json")
    imported = importing.write(request, root / "out")
    return imported, json.loads((root / "out" / "prompts.json").read_text())


def test_pictures(tmp_path: Path, wordy: Model) -> None:
    imported, _ = written(tmp_path / "a", wordy, patch_image_size=80, imagenet_default_mean_and_std=True)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert imported.description.preprocess == Preprocess(80, 80, mean, std)
    assert imported.notes == ()
    imported, _ = written(tmp_path / "b", wordy, config={"patch_image_size": 64}, patch_image_size=80)
    # The user's settings go before all others.
    assert imported.description.preprocess == Preprocess(64, 64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    with pytest.raises(InputFileError, match="480 pixels"):  # what ModelScope takes where nothing is said
        written(tmp_path / "c", wordy)


def test_what_is_asked(tmp_path: Path, wordy: Model) -> None:
    task, size = "visual-entailment", {"patch_image_size": 80}
    _, texts = written(tmp_path / "a", wordy, task, **size)
    assert texts["entail"]["decoder"] == "bos"
    assert set(texts["entail"]["answers"]) == {"no", "yes", "maybe"}
    two = ' a man " {} " the horse " {} "?'
    asked = {"prompt_type": "prev_output", "prompt": two, "answer2label": "labels.json"} | size
    imported, texts = written(tmp_path / "b", wordy, task, **asked)
    entail = texts["entail"]
    assert entail["with_caption"] == ' a man " {caption} " the horse " {hypothesis} "?'
    assert entail["decoder"] == "prev_output"
    assert [(w, a["means"]) for w, a in entail["answers"].items()] == [("yes", "is so"), ("no", "is not so")]
    assert imported.captions
    _, texts = written(tmp_path / "c", wordy, task, prompt=' what " {} "?', prompt_type="src", **size)
    assert texts["entail"]["template"] == ' what " {hypothesis} "?'
    assert texts["entail"]["decoder"] == "source"
    imported, texts = written(tmp_path / "d", wordy, "image-captioning", prompt=" the image", **size)
    assert texts["caption"]["text"] == " the image"
    assert imported.notes == ()
    imported, texts = written(tmp_path / "e", wordy, "visual-question-answering", language="zh", **size)
    assert "caption" in texts
    assert any("'visual-question-answering', which is not run here" in note for note in imported.notes)
    assert any("'zh'" in note for note in imported.notes)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"patch_image_size": "480"}, "patch_image_size = '480'"),
        ({"patch_image_size": True}, "patch_image_size = True"),
        ({"imagenet_default_mean_and_std": 1}, "imagenet_default_mean_and_std = 1"),
        ({"prompt_type": "none at all"}, "prompt_type 'none at all'; known: none, src, prev_output"),
        ({"answer2label": "../labels.json"}, "outside of the folder"),
        ({"answer2label": "config.json"}, "does not map answers to labels"),
    ],
)
def test_what_cannot_be_obeyed(tmp_path: Path, wordy: Model, said: dict[str, Any], message: str) -> None:
    with pytest.raises(InputFileError, match=message):
        written(tmp_path, wordy, "visual-entailment", **{"patch_image_size": 80} | said)
    assert not (tmp_path / "out").exists()


def test_a_file_without_a_model(tmp_path: Path, wordy: Model) -> None:
    folder = checkpoints.hugging_face(tmp_path / "ms", wordy)
    for content in ("[]", "{}", '{"model": 1}', "{"):
        (folder / "configuration.json").write_text(content)
        with pytest.raises(InputFileError, match="configuration"):
            importing.write(ImportRequest(folder), tmp_path / "out")


@pytest.mark.parametrize("kind", [["none"], {}, 3])
def test_a_prompt_type_of_another_kind(kind: Any) -> None:
    """As a checkpoint's own settings may hold it."""
    with pytest.raises(InputFileError, match=r"prompt_type .*; known: none, src, prev_output"):
        stated_by({"prompt_type": kind})

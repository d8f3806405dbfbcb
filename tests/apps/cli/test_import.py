"""From a file that somebody has to a caption or an answer, by the commands that import prints."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from mue_edge import models  # noqa: E402
from mue_edge.inputs import image, tokens  # noqa: E402
from mue_edge.models.ofa.model import Model  # noqa: E402
from tests.apps.cli.run import Runner, picture  # noqa: E402
from tests.models.ofa import checkpoints  # noqa: E402
from tests.models.ofa.importing.test_tokenizer import fairseq_folder, hugging_face_folder  # noqa: E402
from tests.models.ofa.tiny import make  # noqa: E402

ENTAIL = ' does the image describe " {hypothesis} "?'


@pytest.fixture(scope="module")
def wordy() -> Model:
    """A small network with OFA's whole vocabulary."""
    return make(vocab_size=59457)


def hugging_face(folder: Path, model: Model, **changes: Any) -> Path:
    """With its words, as it comes from a hub."""
    checkpoints.hugging_face(folder, model, pickled=True, **changes)
    for file in hugging_face_folder(folder.with_name("words")).iterdir():
        file.rename(folder / file.name)
    return folder


def follow(run: Runner, imported: str, *asked: str | Path) -> Any:
    """What the last of the printed commands says in JSON; `asked` stands for its words in capitals."""
    lines = [line.strip() for line in imported.splitlines() if line.startswith("  mue-edge ")]
    export, ask = (shlex.split(line)[1:] for line in lines)
    assert run(*export).code == 0
    places = iter(asked)
    words = [next(places) if word in ("PICTURE", "STATEMENT", "CAPTION") else word for word in ask]
    return run(*words, "--json").json()


def caption(folder: Path, file: Path) -> str:
    """What the torch model says of a picture."""
    model, tokenizer = models.load(folder), tokens.load(folder / "tokenizer.json")
    ids = json.loads((folder / "prompts.json").read_text())["caption"]["ids"]
    found = model.generate(torch.tensor([ids]), pixels(model, file))
    return tokenizer.caption(found[0][0].tokens)


def probabilities(folder: Path, file: Path, text: str) -> list[float]:
    """What the torch model gives to no, yes and maybe after a source text, which its decoder reads too."""
    model, tokenizer = models.load(folder), tokens.load(folder / "tokenizer.json")
    ids = [0, *tokenizer.encode(text), 2]
    answers, source = [[117], [4420], [2085]], torch.tensor([ids])
    found = model.score(source, pixels(model, file), ids[:-1], answers, form="prompt")
    return [math.exp(score) for score in found.scores]


def pixels(model: Model, file: Path) -> Any:
    c = model.config
    made = image.preprocess(image.load(file).rgb, c.image_size, c.image_size, c.pixel_mean, c.pixel_std)
    return torch.from_numpy(np.asarray(made))


def test_a_fairseq_file(run: Runner, tmp_path: Path, wordy: Model) -> None:
    file, bpe = checkpoints.fairseq(tmp_path / "caption best.pt", wordy), fairseq_folder(tmp_path / "BPE")
    out, shown = tmp_path / "my model", picture(tmp_path / "a.png")
    done = run("import", file, "--allow-pickle", "--tokenizer", bpe, "--out", out)
    assert done.code == 0 and done.err == ""
    assert "captions (pictures of 48 pixels)" in done.out
    assert "jetson" in done.out
    assert follow(run, done.out, shown)["text"] == caption(out, shown)


def test_a_hugging_face_folder(run: Runner, tmp_path: Path, wordy: Model) -> None:
    folder = hugging_face(tmp_path / "hf", wordy, patch_image_size=None)
    out, shown = tmp_path / "model", picture(tmp_path / "a.png")
    done = run("import", folder, "--allow-pickle", "--out", out)
    assert done.code == 0
    # It names no size, and this one has positions for 6 patches a side.
    assert done.err.count("note: ") == 1 and "taken: 96 pixels" in done.err and "--image-size" in done.err
    assert follow(run, done.out, shown)["text"] == caption(out, shown)


def test_a_modelscope_folder(run: Runner, tmp_path: Path, wordy: Model) -> None:
    folder = hugging_face(tmp_path / "ms", wordy, entangle_position_embedding=False, disable_entangle=False)
    said = {"patch_image_size": 64, "imagenet_default_mean_and_std": True, "prompt_type": "prev_output"}
    (folder / "configuration.json").write_text(json.dumps({"task": "visual-entailment", "model": said}))
    out, shown = tmp_path / "model", picture(tmp_path / "a.png")
    done = run("import", folder, "--allow-pickle", "--out", out)
    assert done.code == 0 and done.err == ""
    assert models.load(out).config.image_size == 64
    assert models.load(out).config.pixel_mean == (0.485, 0.456, 0.406)
    found = follow(run, done.out, shown, "a man rides a horse")["probabilities"]
    wanted = probabilities(out, shown, ENTAIL.format(hypothesis="a man rides a horse"))
    assert [found[word] for word in ("no", "yes", "maybe")] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("mue", [False, True])
def test_an_entailment_file_with_captions(run: Runner, tmp_path: Path, wordy: Model, mue: bool) -> None:
    """SNLI-VE as it was trained: joint or decomposed, with a caption in the text or without."""
    task = {"_name": "snli_ve", "add_caption": True, "prompt_type": "prev_output"}
    file = checkpoints.fairseq(tmp_path / "snli_ve.pt", wordy, train_mue=mue, task=task)
    out, shown, bpe = tmp_path / "model", picture(tmp_path / "a.png"), fairseq_folder(tmp_path / "BPE")
    done = run("import", file, "--allow-pickle", "--tokenizer", bpe, "--out", out)
    assert done.code == 0
    assert done.err.count("note: ") == 1 and "--caption" in done.err
    statement = "a man rides"
    found = follow(run, done.out, shown, statement, "A horse")["probabilities"]
    wanted = probabilities(out, shown, ' can image and text1 " a horse " imply text2 " a man rides "?')
    assert [found[word] for word in ("no", "yes", "maybe")] == pytest.approx(wanted, abs=1e-4)
    found = run("entail", f"{out}-host", shown, statement, "--json").json()["probabilities"]
    wanted = probabilities(out, shown, ENTAIL.format(hypothesis=statement))
    assert [found[word] for word in ("no", "yes", "maybe")] == pytest.approx(wanted, abs=1e-4)


def test_without_words_the_next_command_is_an_import(run: Runner, tmp_path: Path) -> None:
    file, out = checkpoints.fairseq(tmp_path / "a.pt", make()), tmp_path / "model"
    done = run("import", file, "--allow-pickle", "--mue", "--image-size", "32", "--out", out)
    (line,) = [line.strip() for line in done.out.splitlines() if line.startswith("  mue-edge ")]
    words = shlex.split(line)
    assert words[:3] == ["mue-edge", "import", str(file)] and words[-2:] == ["--tokenizer", "DIR"]
    assert {"--allow-pickle", "--mue", "--image-size"} < set(words)
    assert "utils/BPE" in done.err

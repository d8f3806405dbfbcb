"""Model folder → bundle: everything checked, all or nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import mue_edge
from mue_edge import targets
from mue_edge.bundle.folder import open_bundle
from mue_edge.errors import InputFileError, UsageError, VerificationError

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

from mue_edge.export.build import export, read_policies  # noqa: E402
from mue_edge.export.onnx import format as exporter  # noqa: E402
from mue_edge.export.plan import make  # noqa: E402
from mue_edge.export.prompts import read_prompt  # noqa: E402
from mue_edge.models.cut import Piece  # noqa: E402
from mue_edge.targets.verify import verify  # noqa: E402


def test_a_bundle_is_verified_and_says_so(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    evidence = bundle.manifest.evidence
    assert evidence.rung == "loop"
    assert evidence.figures["graph_max_error"] <= 1e-4
    assert evidence.figures["score_max_error"] <= 1e-5
    assert evidence.figures["replay_same_tokens"] == evidence.figures["golden_logs"] == 8


def test_some_golden_captions_leave_early(tiny_bundle: Path) -> None:
    logs = json.loads((tiny_bundle / "golden" / "logs.json").read_text())
    median = [g["log"]["decoder"] for g in logs if g["policy"]["rule"] == "mue"]
    full = [g["log"]["decoder"] for g in logs if g["policy"]["rule"] == "never"]
    assert sum(map(sum, median)) / sum(map(len, median)) < sum(map(sum, full)) / sum(map(len, full))


def test_equal_weights_are_stored_once(tiny_bundle: Path, tiny_model_folder: Path) -> None:
    # The tied embedding table is referred to by `embed` and by `head`, and lies in the file once.
    from safetensors.numpy import load_file

    table = load_file(tiny_model_folder / "model.safetensors")["encoder.embed_tokens.weight"]
    raw = (tiny_bundle / "segments" / "weights.bin").read_bytes()
    assert raw.count(table.astype(np.float32).tobytes()) == 1


def test_no_path_of_this_machine_is_in_a_bundle(tiny_bundle: Path) -> None:
    here = str(Path(mue_edge.__file__).parent.parent).encode()
    for path in tiny_bundle.rglob("*"):
        if path.is_file():
            assert here not in path.read_bytes(), path


def test_a_damaged_weight_is_noticed_by_the_replay(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_bundle, copy)
    weights = copy / "segments" / "weights.bin"
    values = np.fromfile(weights, np.float32)
    values[np.abs(values) > 0.01] += 0.01
    values.tofile(weights)
    manifest = json.loads((copy / "manifest.json").read_text())
    from mue_edge.files import sha256

    manifest["files"]["segments/weights.bin"]["sha256"] = sha256(weights)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    bundle = open_bundle(copy)
    runtime = targets.open_runtime(bundle, 1)
    with pytest.raises(VerificationError, match="golden replay differs"):
        verify(bundle, runtime)


def test_a_wrong_graph_leaves_no_bundle(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true, first = exporter._state, dict[object, dict[str, torch.Tensor]]()

    def wrong(piece: Piece) -> dict[str, torch.Tensor]:
        """Every layer with the first one's weights."""
        state = true(piece)
        return first.setdefault((type(piece.module), *((k, v.shape) for k, v in state.items())), state)

    monkeypatch.setattr(exporter, "_state", wrong)
    with pytest.raises(VerificationError, match="differs from torch"):
        export(tiny_model_folder, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_without_a_prompt_nothing_is_exported(tiny_model_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(tiny_model_folder, copy)
    (copy / "prompts.json").unlink()
    with pytest.raises(InputFileError, match="--tokenizer DIR"):
        export(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_model_says_how_long_its_answers_are(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"caption": {"text": " x", "ids": [0, 5, 2], "max_length": 23}}))
    assert read_prompt(tmp_path, "caption").options == {"max_length": 23}
    path.write_text(json.dumps({"caption": {"text": " x", "ids": [0, 5, 2]}}))
    assert read_prompt(tmp_path, "caption").options == {}
    path.write_text(json.dumps({"caption": {"text": " x", "ids": ["0"]}}))
    with pytest.raises(InputFileError, match="whole number"):
        read_prompt(tmp_path, "caption")


@pytest.mark.parametrize(
    ("decoder", "around", "fed", "steps"),
    [("bos", [], (), 1), ("prev_output", [], (1, 1), 31), ("statement", [6, 3], (6, 3), 24)],
)
def test_the_model_says_what_its_decoder_is_fed(
    tmp_path: Path, decoder: str, around: list[int], fed: tuple[int, ...], steps: int
) -> None:
    answers = {"no": {"ids": [7]}, "yes": {"ids": [8]}}
    asked = {"template": " is it {hypothesis} ?", "answers": answers, "decoder": decoder, "text_length": 32}
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"entail": asked | {"around": around}}))
    found = read_prompt(tmp_path, "entail")
    assert found.fed == fed and found.options["max_length"] == steps - 1
    path.write_text(json.dumps({"entail": asked | {"decoder": "statement", "around": [30, 3]}}))
    with pytest.raises(InputFileError, match=r"two numbers that leave room in a text of 32, not \[30, 3\]"):
        read_prompt(tmp_path, "entail")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": ' can image and text1 " {caption} " imply text2 " {hypothesis} "?'}, "holds {caption}"),
        ({"with_caption": " {hypothesis}"}, "has to hold {caption} once"),
        ({"with_caption": " {caption} {hypothesis} {place}"}, "holds {place}"),
        ({"template": " is it?"}, "has to hold {hypothesis} once"),
        ({"with_caption": " {caption} {hypothesis}", "decoder": "statement", "around": [1, 1]}, "no caption"),
    ],
)
def test_a_field_that_nothing_fills_is_an_error(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    asked = {"template": " is it {hypothesis} ?", "answers": {"no": {"ids": [7]}}}
    (tmp_path / "prompts.json").write_text(json.dumps({"entail": asked | changes}))
    with pytest.raises(InputFileError, match=message):
        read_prompt(tmp_path, "entail")
    (tmp_path / "prompts.json").write_text(json.dumps({"caption": {"text": " a {x}", "ids": [0, 5, 2]}}))
    with pytest.raises(InputFileError, match=r"holds \{x\}, which nothing fills"):
        read_prompt(tmp_path, "caption")


def test_a_longer_text_takes_more_decoder_steps(tiny_captions_folder: Path, tmp_path: Path) -> None:
    prompt = read_prompt(tiny_captions_folder, "entail", 20)
    assert prompt.options["text_length"] == 20 and prompt.options["max_length"] == 18
    assert prompt.with_caption == " z {caption} y {hypothesis} x"
    with pytest.raises(UsageError, match="needs max_length 18, not 5"):
        export(tiny_captions_folder, tmp_path / "out", "host", {"text_length": 20, "max_length": 5})
    with pytest.raises(InputFileError, match="whole number"):
        export(tiny_captions_folder, tmp_path / "out", "host", {"text_length": "20"})
    assert not (tmp_path / "out").exists()


def test_policies_of_the_model_stand_before_full_depth(tmp_path: Path) -> None:
    assert [p["name"] for p in read_policies(tmp_path)] == ["full"]
    path = tmp_path / "policies.json"
    path.write_text(json.dumps([{"rule": "mue", "theta_image": 0.9, "name": "fast"}]))
    assert [p["name"] for p in read_policies(tmp_path)] == ["fast", "full"]
    for bad in ('{"rule": "mue"}', '[{"rule": "mue"}]', '[{"rule": "mue", "name": "full"}]', "[1]", "["):
        path.write_text(bad)
        with pytest.raises(InputFileError):
            read_policies(tmp_path)


def test_plans_name_what_does_not_fit(tiny_model_folder: Path) -> None:
    from mue_edge import models

    model = models.load(tiny_model_folder)
    host = targets.target("host")
    for options, words in (
        ({"precision": "fp8"}, "fp32, int8"),
        ({"ends": {"sound": [1]}}, "no stack 'sound'"),
        ({"beam": 0}, "beam"),
    ):
        with pytest.raises(UsageError, match=words):
            make(model, host, (32, 32), options)
    with pytest.raises(InputFileError, match="unknown keys: sharpness"):
        make(model, host, (32, 32), {"sharpness": 1})


def test_unknown_target_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="host"):
        targets.target("toaster")

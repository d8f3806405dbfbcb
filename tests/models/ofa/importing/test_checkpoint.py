"""Import: the same tensors, whatever wrote the file; what does not fit is named; what is none is refused."""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import mue_edge.models
from mue_edge.apps.cli.main import main
from mue_edge.errors import InputFileError, UsageError
from mue_edge.inputs.tokens import load as load_tokenizer
from mue_edge.models.ofa.config import OFAConfig
from mue_edge.models.ofa.importing import content as importing
from mue_edge.models.ofa.importing import weights as checkpoint
from mue_edge.models.ofa.importing.files import read
from mue_edge.models.ofa.model import Model
from mue_edge.models.ofa.prompts import ENTAIL, ENTAIL_WITH_CAPTION
from mue_edge.models.weights import stored_weights
from tests.golden import reference
from tests.golden import weights as golden
from tests.models.ofa import checkpoints
from tests.models.ofa.importing.test_tokenizer import EXAMPLES, fairseq_folder, hugging_face_folder
from tests.models.ofa.tiny import TINY, UNEQUAL, inputs, make, targets


def run(*args: object, expect: int = 0) -> None:
    with pytest.raises(SystemExit) as end:
        main(["import", *map(str, args)])
    assert end.value.code == expect


def check_same(folder: Path, source: Model, *, half: bool = False) -> Model:
    """The folder's model has the source's weights and gives its logits."""
    expected = {k: v.half().float() if half else v for k, v in stored_weights(source).items()}
    source.load_state_dict(expected, strict=False)
    loaded = mue_edge.models.load(folder)
    got = stored_weights(loaded)
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[key], expected[key]) for key in expected)
    assert all(value.dtype == torch.float32 for value in got.values())
    tokens, images = inputs()
    with torch.no_grad():
        logits = [m.decode(targets(), m.encode(tokens, images, decomposed=False)) for m in (loaded, source)]
    assert torch.equal(*logits)
    return loaded


VARIANTS: dict[str, dict[str, Any]] = {
    "cfg": {},
    "tables": {"as_namespace": False},
    "args": {"where": "args"},
    "args as a table": {"where": "args", "as_namespace": False},
    "half": {"half": True},
    "with averages": {"ema": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_fairseq_files(tmp_path: Path, variant: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = make(attn_scale_factor=1.5, disable_entangle=False)
    path = checkpoints.fairseq(tmp_path / "a.pt", source, **VARIANTS[variant])
    run(path, "--out", tmp_path / "out", "--allow-pickle")
    loaded = check_same(tmp_path / "out", source, half=variant == "half")
    assert loaded.config == source.config
    said = capsys.readouterr()
    assert ("averaged (EMA)" in said.err) == (variant == "with averages")
    assert str(tmp_path / "out") in said.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "out"]


@pytest.mark.parametrize("config", [UNEQUAL, replace(TINY, scale_resids=True, scale_heads=False, type_embedding=False)])
def test_other_configurations(tmp_path: Path, config: OFAConfig) -> None:
    source = make(config)
    run(checkpoints.fairseq(tmp_path / "a.pt", source), "--out", tmp_path / "out", "--allow-pickle")
    assert check_same(tmp_path / "out", source).config == config


def test_aliases_and_buffers_may_be_absent(tmp_path: Path) -> None:
    source = make()
    bare = checkpoints.state(source, tied=False, buffers=False)
    path = checkpoints.fairseq(tmp_path / "a.pt", source, weights=bare)
    run(path, "--out", tmp_path / "out", "--allow-pickle")
    check_same(tmp_path / "out", source)


@pytest.mark.parametrize("pickled", [False, True])
def test_hugging_face_folder(tmp_path: Path, pickled: bool) -> None:
    source = make()
    folder = checkpoints.hugging_face(tmp_path / "hf", source, pickled=pickled)
    run(folder, "--out", tmp_path / "out", *(["--allow-pickle"] if pickled else []))
    # The port's configuration says nothing of orig_image_size; without interpolation it has no effect.
    assert check_same(tmp_path / "out", source).config == replace(source.config, orig_image_size=224)


def test_the_number_of_renamed_keys_is_that_of_the_fact_sheet() -> None:
    with torch.device("meta"):
        base = Model(OFAConfig())
    keys = base.state_dict().keys()
    renamed = [key for key in keys if checkpoints.rename(key) != key]
    assert len(renamed) == 126
    assert checkpoint.rename({checkpoints.rename(key): torch.zeros(()) for key in keys}).keys() == keys


def test_golden_weights_from_safetensors(tmp_path: Path) -> None:
    save_file(golden.weights(), tmp_path / "a.safetensors")
    run(tmp_path / "a.safetensors", "--config", golden.FOLDER / "config.json", "--out", tmp_path / "out")
    loaded = mue_edge.models.load(tmp_path / "out")
    assert loaded.config == reference.config()
    expected = stored_weights(reference.model())
    assert all(torch.equal(value, expected[key]) for key, value in stored_weights(loaded).items())


def test_the_encoder_form_follows_the_checkpoint_or_the_option(tmp_path: Path) -> None:
    path = checkpoints.fairseq(tmp_path / "a.pt", make(), train_mue=True)
    for options, decomposed in ([], True), (["--no-mue"], False):
        run(path, "--out", tmp_path / "out", "--allow-pickle", *options)
        assert mue_edge.models.read_config(tmp_path / "out")["decomposed"] is decomposed


# ---- words -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wordy() -> Model:
    """A small network with OFA's whole vocabulary."""
    return make(vocab_size=59457)


def test_words_from_a_fairseq_folder(tmp_path: Path, wordy: Model) -> None:
    path = checkpoints.fairseq(tmp_path / "a.pt", wordy)
    bpe = fairseq_folder(tmp_path / "BPE")
    run(path, "--out", tmp_path / "out", "--allow-pickle", "--tokenizer", bpe)
    prompt = " what does the image describe?"
    written = json.loads((tmp_path / "out" / "prompts.json").read_text())
    assert written == {"caption": {"text": prompt, "ids": [0, *EXAMPLES[prompt], 2]}}
    assert load_tokenizer(tmp_path / "out" / "tokenizer.json").caption(EXAMPLES[prompt]) == prompt.strip(" ?")
    run(path, "--out", tmp_path / "out", "--allow-pickle", "--tokenizer", bpe, "--prompt", "the image")
    written = json.loads((tmp_path / "out" / "prompts.json").read_text())
    assert written == {"caption": {"text": " the image", "ids": [0, 5, 2274, 2]}}
    run(path, "--out", tmp_path / "no", "--allow-pickle", "--tokenizer", bpe, "--prompt", "xyz", expect=2)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("with_words", [True, False])
def test_entailment(tmp_path: Path, wordy: Model, with_words: bool) -> None:
    path = checkpoints.fairseq(tmp_path / "a.pt", wordy)
    words = ["--tokenizer", fairseq_folder(tmp_path / "BPE")] if with_words else []
    run(path, "--out", tmp_path / "out", "--allow-pickle", "--task", "entail", *words)
    entail = json.loads((tmp_path / "out" / "prompts.json").read_text())["entail"]
    assert entail["template"] == ' does the image describe " {hypothesis} "?'
    assert entail["answers"] == {
        "no": {"ids": [117], "means": "contradiction"},
        "yes": {"ids": [4420], "means": "entailment"},
        "maybe": {"ids": [2085], "means": "neutral"},
    }
    run(path, "--out", tmp_path / "no", "--allow-pickle", "--task", "entail", "--prompt", "the image", expect=2)


@pytest.mark.parametrize(
    ("prompt", "template", "with_caption"),
    [
        (None, ENTAIL, ENTAIL_WITH_CAPTION),
        ("the {caption} image {hypothesis}", ENTAIL, " the {caption} image {hypothesis}"),
        ("the image {hypothesis}", " the image {hypothesis}", ENTAIL_WITH_CAPTION),
    ],
)
def test_entailment_with_captions(
    tmp_path: Path,
    wordy: Model,
    capsys: pytest.CaptureFixture[str],
    prompt: str | None,
    template: str,
    with_caption: str,
) -> None:
    """As all published SNLI-VE trainings were: the checkpoint says so, and both texts are there."""
    path = checkpoints.fairseq(tmp_path / "a.pt", wordy, add_caption=True)
    words = ["--tokenizer", fairseq_folder(tmp_path / "BPE"), *([] if prompt is None else ["--prompt", prompt])]
    run(path, "--out", tmp_path / "out", "--allow-pickle", "--task", "entail", *words)
    entail = json.loads((tmp_path / "out" / "prompts.json").read_text())["entail"]
    assert (entail["template"], entail["with_caption"]) == (template, with_caption)
    assert (entail["decoder"], entail["text_length"]) == ("prev_output", 32)  # the small model's positions
    assert "entail --caption TEXT" in capsys.readouterr().err


def test_a_prompt_with_a_caption_is_enough(tmp_path: Path, wordy: Model) -> None:
    bpe = fairseq_folder(tmp_path / "BPE")
    path = checkpoints.fairseq(tmp_path / "a.pt", wordy)
    plain = [path, "--allow-pickle", "--tokenizer", bpe, "--out"]
    text = "{caption} the {hypothesis}"
    run(*plain, tmp_path / "out", "--task", "entail", "--prompt", text)
    entail = json.loads((tmp_path / "out" / "prompts.json").read_text())["entail"]
    assert (entail["template"], entail["with_caption"]) == (ENTAIL, f" {text}")
    run(*plain, tmp_path / "plain", "--task", "entail")
    entail = json.loads((tmp_path / "plain" / "prompts.json").read_text())["entail"]
    assert "with_caption" not in entail


@pytest.mark.parametrize(
    ("task", "prompt", "message"),
    [
        ("entail", "the image", "has to hold {hypothesis} once"),
        ("entail", "the {caption}", "has to hold {hypothesis} once"),
        ("entail", "the {hypothesis} image {place}", "holds {place}, which nothing fills"),
        ("entail", "{caption} {hypothesis} {place}", "holds {place}, which nothing fills"),
        ("caption", "the {hypothesis}", "holds {hypothesis}, which nothing fills"),
    ],
)
def test_prompts_with_fields_that_nothing_fills(
    tmp_path: Path, wordy: Model, capsys: pytest.CaptureFixture[str], task: str, prompt: str, message: str
) -> None:
    path = checkpoints.fairseq(tmp_path / "a.pt", wordy)
    words = ["--task", task, "--prompt", prompt, "--tokenizer", fairseq_folder(tmp_path / "BPE")]
    run(path, "--out", tmp_path / "no", "--allow-pickle", *words, expect=2)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_a_hugging_face_folder_brings_its_words(tmp_path: Path, wordy: Model) -> None:
    folder = checkpoints.hugging_face(tmp_path / "hf", wordy)
    for file in hugging_face_folder(tmp_path / "words").iterdir():
        file.rename(folder / file.name)
    run(folder, "--out", tmp_path / "out")
    prompt = " what does the image describe?"
    assert load_tokenizer(tmp_path / "out" / "tokenizer.json").encode(prompt) == EXAMPLES[prompt]


def test_without_words_ids_are_known_for_the_released_vocabulary_only(
    tmp_path: Path, wordy: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    run(checkpoints.fairseq(tmp_path / "a.pt", wordy), "--out", tmp_path / "a", "--allow-pickle")
    ids = json.loads((tmp_path / "a" / "prompts.json").read_text())["caption"]["ids"]
    assert ids == [0, *EXAMPLES[" what does the image describe?"], 2]
    small = checkpoints.fairseq(tmp_path / "b.pt", make())
    run(small, "--out", tmp_path / "b", "--allow-pickle")
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["config.json", "model.safetensors"]
    assert "utils/BPE" in capsys.readouterr().err
    run(small, "--out", tmp_path / "c", "--allow-pickle", "--prompt", "the image", expect=2)
    run(small, "--out", tmp_path / "c", "--allow-pickle", "--tokenizer", tmp_path, expect=4)
    assert "utils/BPE" in capsys.readouterr().err


# ---- what does not fit -------------------------------------------------------------------------------------

FC1 = "encoder.layers.1.fc1.weight"


def without(key: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda weights: weights.__delitem__(key)


def with_entry(key: str, value: Tensor) -> Callable[[dict[str, Tensor]], None]:
    return lambda weights: weights.update({key: value})


DAMAGES: dict[str, tuple[Callable[[dict[str, Tensor]], None], str]] = {
    "missing": (without(FC1), f"missing {FC1}"),
    "missing layer": (without("decoder.layers.2.fc2.bias"), "missing decoder.layers.2.fc2.bias"),
    "missing table": (without("encoder.embed_tokens.weight"), "missing encoder.embed_tokens.weight"),
    "missing type": (without("encoder.type_embedding.weight"), "missing encoder.type_embedding.weight"),
    "surplus": (with_entry("encoder.extra", torch.zeros(2)), "surplus encoder.extra"),
    "surplus layer": (with_entry("encoder.layers.3.fc1.bias", torch.zeros(2)), "surplus encoder.layers.3.fc1.bias"),
    "misshaped": (with_entry(FC1, torch.zeros(24, 15)), rf"{FC1} has shape \[24, 15\], expected \[24, 16\]"),
    "misshaped first": (with_entry("encoder.layers.0.fc1.weight", torch.zeros(9, 16)), r"expected \[24, 16\]"),
    "integers": (with_entry(FC1, torch.zeros(24, 16, dtype=torch.int64)), "type torch.int64"),
    "not finite": (with_entry(FC1, torch.full((24, 16), torch.nan)), f"undefined numbers in {FC1}"),
    "untied": (with_entry("decoder.output_projection.weight", torch.zeros(40, 16)), "output_projection.weight differs"),
    "untied input": (with_entry("decoder.embed_tokens.weight", torch.zeros(40, 16)), "embed_tokens.weight differs"),
    "odd name": (with_entry("a\nb", torch.zeros(1)), r"surplus 'a\\nb'"),
    "both names": (with_entry("encoder.layers.1.ffn_layer_norm.bias", torch.zeros(24)), "twice, under fairseq's name"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_state_is_named(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    damage, said = DAMAGES[case]
    weights = checkpoints.state(make())
    damage(weights)
    path = checkpoints.fairseq(tmp_path / "a.pt", make(), weights=weights)
    with pytest.raises(InputFileError, match=said):
        checkpoint.convert(read(path, allow_pickle=True))
    run(path, "--out", tmp_path / "out", "--allow-pickle", expect=4)
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_all_differences_are_named(tmp_path: Path) -> None:
    weights = checkpoints.state(make())
    gone = [key for key in weights if ".layers.1." in key]
    for key in gone:
        del weights[key]
    path = checkpoints.fairseq(tmp_path / "a.pt", make(), weights=weights | {"x": torch.ones(1), "y": torch.ones(1)})
    with pytest.raises(InputFileError) as caught:
        checkpoint.convert(read(path, allow_pickle=True))
    assert all(f"missing {key}" in str(caught.value) for key in gone)
    assert "surplus x; surplus y" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"encoder_ffn_embed_dim": 25}, "encoder_ffn_embed_dim is 25 .* shows 24"),
        ({"decoder_attention_heads": 4}, "decoder_attention_heads is 4 .* shows 2"),
        ({"encoder_layers": 2}, r"encoder_layers is 2 .* encoder\.layers\.2"),
        ({"token_bucket_size": 5}, "token_bucket_size is 5 .* shows 4"),
        ({"image_bucket_size": 42}, "image_bucket_size is 42 .* shows 6"),
        ({"scale_heads": False}, "scale_heads is False .*c_attn shows True"),
        ({"scale_resids": True}, "scale_resids is True"),
        ({"resnet_layers": (3, 4, 6)}, "resnet_layers"),
        ({"activation_fn": "relu"}, "activation_fn = 'relu'"),
        ({"encoder_normalize_before": False}, "encoder_normalize_before"),
        ({"adapter": True}, "adapter"),
        ({"decoder_output_dim": 8}, "decoder_output_dim"),
        ({"imagenet_default_mean_and_std": 1.5}, "imagenet"),
        ({"attn_scale_factor": "2"}, "attn_scale_factor"),
        ({"encoder_layers": 10**9}, "out of range"),
        ({"encoder_attention_heads": 3}, "multiple"),
        ({"patch_image_size": 480}, "30 patches"),
    ],
)
def test_a_contradicting_or_unknown_configuration_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    path = checkpoints.fairseq(tmp_path / "a.pt", make(), **changes)
    with pytest.raises(InputFileError, match=said):
        checkpoint.convert(read(path, allow_pickle=True))


def test_settings_that_are_absent_are_derived_or_said(tmp_path: Path) -> None:
    source = make(UNEQUAL)
    absent = dict.fromkeys(checkpoints.settings(UNEQUAL)) | {"decoder_heads": None}
    path = checkpoints.fairseq(tmp_path / "a.pt", source, **absent | {"activation_fn": "gelu"})
    made = checkpoint.convert(read(path, allow_pickle=True), image_size=48)
    # The published defaults where no shape shows the value.
    assert made.config == replace(UNEQUAL, disable_entangle=False, orig_image_size=256)
    assert any("attn_scale_factor 2.0, disable_entangle False" in note for note in made.notes)


def test_config_option_wins_and_is_needed_for_bare_weights(tmp_path: Path) -> None:
    source = make()
    path = checkpoints.fairseq(tmp_path / "a.pt", source)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"attn_scale_factor": 3}))
    made = checkpoint.convert(read(path, other, allow_pickle=True))
    assert made.config == replace(source.config, attn_scale_factor=3)
    bare = tmp_path / "bare.pt"
    torch.save(OrderedDict(checkpoints.state(source)), bare)
    with pytest.raises(InputFileError, match="--config"):
        read(bare, allow_pickle=True)
    with pytest.raises(InputFileError, match="--config"):
        torch.save({"model": checkpoints.state(source)}, bare)
        read(bare, allow_pickle=True)
    with pytest.raises(InputFileError, match="not there"):
        read(bare, tmp_path / "absent.json", allow_pickle=True)


def test_head_tensors_are_left_out_with_a_note(tmp_path: Path) -> None:
    weights = checkpoints.state(make()) | {"classification_heads.x.dense.weight": torch.zeros(2, 2)}
    path = checkpoints.fairseq(tmp_path / "a.pt", make(), weights=weights)
    assert any("classification" in note for note in checkpoint.convert(read(path, allow_pickle=True)).notes)


# ---- no checkpoint -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04garbage", b"\x80\x02garbage", b"text", pickle.dumps([1])])
def test_files_that_are_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    for name in ("a.pt", "a.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputFileError, match=name):
            read(tmp_path / name, golden.FOLDER / "config.json", allow_pickle=True)


def test_a_truncated_checkpoint(tmp_path: Path) -> None:
    path = checkpoints.fairseq(tmp_path / "a.pt", make())
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputFileError, match="cannot be read"):
        read(path, allow_pickle=True)


def test_what_is_not_there_or_not_a_table(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="does not exist"):
        read(tmp_path / "absent.pt", allow_pickle=True)
    with pytest.raises(InputFileError, match="holds no checkpoint"):
        read(tmp_path)
    torch.save({"model": {"a": 5}, "args": {"x": 1}}, tmp_path / "a.pt")
    with pytest.raises(InputFileError, match="model: a is a int, not a tensor"):
        read(tmp_path / "a.pt", allow_pickle=True)
    torch.save({"model": {}, "cfg": {"model": [1]}}, tmp_path / "a.pt")
    with pytest.raises(InputFileError, match="neither a Namespace nor a table"):
        read(tmp_path / "a.pt", allow_pickle=True)


# ---- the folder --------------------------------------------------------------------------------------------


def test_only_a_model_folder_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make()
    folder = checkpoints.hugging_face(tmp_path / "hf", source)
    run(folder, "--out", folder, expect=2)
    assert "choose another --out" in capsys.readouterr().err
    assert (folder / "model.safetensors").is_file()
    out = tmp_path / "out"
    run(folder, "--out", out)
    before = (out / "model.safetensors").read_bytes()
    (tmp_path / "broken.safetensors").write_bytes(b"x")
    run(tmp_path / "broken.safetensors", "--config", folder / "config.json", "--out", out, expect=4)
    assert (out / "model.safetensors").read_bytes() == before
    with pytest.raises(UsageError, match="needs no import"):
        read(out)


def test_random_weights_of_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(TINY, vocab_size=59457)
    monkeypatch.setitem(importing.SIZES, "ofa-tiny", small)
    run("--random", "ofa-tiny", "--mue", "--out", tmp_path / "a")
    loaded = mue_edge.models.load(tmp_path / "a")
    assert loaded.config == replace(small, decomposed=True)
    ids = json.loads((tmp_path / "a" / "prompts.json").read_text())["caption"]["ids"]
    assert ids == [0, 99, 473, 5, 2274, 6190, 116, 2]
    assert not (tmp_path / "a" / "tokenizer.json").exists()
    for seed, same in (0, True), (1, False):
        again = checkpoint.random_weights(loaded.config, seed)
        pairs = [(value, again[key]) for key, value in stored_weights(loaded).items()]
        assert all(torch.equal(*pair) for pair in pairs) == same
    run("--random", "ofa-giant", "--out", tmp_path / "b", expect=2)
    (tmp_path / "x.pt").touch()
    run("--random", "ofa-tiny", tmp_path / "x.pt", "--out", tmp_path / "b", expect=2)
    run("--out", tmp_path / "b", expect=2)


def test_random_trunk_stays_in_float16_range() -> None:
    config = replace(TINY, trunk_blocks=(3, 8, 36), trunk_width=8)
    model = Model(config)
    model.load_state_dict(checkpoint.random_weights(config, 0), strict=False)
    with torch.no_grad():
        features = model.eval().encoder.embed_images(torch.rand(1, 3, 64, 64) * 2 - 1)
    assert 0.01 < features.abs().max() < 1000

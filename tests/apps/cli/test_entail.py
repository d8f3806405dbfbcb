"""`mue-edge entail`, and calibration by accuracy."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pytest

from mue_edge import targets
from tests.apps.cli.conftest import Bundled
from tests.apps.cli.run import Runner, picture


def test_answers_with_layers_and_time(run: Runner, tiny_entail_bundle: Path, tmp_path: Path) -> None:
    done = run("entail", tiny_entail_bundle, picture(tmp_path / "a.png"), "a b", "c")
    assert done.code == 0
    assert done.out.count("layers: text 3, image 3, decoder 3") == 2
    assert done.out.split()[0] in ("yes", "no", "maybe")


def test_json_holds_everything(run: Runner, tiny_entail_bundle: Path, tmp_path: Path) -> None:
    policy = tmp_path / "early.json"
    policy.write_text(json.dumps({"rule": "fixed", "depth_text": 1, "depth_decoder": 2}))
    file = picture(tmp_path / "a.png")
    found = run("entail", tiny_entail_bundle, file, "a", "--json", "--trace", "--policy", policy).json()
    assert found["answer"] == max(found["probabilities"], key=found["probabilities"].get)
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert found["exits"] == {"text": 1, "image": 3, "decoder": [2] * 4}
    assert {d["stack"] for d in found["decisions"]} == {"text", "image", "decoder"}


def test_mistakes(run: Runner, tiny_entail_bundle: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    assert "says nothing" in run("entail", tiny_entail_bundle, file, " ").error(2)
    assert "mue-edge caption" in run("entail", tiny_bundle, file, "a").error(2)
    assert "mue-edge entail" in run("caption", tiny_entail_bundle, file).error(2)
    assert "no words for xyz" in run("entail", tiny_entail_bundle, file, "xyz").err


def test_the_bundled_models_name(
    run: Runner, bundled: Bundled, tiny_entail_bundle: Path, tiny_entail_folder: Path
) -> None:
    one = bundled.pictures / "0.png"
    expected = run("entail", tiny_entail_bundle, one, "a b", "--json").json()["probabilities"]
    first, second = (run("entail", "stickers-entail", one, "a b", "--json") for _ in range(2))
    assert first.json()["probabilities"] == second.json()["probabilities"] == expected
    assert "exporting the bundled model stickers-entail" in first.err and second.err == ""
    assert "mue-edge caption stickers PICTURE" in run("entail", "stickers", one, "a").error(2)
    assert "(stickers, stickers-entail)" in run("entail", one, one, "a").error(4)
    assert "mue-edge export" in run("entail", tiny_entail_folder, one, "a").error(4)
    assert bundled.exports == ["stickers-entail-host"]


def test_a_caption_is_read(run: Runner, tiny_captions_bundle: Path, tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    said = run("entail", tiny_captions_bundle, file, "a", "b", "--caption", "c D", "--json")
    assert said.code == 0 and "note" not in said.err
    records = [json.loads(line) for line in said.out.splitlines()]
    with targets.open_entailer(tiny_captions_bundle, threads=1) as entailer:
        for record, statement in zip(records, "ab", strict=True):
            assert (record["statement"], record["caption"]) == (statement, "c D")
            wanted = entailer.entail(file, statement, caption="c d").probabilities
            assert record["probabilities"] == pytest.approx(wanted, abs=1e-6)
    assert "no words for xyz" in run("entail", tiny_captions_bundle, file, "a", "--caption", "xyz").err
    assert "with caption" in run("inspect", tiny_captions_bundle).out


def test_a_model_that_reads_captions_asks_for_one(
    run: Runner, tiny_captions_bundle: Path, tiny_entail_bundle: Path, tmp_path: Path
) -> None:
    file = picture(tmp_path / "a.png")
    without = run("entail", tiny_captions_bundle, file, "a", "b", "--json")
    note = "trained with a caption of the picture in the text; give one with --caption TEXT"
    assert without.err.count(note) == 1
    assert "caption" not in json.loads(without.out.splitlines()[0])
    assert "caption" not in run("entail", tiny_entail_bundle, file, "a").err
    refused = run("entail", tiny_entail_bundle, file, "a", "--caption", "b")
    assert "was not trained with captions" in refused.error(2)
    assert "says nothing" in run("entail", tiny_captions_bundle, file, "a", "--caption", "").error(2)


def test_too_long_a_text_names_a_command_that_works(
    run: Runner, tiny_captions_folder: Path, tiny_captions_bundle: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    file, words = picture(tmp_path / "a.png"), ("a", "--caption", "b " * 11)
    refused = run("entail", tiny_captions_bundle, file, *words).error(2)
    option = re.search(r"mue-edge export MODEL (--text-length) (\d+)", refused)
    assert option is not None
    more = tmp_path / "more"
    assert run("export", tiny_captions_folder, "--out", more, *option.groups()).code == 0
    assert run("entail", more, file, *words).code == 0
    for folder, length, message in (
        (tiny_model_folder, 20, "of models that judge statements"),
        (tiny_captions_folder, 6, "no room"),
        (tiny_captions_folder, 33, "positions for 32 tokens"),
    ):
        assert message in run("export", folder, "--out", tmp_path / "no", "--text-length", length).error(2)
    assert not (tmp_path / "no").exists()


def test_calibrate_reads_captions_of_tables(
    run: Runner, tiny_captions_bundle: Path, tiny_captions_folder: Path, tmp_path: Path
) -> None:
    """calibrate and train --heads; both tell of lines without one."""
    bundle, table = tmp_path / "bundle", tmp_path / "t.jsonl"
    shutil.copytree(tiny_captions_bundle, bundle)
    rows = []
    for i in range(12):
        picture(tmp_path / f"{i}.png", i)
        rows.append({"image": f"{i}.png", "hypothesis": "abc"[i % 3]} | ({"caption": "d e"} if i else {}))
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for words in (
        ("calibrate", bundle, "--budget", "95%", "--workers", "1", "--clock", "cpu"),
        ("train", tiny_captions_folder, "--heads", "calm-classifier", "--batch", "4"),
    ):
        done = run(*words, "--data", table, "--out", tmp_path / words[0])
        assert done.code == 0, done.err
        assert done.err.count("1 of 12 lines have none (column caption)") == 1


def test_calibrate_bounds_accuracy(run: Runner, tiny_entail_bundle: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_entail_bundle, bundle)
    rows = []
    for i in range(12):
        picture(tmp_path / f"{i}.png", i)
        rows.append({"image": f"{i}.png", "hypothesis": "abc"[i % 3], "label": ("yes", "no", "maybe")[i % 3]})
    table = tmp_path / "t.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(
        "calibrate",
        bundle,
        "--data",
        table,
        "--budget",
        "95%",
        "--out",
        tmp_path / "out",
        "--workers",
        "1",
        "--clock",
        "cpu",
        "--json",
    )
    assert done.code == 0, done.err
    found = done.json()
    assert found["loss"] == "accuracy"
    assert found["certificate"]["claim"]["loss"] == "accuracy"
    names = [point["policy"].get("name", "") for point in found["front"]]
    assert names[-1] == "full"
    assert set(found["front"][0]["layers"]) == {"text", "image", "decoder"}


def test_from_a_published_checkpoint_to_an_answer(run: Runner, tmp_path: Path) -> None:
    """As MuE's SNLI-VE trainings write it: decomposed, with captions; the torch model's scores."""
    torch = pytest.importorskip("torch")
    from mue_edge import models
    from tests.models.ofa import checkpoints
    from tests.models.ofa.importing.test_tokenizer import fairseq_folder
    from tests.models.ofa.tiny import make

    folder, bundle = tmp_path / "m", tmp_path / "b"
    source = make(vocab_size=59457, max_source_positions=128, max_target_positions=128)
    file = checkpoints.fairseq(tmp_path / "a.pt", source, add_caption=True, train_mue=True)
    words = ("--task", "entail", "--tokenizer", fairseq_folder(tmp_path / "BPE"), "--allow-pickle")
    assert run("import", file, "--out", folder, *words).code == 0
    assert run("export", folder, "--out", bundle).code == 0
    shown, model = picture(tmp_path / "a.png"), models.load(folder)
    with targets.open_entailer(bundle, threads=1) as entailer:
        assert entailer.bundle.manifest.plan["text_length"] == 96
        pixels, encode = torch.from_numpy(entailer.pixels(shown)), entailer.tokenizer.encode
    for options, text in (
        ((), ' does the image describe " the image "?'),
        (("--caption", "The man"), ' can image and text1 " the man " imply text2 " the image "?'),
    ):
        found = run("entail", bundle, shown, "the image", "--json", *options).json()
        ids = (0, *encode(text), 2)
        scored = model.score(torch.tensor([ids]), pixels, ids[:-1], [[117], [4420], [2085]], form="prompt")
        wanted = [math.exp(score) for score in scored.scores]
        assert list(found["probabilities"].values()) == pytest.approx(wanted, abs=1e-4)

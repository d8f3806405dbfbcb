"""`mue-edge evaluate` on a made-up sticker set."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from mue_edge.apps.cli.commands.measure.evaluate import command
from mue_edge.apps.cli.main import main
from mue_edge.apps.stickers.dataset import Record
from mue_edge.calibrate.metrics import coco_metrics
from mue_edge.errors import UsageError
from mue_edge.inputs.tokens import Tokenizer
from mue_edge.models import load
from mue_edge.models.ofa.model import Model
from tests.apps.cli.run import picture
from tests.calibrate import captioned
from tools.stickers.train import caption_prompt, write_model


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny random model folder and the cache of a set of six pictures."""
    root = tmp_path_factory.mktemp("evaluate")
    letters = sorted(set("whatdoestheimagedescribe?".replace(" ", "")) | {"Ġ", "n", "k"})
    tokenizer = Tokenizer(("<s>", "<pad>", "</s>", "<unk>", *letters), (), frozenset(range(4)), strip_punctuation=False)
    config = replace(captioned.configuration(), vocab_size=len(tokenizer.pieces))
    torch.manual_seed(0)
    write_model(Model(config), tokenizer, root / "model")
    records = [
        Record(
            f"a/{i}",
            f"{i}",
            "the tin",
            ("the tin",),
            (),
            f"{i // 2}",
            f"{i}",
            "a",
            "a",
            "val_render" if i < 6 else "test_comp",
            "MIT",
        )
        for i in range(8)
    ]
    (root / "index.json").write_text(json.dumps([asdict(r) for r in records]), encoding="utf-8")
    np.save(root / "pixels-96.npy", np.random.default_rng(0).integers(0, 255, (8, 32, 32, 4), np.uint8))
    return root / "model", root


def test_figures_as_json(places: tuple[Path, Path]) -> None:
    model, cache = places
    run = CliRunner().invoke(command, [str(model), "--cache", str(cache), "--json", "--limit", "5", "--no-coco"])
    assert run.exit_code == 0, run.output
    found = json.loads(run.stdout)
    assert found["samples"] == 5
    assert found["clusters"] == 3
    assert found["metrics"]["exact_match"]["mean"] == 0.0
    assert found["confidence"] == 0.9
    assert set(found["metrics"]["exact_match"]) == {"mean", "standard_error", "low", "high"}
    assert set(found["metrics"]) == {"exact_match", "token_f1", "rouge_l", "exact_match_but_tone"}


def test_table_and_captions(places: tuple[Path, Path]) -> None:
    model, cache = places
    options = ["--cache", str(cache), "--encoder-depth", "1", "--decoder-depth", "1", "--show", "2", "--no-coco"]
    run = CliRunner().invoke(command, [str(model), *options])
    assert run.exit_code == 0, run.output
    assert "val_render: 6 pictures of 3 captions, 90% intervals" in run.stdout
    assert "0.000 [0.000, 0.000]" in run.stdout
    assert run.stdout.count("'the tin'") == 2


def test_a_split_that_is_not_there(places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    model, cache = places
    with pytest.raises(SystemExit) as end:
        main(["evaluate", str(model), "--cache", str(cache), "--split", "test"])
    assert end.value.code == 4
    assert "val_render" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["evaluate", str(model), "--cache", str(cache), "--split", "val_render+val_render"])
    assert end.value.code == 4
    assert "twice" in capsys.readouterr().err


def test_unions_references_and_confidence(places: tuple[Path, Path]) -> None:
    model, cache = places
    plain = [str(model), "--cache", str(cache), "--no-coco", "--json"]
    both = json.loads(CliRunner().invoke(command, [*plain, "--split", "val_render+test_comp"]).stdout)
    assert (both["samples"], both["clusters"]) == (8, 4)
    said = CliRunner().invoke(command, [*plain[:-1], "--show", "6"]).stdout.splitlines()
    caption = next(line for line in said if " ≠ " in line).split("'")[1]
    rows = json.loads((cache / "index.json").read_text(encoding="utf-8"))
    known = cache / "known"
    known.mkdir()
    (known / "index.json").write_text(
        json.dumps([row | {"references": ["the tin", caption.upper()]} for row in rows]), encoding="utf-8"
    )
    shutil.copy(cache / "pixels-96.npy", known)
    plain[2] = str(known)
    right = {}
    for how in ("first", "all"):
        run = CliRunner().invoke(command, [*plain, "--references", how])
        right[how] = json.loads(run.stdout)["metrics"]["exact_match"]
    assert right["first"]["mean"] == 0.0 < right["all"]["mean"]
    wide = json.loads(CliRunner().invoke(command, [*plain, "--confidence", "0.99"]).stdout)
    assert wide["confidence"] == 0.99


def test_depths_of_stickers(places: tuple[Path, Path], tmp_path: Path) -> None:
    model, cache = places
    picture = tmp_path / "map.svg"
    options = ["--cache", str(cache), "--no-coco", "--depths", "all,2", "--heatmap", str(picture), "--json"]
    run = CliRunner().invoke(command, [str(model), *options])
    assert run.exit_code == 0, run.output
    found = json.loads(run.stdout)
    assert [(c["encoder_depth"], c["decoder_depth"]) for c in found["cells"]] == [(1, 2), (2, 2)]
    change = found["cells"][0]["change"]
    assert (change["metric"], change["of"]) == ("exact_match", [2, 2])
    assert change["mean"] is None  # nothing is right at full depth
    assert set(found["cells"][0]["metrics"]) >= {"exact_match", "exact_match_but_tone"}
    assert "exact_match by depth, val_render" in picture.read_text(encoding="utf-8")


def test_pictures_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)  # METEOR takes seconds to start
    model, data = captioned.model_folder(tmp_path / "model"), captioned.pictures(tmp_path / "data", 1)
    with (data / "captions.csv").open("a", encoding="utf-8") as table:
        table.write("none.png,nothing\n")
    plain = [str(model), "--data", str(data), "--depths", "2,2", "--depths", "1,all"]
    assert "line 6" in str(CliRunner().invoke(command, plain).exception)
    run = CliRunner().invoke(command, [*plain, "--skip-bad", "--show", "1"])
    assert run.exit_code == 0, run.output
    lines = run.stdout.splitlines()
    assert lines[0] == "data: 4 pictures of 4 captions, 90% intervals by caption"
    main = "cider_d" if coco_metrics.available() else "exact_match"
    assert lines[1].split()[:7] == ["encoder", "decoder", main, "change", "of", "2,2,", "%"]
    assert {"exact_match", "token_f1", "rouge_l"} <= set(lines[1].split())
    assert [line.split()[:2] for line in lines[2:5]] == [["2", "2"], ["1", "1"], ["1", "2"]]
    assert lines[5].startswith(("  ≠ ", "  = "))
    assert "none.png is not there" in run.stderr


def test_depths_are_named_once(places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--depths", "all", "--decoder-depth", "1"], ["--decoder-depth", "3"]):
        with pytest.raises(SystemExit) as end:
            main(["evaluate", str(places[0]), "--cache", str(places[1]), *options])
        assert end.value.code == 2
    assert "1 to 2,2 layers" in capsys.readouterr().err


def test_written_model_loads_in_half_precision(places: tuple[Path, Path]) -> None:
    from safetensors.torch import load_file

    model = load(places[0])
    assert model.config.decomposed
    assert {t.dtype for t in load_file(places[0] / "model.safetensors").values()} == {torch.float16}
    prompt = json.loads((places[0] / "prompts.json").read_text(encoding="utf-8"))
    from mue_edge.inputs import tokens

    tokenizer = tokens.load(places[0] / "tokenizer.json")
    assert prompt == caption_prompt(model.config, tokenizer)
    assert tokenizer.decode(prompt["caption"]["ids"]) == " what does the image describe?"


def test_one_picture_has_no_cider_d(places: tuple[Path, Path], tmp_path: Path) -> None:
    if not coco_metrics.available():
        pytest.skip("needs the extra evaluate")
    picture(tmp_path / "p.png")
    (tmp_path / "t.csv").write_text("image,caption\np.png,the tin\n")
    args = ["--data", str(tmp_path / "t.csv")]
    done = CliRunner().invoke(command, [str(places[0]), *args])
    assert done.exit_code == 0, done.output
    assert re.search("cider_d +not defined", done.stdout) and "not defined for one picture" in done.stderr
    told = json.loads(CliRunner().invoke(command, [str(places[0]), *args, "--json"]).stdout)
    assert told["metrics"]["cider_d"]["mean"] is None and told["metrics"]["exact_match"]["mean"] is not None
    by_depth = CliRunner().invoke(command, [str(places[0]), *args, "--depths", "all"])
    assert "nan" not in by_depth.stdout and "exact_match" in by_depth.stdout
    drawn = [*args, "--heatmap", str(tmp_path / "x.svg"), "--metric", "cider_d"]
    with pytest.raises(UsageError, match="cider_d is not defined"):
        CliRunner().invoke(command, [str(places[0]), *drawn], catch_exceptions=False)
    assert not (tmp_path / "x.svg").exists()

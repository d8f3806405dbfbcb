"""`mue-edge train`: it learns, goes on after a kill, and shares a step between processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.commands.run import Runner

pytest.importorskip("torch")
pytest.importorskip("safetensors")

from tests.calibrate import captioned

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("train")
    return captioned.model_folder(root / "model"), captioned.pictures(root / "data")


def _command(places: tuple[Path, Path], out: Path, *more: str) -> list[str]:
    plain = ["--batch", "6", "--rate", "3e-3", "--no-bf16", "--val-share", "0", "--log-every", "2"]
    return ["train", str(places[0]), "--data", str(places[1]), "--out", str(out), *plain, *more]


def _losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def test_it_learns_and_says_what_comes_next(run: Runner, places: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run(*_command(places, out, "--steps", "40", "--ema", "0.8", "--val", str(places[1])))
    assert done.code == 0, done.err
    assert f"next: mue-edge export {out / 'model'}" in done.out
    assert "12 captions of 12 pictures, 40 steps of 6 captions" in done.err
    assert "step 40 of 40, loss" in done.err
    losses = _losses(out)
    assert len(losses) == 20
    assert losses[-1] < losses[0] / 2
    last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    assert last["val layer 2"] < 1.0
    assert "layer 2" in (out / "loss.svg").read_text()
    kept = ("tokenizer.json", "prompts.json")
    assert all(
        json.loads((out / "model" / n).read_text()) == json.loads((places[0] / n).read_text()) for n in kept
    )


def test_a_killed_run_goes_on_to_the_same_losses(
    run: Runner, places: tuple[Path, Path], tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    more = ("--steps", "24", "--save-every", "0", "--threads", "1")
    assert run(*_command(places, whole, *more)).code == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "mue_edge", *_command(places, broken, *more)],
        cwd=ROOT, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not (broken / "checkpoint.pt").is_file() and process.poll() is None:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL  # it was still at work
    assert not (broken / "loss.svg").exists()
    (broken / ".model.half").mkdir(exist_ok=True)
    done = run(*_command(places, broken, *more))
    assert done.code == 0, done.err
    assert re.search(r"going on after step (2|4|6|8|10|12|14|16|18|20|22)$", done.err, re.MULTILINE)
    assert not list(broken.glob(".*"))
    assert _losses(broken) == pytest.approx(_losses(whole), rel=1e-4)


def test_two_processes_learn_what_one_does(run: Runner, places: tuple[Path, Path], tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert run(*_command(places, one, "--steps", "6", "--threads", "1")).code == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, "-m", "mue_edge", *_command(places, two, "--steps", "6", "--threads", "1")],
        cwd=ROOT, env=_environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("next: ") == 1
    assert _losses(two) == pytest.approx(_losses(one), rel=1e-3)


def test_an_untrained_model_from_its_configuration(
    run: Runner, places: tuple[Path, Path], tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    shape = captioned.configuration().to_json()
    del shape["vocab_size"], shape["family"]
    config.write_text(json.dumps(shape))
    out, words = tmp_path / "run", str(places[0] / "tokenizer.json")
    plain = [
        "--data",
        str(places[1]),
        "--out",
        str(out),
        "--batch",
        "4",
        "--steps",
        "2",
        "--encoder",
        "joint",
    ]
    done = run("train", "--config", str(config), "--tokenizer", words, *plain, "--loss", "mean", "--augment")
    assert done.code == 0, done.err
    made = json.loads((out / "model" / "config.json").read_text())
    assert made["decomposed"] is False
    assert made["vocab_size"] == len(captioned.tokenizer().pieces)


def test_mistakes_are_one_line(run: Runner, places: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert "one of --epochs" in run(*_command(places, out, "--steps", "2", "--epochs", "1")).error(2)
    assert "either a MODEL" in run("train", "--data", places[1], "--out", out).error(2)
    table = tmp_path / "a.csv"
    table.write_text("image,caption\nred0.png,red\nnone.png,blue\n")
    there = ["--data", str(table), "--images", str(places[1]), "--out", str(out)]
    there += ["--val", str(table), "--val-images", str(places[1])]
    message = run("train", places[0], *there).error(4)
    assert "line 3" in message
    assert "none.png" in message
    done = run("train", places[0], *there, "--skip-bad", "--steps", "1")
    assert done.code == 0, done.err
    assert done.err.count("note: ") == 2  # of training and of validation data

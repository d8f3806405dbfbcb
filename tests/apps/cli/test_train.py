"""`mue-edge train`: it learns, goes on after a kill, and shares a step between processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.apps.cli.run import Runner, picture

pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import load_file

from tests.calibrate import captioned

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("train")
    return captioned.model_folder(root / "model"), captioned.pictures(root / "data")


def _command(places: tuple[Path, Path], out: Path, *more: str) -> list[str]:
    plain = ["--batch", "6", "--rate", "3e-3", "--no-bf16", "--val-share", "0", "--log-every", "2"]
    return ["train", str(places[0]), "--data", str(places[1]), "--out", str(out), *plain, *more]


def _log(out: Path) -> list[dict[str, float]]:
    """The log's figures without the clock."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def _losses(out: Path) -> list[float]:
    return [line["loss"] for line in _log(out) if "loss" in line]


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
    last = _log(out)[-1]
    assert last["val layer 2"] < _log(out)[0]["layer 2"] / 2
    assert last["val captions written"] == 12
    picture = (out / "loss.svg").read_text()
    for name in ("layer 1", "layer 2", "val layer 1", "val layer 2", "label smoothing 0.1"):
        assert name in picture
    kept = ("tokenizer.json", "prompts.json")
    assert all(json.loads((out / "model" / n).read_text()) == json.loads((places[0] / n).read_text()) for n in kept)


def test_a_killed_run_goes_on_to_the_same_losses(run: Runner, places: tuple[Path, Path], tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    more = ("--steps", "24", "--save-every", "0", "--threads", "1", "--augment", "--val", str(places[1]))
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
    assert _log(broken) == _log(whole)  # to the last digit: losses by layer, validation, rates
    assert (broken / "loss.svg").read_text() == (whole / "loss.svg").read_text()


def _torchrun(*command: str) -> subprocess.CompletedProcess[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*launch, "-m", "mue_edge", *command], cwd=ROOT, env=_environment(), capture_output=True, text=True, timeout=300
    )


# With frozen BatchNorm only sums are ordered differently; trained, each process normalises its own half.
@pytest.mark.parametrize(("batchnorm", "within"), [("frozen", 1e-4), ("trained", 0.1)])
def test_two_processes_learn_what_one_does(
    run: Runner, places: tuple[Path, Path], tmp_path: Path, batchnorm: str, within: float
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    more = ("--steps", "16", "--batch", "12", "--threads", "1", "--augment", "--batchnorm", batchnorm)
    assert run(*_command(places, one, *more)).code == 0
    done = _torchrun(*_command(places, two, *more))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("next: ") == 1
    assert _losses(two) == pytest.approx(_losses(one), rel=within)
    assert _losses(two)[-1] < 0.8 * _losses(two)[0]


def test_an_untrained_model_from_its_configuration(run: Runner, places: tuple[Path, Path], tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    shape = captioned.configuration().to_json()
    del shape["vocab_size"]
    config.write_text(json.dumps(shape))
    out, words = tmp_path / "run", str(places[0] / "tokenizer.json")
    plain = ["--data", str(places[1]), "--out", str(out), "--batch", "4", "--steps", "2", "--encoder", "joint"]
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
    assert not out.exists()
    done = run("train", places[0], *there, "--skip-bad", "--steps", "1")
    assert done.code == 0, done.err
    assert done.err.count("note: ") == 2  # of training and of validation data


def test_captions_over_the_limit_are_cut_and_counted(run: Runner, places: tuple[Path, Path], tmp_path: Path) -> None:
    more = ("--steps", "1", "--max-tokens", "4", "--val", str(places[1]), "--cache-pictures", "0")
    done = run(*_command(places, tmp_path / "run", *more))
    assert done.code == 0, done.err
    assert "note: 9 of 12 captions were cut to 4 tokens (--max-tokens)" in done.err
    assert "note: validation: 9 of 12 captions were cut" in done.err


def test_a_terminal_gets_a_bar(places: tuple[Path, Path], tmp_path: Path) -> None:
    leader, terminal = os.openpty()
    command = _command(places, tmp_path / "run", "--steps", "4", "--threads", "1")
    process = subprocess.Popen(
        [sys.executable, "-m", "mue_edge", *command],
        cwd=ROOT, env=_environment(), stdout=subprocess.DEVNULL, stderr=terminal,
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    with suppress(OSError):  # a terminal that its last user left
        while part := os.read(leader, 4096):
            shown += part
    os.close(leader)
    assert process.wait() == 0, shown
    assert re.search(rb"training .*##.* 100% .*loss \d", shown)


def test_heads_leave_the_network_as_it_is(run: Runner, places: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["train", str(places[0]), "--data", str(places[1]), "--out", str(out), "--val-share", "0"]
    done = run(*command, "--batch", "4", "--heads", "calm-classifier", "--augment")
    assert done.code == 0, done.err
    assert re.search(r"after layer +steps +kept +head +similarity +margin\n", done.out)
    assert f"next: mue-edge export {out / 'model'}" in done.out
    assert (out / "model/model.safetensors").read_bytes() == (places[0] / "model.safetensors").read_bytes()
    assert (out / "model/heads.safetensors").is_file() and not (places[0] / "heads.safetensors").exists()
    command[1], command[5] = str(out / "model"), str(tmp_path / "second")
    done = run(*command, "--batch", "4", "--heads", "gate")
    assert done.code == 0 and re.search(r"after layer +pictures +kept +head\n", done.out), done.err
    kinds = {key.partition(".")[0] for key in load_file(tmp_path / "second/model/heads.safetensors")}
    assert kinds == {"confidence", "gate"}  # the first ones were kept


def test_heads_of_a_model_that_judges_statements(run: Runner, tiny_entail_folder: Path, tmp_path: Path) -> None:
    rows = []
    for i in range(40):
        picture(tmp_path / f"{i}.png", i)
        rows.append({"image": f"{i}.png", "hypothesis": "a b c d"[: 1 + 2 * (i % 4)]})
    table = tmp_path / "pairs.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["train", tiny_entail_folder, "--data", table, "--heads", "deebert-ramps"]
    assert "no --augment" in run(*words, "--augment", "--out", tmp_path / "run").error(2)
    done = run(*words, "--out", tmp_path / "run", "--batch", "8")
    assert done.code == 0, done.err
    assert re.search(r"after layer +steps +kept +off-ramp's entropy\n +1 +8 ", done.out)  # one batch of five
    made = load_file(tmp_path / "run/model/heads.safetensors")
    assert set(made) == {f"ramps.{depth}.{name}" for depth in (1, 2) for name in ("weight", "bias")}

"""Options that only change numbers: each one has to reach what it names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.apps.cli.run import Runner

pytest.importorskip("torch")
pytest.importorskip("safetensors")

from mue_edge.models.ofa.importing import content as importing
from tests.calibrate import captioned
from tests.models.ofa.tiny import TINY

STEPS = ("--steps", "4")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("flags")
    return captioned.model_folder(root / "model"), captioned.pictures(root / "data")


def train(run: Runner, places: tuple[Path, Path], out: Path, *more: str) -> bytes:
    """The weights that a short run ends with."""
    plain = ["--batch", "6", "--rate", "3e-3", "--val-share", "0", "--log-every", "1", "--threads", "1"]
    plain += ["--ema", "0"]
    done = run("train", str(places[0]), "--data", str(places[1]), "--out", str(out), *plain, *more)
    assert done.code == 0, done.err
    return (out / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def plain_weights() -> dict[str, bytes]:
    """The run without any of the options; made by the first test that asks."""
    return {}


@pytest.mark.parametrize(
    "option",
    [
        (), ("--label-smoothing", "0.5"), ("--shallow", "1"), ("--warm-up", "0.9"), ("--bf16",),
        ("--weight-decay", "5"), ("--batchnorm", "trained"), ("--seed", "9"), ("--loss", "mean"),
    ],
    ids=lambda option: option[0] if option else "none",
)  # fmt: skip
def test_training_options_change_what_is_learnt(
    run: Runner, places: tuple[Path, Path], tmp_path: Path, plain_weights: dict[str, bytes], option: tuple[str, ...]
) -> None:
    base = ("--shallow", "0") if "--shallow" not in option else ()
    bits = ("--no-bf16",) if "--bf16" not in option else ()
    if not plain_weights:
        plain_weights["plain"] = train(run, places, tmp_path / "plain", *STEPS, "--shallow", "0", "--no-bf16")
    found = train(run, places, tmp_path / "run", *STEPS, *base, *bits, *option)
    assert (found == plain_weights["plain"]) == (option == ())


def test_a_schedule_in_minutes_ends_by_the_clock(run: Runner, places: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(run, places, out, "--minutes", "0.02", "--no-bf16")
    assert (out / "loss.svg").is_file()


def test_the_heat_map_draws_the_metric_that_is_asked_for(
    run: Runner, places: tuple[Path, Path], tmp_path: Path
) -> None:
    picture = tmp_path / "map.svg"
    plain = ["evaluate", str(places[0]), "--data", str(places[1]), "--depths", "all,all", "--no-coco"]
    done = run(*plain, "--heatmap", str(picture), "--metric", "token_f1")
    assert done.code == 0, done.err
    assert "token_f1" in picture.read_text(encoding="utf-8")
    wrong = run(*plain, "--heatmap", str(tmp_path / "none.svg"), "--metric", "beauty")
    assert wrong.code == 2 and "exact_match, token_f1" in wrong.err
    assert not (tmp_path / "none.svg").exists()


def test_the_seed_of_untrained_weights(run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(importing.SIZES, "ofa-tiny", replace(TINY, vocab_size=59457))
    made = []
    for i, seed in enumerate(("0", "0", "1")):
        done = run("import", "--random", "ofa-tiny", "--seed", seed, "--out", str(tmp_path / str(i)))
        assert done.code == 0, done.err
        made.append((tmp_path / str(i) / "model.safetensors").read_bytes())
    assert made[0] == made[1] != made[2]

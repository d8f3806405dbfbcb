"""What people type: words that are nearly right, names of nothing, and half a word with Tab after it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from mue_edge import targets
from mue_edge.apps.cli import main as cli
from mue_edge.errors import UsageError
from mue_edge.loop.policy import Policy
from tests.apps.cli.run import Runner, picture

ROOT = Path(__file__).resolve().parents[3]
HEAVY = """
import sys
from mue_edge.apps.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(*{"torch", "onnxruntime", "onnx", "matplotlib", "safetensors"} & set(sys.modules))
"""


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (("exprot",), "export"), (("alt_txt", "."), "alt-text"), (("export", "--tagret", "host"), "--target"),
        (("export", "stikers"), "stickers"), (("export", "M", "--target", "hots"), "host"),
        (("caption", "stikers", "P"), "stickers"), (("caption", "B", "P", "--policy", "fulll"), "full"),
        (("verify", "sticker"), "stickers"), (("compare", "M", "--target", "jetsn"), "jetson"),
        (("calibrate", "M", "--budget", "50%", "--target", "jetsn"), "jetson"),
    ],
)  # fmt: skip
def test_what_was_meant(
    args: tuple[str, ...], wanted: str, tiny_bundle: Path, tiny_model_folder: Path, tmp_path: Path, run: Runner
) -> None:
    names = {"B": tiny_bundle, "M": tiny_model_folder, "P": picture(tmp_path / "p.png")}
    done = run(*(names.get(word, word) for word in args))
    assert done.code in (2, 4) and "id you mean" in done.err, done.err
    assert wanted in done.err.partition("id you mean")[2][: len(wanted) + 4], done.err


def test_words_that_look_like_nothing_are_not_guessed(run: Runner) -> None:
    assert "did you mean" not in run("frobnicate").err
    with pytest.raises(UsageError, match=r"'nevr' \(did you mean never\?\)"):
        Policy("nevr")
    with pytest.raises(UsageError, match="did you mean jetson-orin-nano"):
        targets.device("orin-nao")


@pytest.mark.parametrize(
    "args",
    [
        ("train", "M", "--data", "nothere.csv", "--out", "o"),
        ("train", "nothere", "--data", "D", "--out", "o"),
        ("train", "M", "--data", "D", "--val", "nothere.csv", "--out", "o"),
        ("train", "--data", "D", "--config", "nothere.json", "--tokenizer", "D", "--out", "o"),
        ("evaluate", "M", "--data", "nothere.csv"), ("evaluate", "nothere", "--data", "D"),
        ("evaluate", "M", "--data", "D", "--images", "nothere"),
        ("calibrate", "M", "--budget", "50%", "--data", "nothere.csv"),
        ("calibrate", "nothere", "--budget", "50%"),
        ("compare", "M", "--data", "nothere.csv"), ("compare", "nothere"), ("export", "nothere"),
        ("import", "nothere.pt", "--out", "o"), ("import", "D", "--out", "o", "--config", "nothere.json"),
        ("import", "D", "--out", "o", "--tokenizer", "nothere"), ("bench", "nothere"), ("profile", "nothere"),
        ("verify", "nothere"), ("conformance", "nothere"), ("entail", "nothere", "D", "a"),
    ],
)  # fmt: skip
def test_a_name_of_nothing_fails_before_anything_heavy_is_loaded(
    args: tuple[str, ...], tiny_model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text("image,caption\np.png,a\n")
    names = {"M": str(tiny_model_folder), "D": "t.csv"}
    done = subprocess.run(
        [sys.executable, "-c", HEAVY, *(names.get(word, word) for word in args)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode in (2, 4) and "nothere" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert done.stdout.strip() == ""
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def offered(*words: str) -> list[tuple[str, str]]:
    """What Tab offers for the last word: (kind, value)."""
    complete = BashComplete(cli.group, {}, "mue-edge", "_MUE_EDGE_COMPLETE")
    return [(item.type, item.value) for item in complete.get_completions(list(words[:-1]), words[-1])]


def test_completion(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stickers-mine").mkdir()
    (tmp_path / "sticker.png").write_bytes(b"")
    shutil.copytree(tiny_bundle, tmp_path / "tiny")
    assert ("plain", "export") in offered("exp") and offered("exprot") == []
    assert [value for _, value in offered("export", "--target", "")] == targets.names()
    assert offered("calibrate", "--target", "ho") == [("plain", "host")]
    assert offered("caption", "tiny", "sticker.png", "--policy", "") == [("plain", "full")]
    assert ("plain", "fast") in offered("caption", "stickers", "sticker.png", "--policy", "f")
    assert ("plain", "balanced") in offered("serve", "--policy", "b")  # the bundled model's
    assert offered("alt-text", "x.html", "--bundle", "tiny", "--policy", "f") == [("plain", "full")]
    assert offered("caption", "tiny", "p", "--policy", "my") == [("file", "my")]  # a policy's file
    models = ["stickers", "stickers-entail", "stickers-mine"]
    assert [value for _, value in offered("export", "st")] == models
    assert offered("inspect", "x/y") == [("dir", "x/y")]
    assert ("plain", "sticker.png") in offered("caption", "st")
    assert offered("caption", "stickers", "st") == [("file", "st")]
    assert offered("import", "st") == [("file", "st")]


def test_the_script_that_bash_reads() -> None:
    environment = {**os.environ, "_MUE_EDGE_COMPLETE": "bash_source"}
    done = subprocess.run(
        [sys.executable, "-m", "mue_edge"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "complete -o" in done.stdout and "mue-edge" in done.stdout

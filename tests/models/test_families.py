"""A second family through every command, by what CONTRIBUTING.md says and one line in FAMILIES: the toy, and
OFA's own folder under another name."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

import mue_edge  # noqa: E402
import mue_edge.bundle.folder  # noqa: E402
from mue_edge import models, targets  # noqa: E402
from mue_edge.errors import EnvironmentLacksError  # noqa: E402
from mue_edge.inputs import tokens  # noqa: E402
from mue_edge.inputs.image import network_input  # noqa: E402
from mue_edge.loop.policy import Policy, StackExit  # noqa: E402
from tests.apps.cli import calibrated  # noqa: E402
from tests.apps.cli.run import Runner, picture  # noqa: E402
from tests.calibrate import captioned  # noqa: E402
from tests.models.ofa import checkpoints  # noqa: E402
from tests.models.ofa.importing.test_tokenizer import fairseq_folder  # noqa: E402
from tests.models.ofa.tiny import make  # noqa: E402
from tests.models.toy import family as toy  # noqa: E402

WORDS = ("Ġ", *sorted(set("redbluegreenwhite")))
PLAN = {"ends": {"eye": [1, 3], "decoder": [1, 2]}, "precision": "fp32", "no_repeat_ngram": 0}
PLAN |= {"min_length": 0, "max_length": 8}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.FAMILIES, "toy", "tests.models.toy.family")


@pytest.fixture
def folder(run: Runner, tmp_path: Path) -> Path:
    """A toy that was imported."""
    out = tmp_path / "toy"
    done = run("import", toy.checkpoint(tmp_path / "checkpoint", WORDS), "--out", out)
    assert done.code == 0, done.err
    assert done.err == ""
    assert f"{out}: a toy, 0.0 million weights, pictures of 32 pixels, {4 + len(WORDS)} tokens" in done.out
    assert "mue-edge caption" in done.out
    return out


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capsys)


def test_import_finds_the_family(run: Runner, folder: Path, tmp_path: Path) -> None:
    assert models.read_config(folder)["family"] == "toy"
    found = models.load(folder)
    assert models.family_of(found) is toy.FAMILY
    assert models.describe(found) == models.describe_folder(folder)
    assert run("import", "--random", "toy-small", "--out", tmp_path / "random").code == 0
    assert models.read_config(tmp_path / "random")["family"] == "toy"
    wrong = run("import", "--random", "toy-huge", "--out", tmp_path / "x").error(2)
    assert "ofa-tiny" in wrong and "toy-small" in wrong
    source = tmp_path / "checkpoint"
    assert "one encoder" in run("import", source, "--mue", "--out", tmp_path / "x").error(2)
    assert "of ofa, toy" not in run("import", source, "--family", "ofa", "--out", tmp_path / "x").error(4)
    assert "ofa, toy" in run("import", source, "--family", "tow", "--out", tmp_path / "x").error(2)
    (source / "config.json").write_text('{"model_type": "tow"}')
    wrong = run("import", source, "--out", tmp_path / "x").error(4)
    assert "toy: a toy's folder" in wrong and "--family NAME" in wrong
    assert not (tmp_path / "x").exists()
    listed = run("list", tmp_path, "--json").json()["models"]
    assert {"toy": "encoder 3, decoder 2"}.items() <= {m["family"]: m["layers"] for m in listed}.items()


def test_it_learns_and_is_measured(run: Runner, folder: Path, tmp_path: Path) -> None:
    data = captioned.pictures(tmp_path / "data", 2)
    plain = ("--data", data, "--batch", "4", "--no-bf16", "--log-every", "1", "--rate", "0.01")
    done = run("train", folder, *plain, "--steps", "12", "--val", data, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if "loss" in line]
    assert losses[-1] < losses[0]
    found = run("evaluate", tmp_path / "run/model", "--data", data, "--depths", "all", "--no-coco", "--json")
    cells = [(c["encoder_depth"], c["decoder_depth"]) for c in found.json()["cells"]]
    assert cells == [(e, d) for e in (1, 2, 3) for d in (1, 2)]
    (tmp_path / "fresh.json").write_text(json.dumps({"family": "toy", "width": 8}))
    fresh = ("--config", tmp_path / "fresh.json", "--tokenizer", folder / "tokenizer.json", "--steps", "2")
    done = run("train", *fresh, *plain, "--out", tmp_path / "fresh")
    assert done.code == 0, done.err
    assert models.read_config(tmp_path / "fresh/model")["width"] == 8
    wrong = run("train", *fresh, *plain, "--encoder", "joint", "--out", tmp_path / "x").error(2)
    assert "one encoder" in wrong


def test_a_configuration_names_its_family(run: Runner, folder: Path, tmp_path: Path) -> None:
    data = captioned.pictures(tmp_path / "data", 1)
    (tmp_path / "config.json").write_text("{}")
    fresh = ("--config", tmp_path / "config.json", "--tokenizer", folder / "tokenizer.json")
    assert "known families: ofa, toy" in run("train", *fresh, "--data", data, "--out", tmp_path / "x").error(4)


def test_what_a_family_lacks_is_said(
    run: Runner, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(toy.FAMILY), "training", None)
    data = captioned.pictures(tmp_path / "data", 1)
    for command in (("train", folder, "--out", tmp_path / "x"), ("evaluate", folder)):
        wrong = run(*command, "--data", data).error(2)
        assert "'toy' cannot be trained" in wrong and wrong.endswith("families that can: ofa")
    from mue_edge.errors import UsageError

    with pytest.raises(UsageError, match="cannot judge statements here; families that can: ofa"):
        models.judging(models.load(folder))
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(PLAN))
    assert run("export", folder, "--plan", plan, "--out", tmp_path / "bundle").code == 0


def test_a_bundle_says_what_the_network_does(run: Runner, folder: Path, tmp_path: Path) -> None:
    plan, bundle, shown = tmp_path / "plan.json", tmp_path / "bundle", picture(tmp_path / "a.png")
    plan.write_text(json.dumps(PLAN))
    done = run("export", folder, "--plan", plan, "--out", bundle)
    assert done.code == 0, done.err
    assert "verified up to level loop" in done.out
    network, words = models.load(folder), tokens.load(folder / "tokenizer.json")
    pixels = torch.from_numpy(network_input(models.describe(network).preprocess, shown))
    cells = [(e, d) for e in (1, 3) for d in (1, 2)]
    wanted = models.training(network).greedy_by_depth(network, [0, 2], pixels, cells, max_length=8)
    assert len({str(found) for found in wanted.values()}) > 2
    with mue_edge.open(bundle, threads=1) as captioner:
        for encoder, decoder in cells:
            policy = Policy("fixed", {"eye": StackExit(depth=encoder), "decoder": StackExit(depth=decoder)})
            found = captioner.caption(shown, policy=policy)
            assert [list(found.tokens[:-1])] == wanted[encoder, decoder]
    assert run("caption", bundle, shown, "--json").json()["text"] == words.decode(wanted[3, 2][0]).strip()


@pytest.mark.parametrize("name", [name for name in targets.names() if name != "host"])
def test_other_targets_say_what_the_host_does(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the device's runtime, or what stands for it, is here; else the bundle is only made."""
    from mue_edge.export.build import export

    monkeypatch.setenv("MUE_EDGE_JETSON", "onnxruntime")
    try:
        made = export(folder, tmp_path / name, name, PLAN)
    except EnvironmentLacksError as problem:
        pytest.skip(str(problem))
    assert made.bundle.manifest.layout.depths() == {"eye": 3, "decoder": 2}
    export(folder, tmp_path / "host", "host", PLAN)
    shown, depths = picture(tmp_path / "a.png"), set()
    shallow = Policy("fixed", dict.fromkeys(("eye", "decoder"), StackExit(depth=1)))
    policies = [Policy("never", name="full"), shallow, Policy("mue", {"decoder": StackExit(0.9)}, beta=1.0)]
    try:
        other = mue_edge.open(tmp_path / name, threads=1)
    except EnvironmentLacksError:
        return
    with other, mue_edge.open(tmp_path / "host", threads=1) as host:
        for policy in policies:
            wanted, found = (c.caption(shown, policy=policy) for c in (host, other))
            assert (found.tokens, found.exits) == (wanted.tokens, wanted.exits)
            depths.update(found.exits["decoder"])
    assert depths == {1, 2}


def test_it_is_calibrated(run: Runner, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plan, bundle = tmp_path / "plan.json", tmp_path / "bundle"
    plan.write_text(json.dumps(PLAN))
    assert run("export", folder, "--plan", plan, "--out", bundle).code == 0
    data = calibrated.captioned(tmp_path / "pictures", bundle, 24)
    times = calibrated.elsewhere(tmp_path / "elsewhere.json", bundle)
    words = ("--data", data, "--profile", times, "--out", tmp_path / "out", "--workers", "1")
    done = run("calibrate", bundle, "--budget", "90%", *words)
    assert done.code == 0, done.err
    front = mue_edge.bundle.folder.open_bundle(bundle).manifest.policies().values()
    assert len(front) > 1 and {stack for policy in front for stack in policy.exits} <= {"eye", "decoder"}
    assert any(policy.may_exit for policy in front)


@pytest.fixture
def alias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """OFA's folder copied, as the family "alias" of a package of that name."""
    folder = Path(models.__file__).with_name("ofa")
    for source in folder.rglob("*.py"):
        text = source.read_text(encoding="utf-8").replace("mue_edge.models.ofa", "alias_ofa")
        copy = tmp_path / "packages" / "alias_ofa" / source.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text.replace('NAME = "ofa"', 'NAME = "alias"'), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.setitem(models.FAMILIES, "alias", "alias_ofa.family")
    yield "alias"
    for module in [m for m in sys.modules if m.partition(".")[0] == "alias_ofa"]:
        del sys.modules[module]
    importlib.invalidate_caches()


def test_ofa_under_another_name(run: Runner, alias: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = checkpoints.fairseq(tmp_path / "a.pt", make(vocab_size=59457))
    words, out, shown = fairseq_folder(tmp_path / "BPE"), tmp_path / "model", picture(tmp_path / "a.png")
    asked = ("import", file, "--allow-pickle", "--tokenizer", words, "--mue", "--out", out)
    assert "several families (ofa, alias)" in run(*asked).error(2)
    done = run(*asked, "--family", alias)
    assert done.code == 0, done.err
    assert type(models.load(out)).__module__ == "alias_ofa.model"
    table = captioned.pictures(tmp_path / "data", 1) / "captions.csv"
    plain = ("--data", table, "--batch", "2", "--no-bf16", "--steps", "2")
    done = run("train", out, *plain, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    trained = tmp_path / "run/model"
    assert models.read_config(trained)["family"] == alias
    found = run("evaluate", trained, "--data", table, "--encoder-depth", "2", "--no-coco", "--json").json()
    assert (found["encoder_depth"], found["decoder_depth"]) == (2, 3)
    done = run("train", trained, *plain, "--heads", "calm-classifier", "--out", tmp_path / "heads")
    assert done.code == 0, done.err
    done = run("export", tmp_path / "heads/model", "--out", tmp_path / "bundle")
    assert done.code == 0 and "verified up to level loop" in done.out, done.err
    assert json.loads((tmp_path / "bundle/manifest.json").read_text())["family"] == alias
    assert run("caption", tmp_path / "bundle", shown, "--json").code == 0

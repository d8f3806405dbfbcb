from __future__ import annotations

import json
import multiprocessing
import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mue_edge import models
from mue_edge.bundle.folder import open_bundle
from mue_edge.bundle.manifest import Manifest
from mue_edge.errors import EnvironmentLacksError, InputFileError, UsageError
from mue_edge.export import rivals
from mue_edge.export.rivals import decoding, worker
from mue_edge.export.rivals.job import RivalJob, make
from mue_edge.export.rivals.worker import Worker
from mue_edge.loop.search import SearchSettings
from tests.apps.cli.run import picture

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

PICTURES = 6
BROKEN = "tests.export.rivals.broken"


@pytest.fixture(scope="module")
def manifest(tiny_bundle: Path) -> Manifest:
    return open_bundle(tiny_bundle).manifest


def engine(name: str, job: RivalJob) -> decoding.RivalEngine:
    module = __import__(f"mue_edge.export.rivals.{name}", fromlist=["RIVAL"])
    opened: decoding.RivalEngine = module.RIVAL(job)
    return opened


def captions(job: RivalJob, rival: decoding.RivalEngine) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Of random pictures: what the rival writes, and what the network in torch does."""
    network: Any = models.load(job.model)
    source, p, s = torch.tensor([job.prompt]), job.preprocess, job.search
    found = []
    for seed in range(PICTURES):
        pixels = np.random.default_rng(seed).standard_normal((1, 3, p.height, p.width)).astype(np.float32)
        options = {"beam": s.beam, "max_length": s.max_length, "no_repeat_ngram": s.no_repeat_ngram}
        wanted = network.generate(source, torch.from_numpy(pixels), **options)[0][0]
        found.append((decoding.caption(rival, pixels, s), wanted.tokens))
    return found


@pytest.mark.parametrize("decomposed", [True, False])
@pytest.mark.parametrize("beam", [1, 3])
def test_rivals_write_what_the_network_writes(
    tiny_model_folder: Path, manifest: Manifest, tmp_path: Path, decomposed: bool, beam: int
) -> None:
    """MuE's encoder, and OFA's with positions in what the decoder reads."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_model_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config |= {"decomposed": decomposed, "disable_entangle": decomposed}
    (folder / "config.json").write_text(json.dumps(config))
    asked = replace(manifest, search=replace(manifest.search, beam=beam))
    job = make(folder, asked, tmp_path, ("onnxruntime",), 1)
    for name in rivals.RIVALS:
        if name == "openvino" and not rivals.find_spec(name):
            continue
        pairs = captions(job, engine(name, job))
        assert len({wanted for _, wanted in pairs}) > 1 or not decomposed
        assert [own for own, _ in pairs] == [wanted for _, wanted in pairs], name


def test_int8_is_int8(tiny_model_folder: Path, manifest: Manifest, tmp_path: Path) -> None:
    import onnx

    job = make(tiny_model_folder, replace(manifest, precision="int8"), tmp_path, ("onnxruntime",), 1)
    nodes = {node.op_type for node in onnx.load(str(job.graph("decoder", "int8"))).graph.node}
    assert "DynamicQuantizeLinear" in nodes
    rival = engine("onnxruntime", job)
    assert "int8" in rival.settings
    assert all(own[-1] == manifest.search.eos for own, _ in captions(job, rival))


def test_torch_needs_no_graphs(tiny_model_folder: Path, manifest: Manifest, tmp_path: Path) -> None:
    make(tiny_model_folder, manifest, tmp_path, ("torch",), 1)
    assert not list(tmp_path.iterdir())


def test_statements_have_no_rivals(tiny_entail_folder: Path, manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="captions"):
        make(tiny_entail_folder, replace(manifest, task="entail"), tmp_path, ("torch",), 1)


def test_a_family_that_is_not_run_whole_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = SimpleNamespace(name="other", whole=None)
    monkeypatch.setattr(models, "family_of", lambda network: lacking)
    with pytest.raises(UsageError, match=r"'other' cannot be run whole.*: ofa"):
        models.whole(torch.nn.Linear(1, 1), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("ends", [True, False])
def test_greedy_keeps_the_rules(ends: bool) -> None:
    """No padding, no end too soon, no n-gram twice, an end at the longest."""
    settings = SearchSettings(max_length=6, min_length=2, no_repeat_ngram=2)
    logits = np.array([[0, 9, 8 if ends else -1, 0, 7, 6]], np.float32)
    fed = []

    def step(ids: list[int], parents: object) -> np.ndarray[Any, Any]:
        fed.append(ids)
        return logits.copy()

    rival: Any = SimpleNamespace(encode=lambda pixels: fed.clear(), step=step)
    pixels = np.zeros(1, np.float32)
    wanted = (4, 4, 2) if ends else (4, 4, 5, 4, 0, 5, 2)
    assert decoding.caption(rival, pixels, settings) == wanted
    assert fed == [[0], *([token] for token in wanted[:-1])]


def job_of(manifest: Manifest, folder: Path, **changes: Any) -> RivalJob:
    return RivalJob(folder, folder, (0, 5, 2), manifest.preprocess, manifest.search, "fp32", 1, **changes)


def test_a_worker_measures_itself(tiny_model_folder: Path, manifest: Manifest, tmp_path: Path) -> None:
    shown, broken = picture(tmp_path / "a.png"), tmp_path / "b.png"
    broken.write_bytes(shown.read_bytes()[:40])
    job = make(tiny_model_folder, manifest, tmp_path, ("onnxruntime",), 1)
    with closing(Worker("onnxruntime", job)) as rival:
        done, stem = rival.caption(shown), rival.stem(shown)
        from mue_edge.inputs.image import network_input

        same = decoding.caption(engine("onnxruntime", job), network_input(job.preprocess, shown), job.search)
        assert done.tokens == same and stem.tokens == ()
        assert stem.time.cpu > 0 and done.time.cpu > 0 and done.time.wall > 0
        assert "1 thread" in rival.settings
        with pytest.raises(InputFileError, match=r"b\.png"):
            rival.caption(broken)
    assert multiprocessing.active_children() == []


def test_a_rival_that_ends(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacksError, match=r"ending has ended \(exit code 3\)"):
        Worker("ending", job_of(manifest, tmp_path), BROKEN)
    assert multiprocessing.active_children() == []


def test_a_rival_that_hangs(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(worker, "CALL_SECONDS", 0.5)
    shown = picture(tmp_path / "a.png")
    with closing(Worker("hanging", job_of(manifest, tmp_path), BROKEN)) as rival:
        process = rival._process.pid
        with pytest.raises(EnvironmentLacksError, match="has not answered"):
            rival.stem(shown)
        with pytest.raises(EnvironmentLacksError, match="has ended"):
            rival.stem(shown)
    assert process is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert "chatter" not in capfd.readouterr().out


def test_a_rival_that_fails(manifest: Manifest, tmp_path: Path) -> None:
    shown = picture(tmp_path / "a.png")
    with (
        closing(Worker("hanging", job_of(manifest, tmp_path), BROKEN)) as rival,
        pytest.raises(EnvironmentLacksError, match="failed: ValueError: no such thing"),
    ):
        rival.caption(shown)


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "find_spec", lambda name: None if name == "nncf" else name)
    rivals.check_installed(("onnxruntime", "torch"))
    with pytest.raises(EnvironmentLacksError, match=r"nncf is not installed.*mue-edge\[rivals\]"):
        rivals.check_installed(("onnxruntime", "openvino"))

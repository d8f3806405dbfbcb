"""ExecuTorch with XNNPACK: one program of all segments, run by the targets' own adapter.

Lowering costs seconds a segment, so one bundle is made, for embedded Linux, and Android's program from the
same lowering. They differ in who owns the outputs' memory. In Android's all methods share it: a segment that
is fed another's output there can write over its own input, and then the state is right and the score is 1.
So scores are compared, not states only.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("executorch.runtime", reason="pip install 'mue-edge[executorch]'")

from mue_edge import schema, targets
from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.bundle.manifest import MANIFEST, Port
from mue_edge.errors import EnvironmentLacksError, InputFileError, UsageError, VerificationError
from mue_edge.export import build
from mue_edge.export.executorch import format as executorch
from mue_edge.export.onnx.format import Exporter
from mue_edge.export.onnx.macs import count
from mue_edge.files import sha256
from mue_edge.loop.driver import Runtime
from mue_edge.targets.executorch.methods import method_name
from mue_edge.targets.executorch.python import ExecuTorchProgram
from tests.contract.adapters import assert_loop_equals_reference
from tests.contract.conftest import model_folder, plan_of
from tests.contract.cuts import make_case, pictures

LOOP = "prompt"
# Of the other cuts the kinds of segments that LOOP lacks.
OTHERS = {"joint": ("encoder.0", "cross_kv.0"), "text": ("text_stem", "text.0")}
POLICIES = ("never", "half", "up-and-down", "late", "calm-softmax", "calm-classifier")
TARGETS = ("embedded-linux", "android")


@dataclass(frozen=True)
class Made:
    """The bundle of each target, and what export said of the first."""

    folders: dict[str, Path]
    exported: build.Exported


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("executorch")
    folders = {name: root / name for name in TARGETS}
    save = executorch.save

    def save_both(edge: Any, path: Path, *, planned: bool) -> None:
        assert not planned
        save(copy.deepcopy(edge), root / "planned.pte", planned=True)
        save(edge, path, planned=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executorch, "save", save_both)
        case = make_case(LOOP)
        folder = model_folder(case, root / "model")
        exported = build.export(folder, folders["embedded-linux"], "embedded-linux", plan_of(case))
    shutil.copytree(folders["embedded-linux"], folders["android"])
    rewrite(folders["android"], lambda program: (root / "planned.pte").read_bytes(), target="android")
    return Made(folders, exported)


def rewrite(folder: Path, change: Callable[[bytes], bytes], **keys: str) -> None:
    """Another program in a bundle, with a manifest that says so."""
    path, manifest = folder / executorch.PROGRAM, folder / MANIFEST
    path.write_bytes(change(path.read_bytes()))
    data = json.loads(manifest.read_text()) | keys
    data["files"][executorch.PROGRAM] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    manifest.write_text(json.dumps(data))


@pytest.fixture(params=TARGETS)
def bundle(made: Made, request: pytest.FixtureRequest) -> Bundle:
    return open_bundle(made.folders[request.param])


@pytest.fixture
def copied(made: Made, tmp_path: Path) -> Path:
    """A bundle to damage."""
    return Path(shutil.copytree(made.folders["embedded-linux"], tmp_path / "copy"))


def program(bundle: Bundle, threads: int = 1) -> ExecuTorchProgram:
    return ExecuTorchProgram(bundle.path / executorch.PROGRAM, bundle.manifest.segments, threads)


def fed(segment: str) -> list[torch.Tensor]:
    """Random inputs."""
    generator = torch.Generator().manual_seed(0)
    inputs = make_case(LOOP).cut.piece(segment).inputs.values()
    return [torch.randn(x.shape, generator=generator) if x.is_floating_point() else x for x in inputs]


def test_export_reaches_the_loop(made: Made) -> None:
    evidence = made.exported.bundle.manifest.evidence
    assert evidence.rung == "loop" and evidence.versions["executorch"]
    assert evidence.figures["graph_max_error"] <= 1e-4
    assert evidence.figures["score_max_error"] <= 1e-5
    assert evidence.figures["replay_same_tokens"] == evidence.figures["golden_logs"] == 8


def test_xnnpack_takes_every_segment_whole(made: Made) -> None:
    notes = dict(made.exported.notes)
    embed, head = notes.pop("embed"), notes.pop("head")
    assert all(note == {"delegates": 1, "host": {}} for note in notes.values()), notes
    assert head["delegates"] == 2 and list(head["host"]) == ["aten_topk_default"]
    assert list(embed["host"]) == ["aten_embedding_default"]


def test_a_segment_in_parts_is_an_error(made: Made) -> None:
    segments = made.exported.bundle.manifest.segments
    broken = executorch.Lowered(7, {"aten_native_layer_norm_default": 4})
    with pytest.raises(VerificationError, match=r"image\.0: XNNPACK took it in 7 parts instead of 1"):
        executorch.check_delegates({"image.0": broken}, segments)
    with pytest.raises(VerificationError, match=r"in 0 parts"):
        executorch.check_delegates({"image.0": executorch.Lowered(0, {})}, segments)


def test_other_kinds_of_segments(tmp_path: Path) -> None:
    pieces = {f"{case}.{name}": make_case(case).cut.piece(name) for case, all_ in OTHERS.items() for name in all_}
    graphs = {method_name(k): executorch.traced(p, "xnnpack", "fp32")[0] for k, p in pieces.items()}
    edge = executorch.lower(graphs, "xnnpack", {})
    segments = {name: executorch.entry(piece, executorch.PROGRAM, 0) for name, piece in pieces.items()}
    executorch.check_delegates({name: executorch.delegation(edge, name) for name in pieces}, segments)
    executorch.save(edge, tmp_path / "others.pte", planned=False)
    found = ExecuTorchProgram(tmp_path / "others.pte", segments, 1)
    for name, piece in pieces.items():
        inputs = [torch.randn(x.shape) if x.is_floating_point() else x for x in piece.inputs.values()]
        with torch.no_grad():
            out = piece.module.eval()(*inputs)
        for a, b in zip(out if isinstance(out, tuple) else (out,), found.run(name, inputs)):
            torch.testing.assert_close(b, a, atol=1e-4, rtol=1e-4, msg=name)


def test_loop_equals_reference(bundle: Bundle) -> None:
    """Beam 3, exits, fills, late cross K/V: tokens equal, scores to 1e-5."""
    case = make_case(LOOP)
    runtime = targets.open_runtime(bundle, 1)

    def with_picture(picture: NDArray[np.float32]) -> Runtime:
        runtime.set_pixels(picture)
        return runtime

    assert_loop_equals_reference(case, with_picture, POLICIES)
    runtime.close()


def chained_scores(found: ExecuTorchProgram) -> list[float]:
    """Scores of the image segments, each fed with what the one before it returned."""
    case, scores = make_case(LOOP), []
    x, *_ = found.run("stem", [torch.from_numpy(pictures()[0]).contiguous()])
    for name in ("image.0", "image.1"):
        rest = [torch.randn(v.shape, generator=torch.Generator().manual_seed(1)) for v in _others(case, name)]
        x, score, _ = found.run(name, [x, *rest])
        scores.append(float(score))
    return scores


def _others(case: Any, name: str) -> list[torch.Tensor]:
    return list(case.cut.piece(name).inputs.values())[1:]


def expected_scores() -> list[float]:
    case, scores = make_case(LOOP), []
    with torch.no_grad():
        x, *_ = case.cut.piece("stem").module.eval()(torch.from_numpy(pictures()[0]))
        for name in ("image.0", "image.1"):
            rest = [torch.randn(v.shape, generator=torch.Generator().manual_seed(1)) for v in _others(case, name)]
            x, score, _ = case.cut.piece(name).module.eval()(x, *rest)
            scores.append(float(score))
    return scores


def test_scores_survive_the_shared_arena(bundle: Bundle) -> None:
    assert chained_scores(program(bundle)) == pytest.approx(expected_scores(), abs=1e-6)


def test_the_shared_arena_is_why_outputs_are_cloned(made: Made) -> None:
    """Android's program without the clone: another segment writes over what was returned."""
    found = program(open_bundle(made.folders["android"]))
    cloned = found.run("image.0", fed("image.0"))[0]
    found._loaded["image.0"] = replace(found._loaded["image.0"], shared=False)
    view = found.run("image.0", fed("image.0"))[0]
    assert torch.equal(view, cloned)
    for name in ("image.1", "cross_kv.0", "decoder.1"):
        found.run(name, fed(name))
    assert not torch.equal(view, cloned)


def test_who_owns_the_outputs(made: Made) -> None:
    """Embedded Linux: the same memory in every call, nothing copied. Android: cloned."""
    for name, shared in (("embedded-linux", False), ("android", True)):
        found = program(open_bundle(made.folders[name]))
        first = found.run("image.0", fed("image.0"))
        kept = first[0].clone()
        second = found.run("image.0", [2 * x for x in fed("image.0")])
        assert (first[0].data_ptr() == second[0].data_ptr()) is not shared, name
        assert torch.equal(first[0], kept) is shared, name
        meta = found._program.metadata("image_0")
        assert not any(meta.input_tensor_meta(i).is_memory_planned() for i in range(meta.num_inputs()))


def test_arrays_and_tensors_share_memory(made: Made) -> None:
    found = program(made.exported.bundle)
    array = np.zeros((2, 3), np.float32)
    tensor = found.tensor(array)
    assert tensor.data_ptr() == array.ctypes.data
    assert found.array(tensor, Port((2, 3))).ctypes.data == array.ctypes.data


def strided(x: torch.Tensor) -> torch.Tensor:
    return torch.randn(*x.shape[:-1], 2 * x.shape[-1])[..., ::2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda xs: [x.numpy() for x in xs], "input x is a ndarray, not a torch.Tensor"),
        (lambda xs: [x.double() for x in xs], "input x is float64"),
        (lambda xs: [x[:, :1].contiguous() for x in xs], r"it takes float32 \[1, 4, 32\]"),
        (lambda xs: [xs[0][0], *xs[1:]], r"input x is float32 \[4, 32\]"),
        (lambda xs: [strided(xs[0]), *xs[1:]], "input x is not contiguous"),
        (lambda xs: xs[:-1], "takes 4 tensors, not 3"),
    ],
)
def test_wrong_inputs_are_named(bundle: Bundle, change: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        program(bundle).run("image.0", change(fed("image.0")))


def test_a_damaged_program_never_reaches_the_runtime(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Truncated, or one bit flipped: the bundle does not open, also where only a stamp was compared."""
    path = copied / executorch.PROGRAM
    whole = path.read_bytes()
    opened = open_bundle(copied)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (whole[: len(whole) // 2], bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(InputFileError, match=r"model\.pte"):
            open_bundle(copied)
        monkeypatch.setattr(targets.executorch.python, "ExecuTorchProgram", None)  # would be called
        with pytest.raises(InputFileError, match="hash differs"):
            targets.open_runtime(opened, 1)


@pytest.mark.parametrize("size", [0, 7, 5000])
def test_what_is_no_program_is_an_error_of_ours(copied: Path, size: int) -> None:
    rewrite(copied, lambda whole: whole[:size])
    with pytest.raises(InputFileError, match="ExecuTorch cannot load"):
        targets.open_runtime(open_bundle(copied), 1)


def test_a_program_that_does_not_fit_the_manifest(made: Made) -> None:
    bundle = made.exported.bundle
    segments = dict(bundle.manifest.segments)
    path = bundle.path / executorch.PROGRAM
    with pytest.raises(InputFileError, match=r"no method 'image_7'; it has: .*image_0"):
        ExecuTorchProgram(path, segments | {"image.7": segments["image.0"]}, 1).run("image.7", [])
    other = replace(segments["image.0"], outputs=segments["image.0"].outputs | {"y": Port((1, 4, 31))})
    with pytest.raises(InputFileError, match=r"has the outputs .*; export again"):
        ExecuTorchProgram(path, segments | {"image.0": other}, 1).run("image.0", fed("image.0"))


def test_a_backend_that_is_not_here(made: Made) -> None:
    bundle = made.exported.bundle
    for backend, error, words in (
        ("vulkan", EnvironmentLacksError, "--backend xnnpack"),
        ("abacus", InputFileError, "known backends: xnnpack, vulkan"),
    ):
        plan = dict(bundle.manifest.plan) | {"backend": backend}
        with pytest.raises(error, match=words):
            targets.open_runtime(Bundle(bundle.path, replace(bundle.manifest, plan=plan)), 1)


def test_threads(bundle: Bundle) -> None:
    from executorch.extension.pybindings import portable_lib

    for threads in (2, 1):
        targets.open_runtime(bundle, threads)
        assert portable_lib._threadpool_get_thread_count() == threads


def test_methods_are_loaded_when_they_run(made: Made) -> None:
    found = program(made.exported.bundle)
    assert not found._loaded
    found.run("image.0", fed("image.0"))
    assert list(found._loaded) == ["image.0"]


def test_the_program_says_what_it_is(made: Made) -> None:
    manifest = made.exported.bundle.manifest
    found = program(made.exported.bundle)._program
    say = lambda name: found.load_method(name)._method.call((), clone_outputs=True)[0]
    assert say("schema") == manifest.schema and say("plan_hash") == manifest.plan_hash
    facts, wanted = json.loads(say("manifest")), schema.encode(manifest)
    assert facts == {k: wanted[k] for k in wanted if k not in executorch.OUTSIDE}


def test_multiply_adds_are_counted_as_of_the_host(made: Made) -> None:
    exporter = Exporter()
    for name in ("stem", "image.1", "decoder.0", "head", "embed"):
        graph = exporter.graph(make_case(LOOP).cut.piece(name))
        assert made.exported.bundle.manifest.segments[name].macs == count(graph, name), name


def test_int8_segments(tmp_path: Path) -> None:
    """One delegate still, and scores nearer than thresholds are apart."""
    piece = make_case(LOOP).cut.piece("image.0")
    graph, _ = executorch.traced(piece, "xnnpack", "int8")
    edge = executorch.lower({"image_0": graph}, "xnnpack", {})
    assert executorch.delegation(edge, "image.0") == executorch.Lowered(1, {})
    executorch.save(edge, tmp_path / "int8.pte", planned=False)
    found = ExecuTorchProgram(tmp_path / "int8.pte", {"image.0": executorch.entry(piece, executorch.PROGRAM, 0)}, 1)
    with torch.no_grad():
        y, score, _ = piece.module.eval()(*fed("image.0"))
    mine, close, _ = found.run("image.0", fed("image.0"))
    assert 0 < float((mine - y).abs().max()) < 0.1 * float(y.abs().max())
    assert float(close) == pytest.approx(float(score), abs=2e-3)

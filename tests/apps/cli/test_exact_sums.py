"""int8 on the host: sums are exact here, and verify sees a runtime whose sums are not."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mue_edge import targets
from mue_edge.bundle.folder import open_bundle
from mue_edge.bundle.manifest import MANIFEST
from mue_edge.files import sha256
from mue_edge.targets import golden, host
from mue_edge.targets.verify import check_sums, verify
from tests.apps.cli.run import Runner

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def int8_bundle(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in int8. Read only: copy it to change it."""
    from mue_edge.export.build import export

    out = tmp_path_factory.mktemp("bundles") / "tiny-int8"
    export(tiny_model_folder, out, "host", {"precision": "int8"})
    return out


def saturated(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.int32]:
    """a · b where pairs of products are added in 16 bits, as `vpmaddubsw` does."""
    products = a.astype(np.int32)[..., :, None] * b.astype(np.int32)  # [..., rows, inner, columns]
    products = products[..., 0::2, :] + products[..., 1::2, :]
    return products.clip(-(2**15), 2**15 - 1).sum(-2, dtype=np.int32)


class Saturating(host.HostRuntime):
    """A runtime on a processor whose int8 kernels saturate: its segments are run by onnx's own evaluator."""

    def call(self, run: str, port: str, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        from onnx.reference import ReferenceEvaluator
        from onnx.reference.op_run import OpRun

        class MatMulInteger(OpRun):  # type: ignore[misc]
            op_domain = ""

            def _run(self, a: Any, b: Any, a_zero: Any = 0, b_zero: Any = 0) -> tuple[NDArray[np.int32]]:
                assert np.all(b_zero == 0)
                return (saturated(a, b) - np.int32(a_zero) * b.astype(np.int32).sum(0),)

        manifest = self.bundle.manifest
        constants, segment = manifest.layout.constants()[run], manifest.segments[run]
        fed = {k: self.array(name, segment.inputs[k]) for k, name in constants.items()}
        model = onnx.load(str(self.bundle.path / segment.file))
        found: NDArray[Any] = ReferenceEvaluator(model, new_ops=[MatMulInteger]).run([port], fed | dict(inputs))[0]
        return found


def test_saturation_is_that_of_the_instruction() -> None:
    a, b = np.array([[255, 255, 1, 2]], np.uint8), np.array([[127], [127], [3], [4]], np.int8)
    assert saturated(a, b).tolist() == [[32767 + 11]]
    assert saturated(a, -b).tolist() == [[-32768 - 11]]


def test_verify_finds_exact_sums_here(int8_bundle: Path, run: Runner) -> None:
    bundle = open_bundle(int8_bundle)
    sums = golden.read_sums(bundle)
    assert [s.segment for s in sums] == ["image.0", "decoder.0"]
    assert all("pos_q" not in s.inputs and s.error > 0 for s in sums)
    found = verify(bundle, targets.open_runtime(bundle, 1))
    assert set(found.sums) == {"image.0", "decoder.0"} and all(abs(times - 1) <= 0.05 for times in found.sums.values())
    assert "decoder.0: error 1.0" in run("verify", int8_bundle).out


def test_verify_fails_where_sums_saturate(int8_bundle: Path, run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "open_runtime", lambda bundle, threads=None: Saturating(bundle, threads))
    problem = run("verify", int8_bundle).error(6)
    for words in ("does not sum int8 products exactly", "decoder.0", "--precision fp32"):
        assert words in problem, problem


def test_an_evaluator_that_does_not_saturate_passes(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `Saturating` fails by is saturation, not onnx's evaluator."""
    monkeypatch.setattr(
        "tests.apps.cli.test_exact_sums.saturated", lambda a, b: a.astype(np.int32) @ b.astype(np.int32)
    )
    bundle = open_bundle(int8_bundle)
    assert all(abs(times - 1) <= 0.05 for times in check_sums(bundle, Saturating(bundle, 1)).values())


@pytest.mark.parametrize("here", [False, True])
def test_exact_sums_are_asked_for_where_kernels_saturate(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    monkeypatch.setattr(host, "saturates", lambda: here)
    options = host.HostRuntime(open_bundle(int8_bundle), 1)._options("decoder.0")
    assert options.get_session_config_entry("session.x64quantprecision") == "01"[here]


def test_the_product_that_is_tried_is_what_it_says() -> None:
    helper, kinds = onnx.helper, onnx.TensorProto
    ports = [
        helper.make_tensor_value_info("a", kinds.UINT8, ["m", 64]),
        helper.make_tensor_value_info("b", kinds.INT8, [64, 16]),
        helper.make_tensor_value_info("y", kinds.INT32, ["m", 16]),
    ]
    node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    graph = helper.make_graph([node], "g", ports[:2], ports[2:])
    opsets = [helper.make_opsetid("", 13)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    assert onnx.load_model_from_string(host._PRODUCT) == made


@pytest.mark.parametrize(
    ("product", "answer"), [(saturated, True), (lambda a, b: a.astype(int) @ b.astype(int), False)]
)
def test_saturation_is_found_by_trying(
    monkeypatch: pytest.MonkeyPatch, product: Callable[..., NDArray[Any]], answer: bool
) -> None:
    class Session:
        def run(self, names: object, fed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
            return [product(fed["a"], fed["b"])]

    monkeypatch.setattr(host.onnxruntime(), "InferenceSession", lambda *args, **options: Session())
    assert host.saturates.__wrapped__() is answer


def damaged(data: bytes) -> bytes:
    return data[: len(data) // 2]


def without(word: str) -> Callable[[bytes], bytes]:
    """The archive without the arrays that have the word in their names."""

    def change(data: bytes) -> bytes:
        out = io.BytesIO()
        with np.load(io.BytesIO(data)) as file:
            np.savez(out, **{key: file[key] for key in file.files if word not in key})
        return out.getvalue()

    return change


def of_no_error(data: bytes) -> bytes:
    out = io.BytesIO()
    with np.load(io.BytesIO(data)) as file:
        np.savez(out, **{key: file[key] * (" error " not in key) for key in file.files})
    return out.getvalue()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (damaged, "cannot be read"),
        (without("decoder.0 error"), "cannot be read"),
        (without("decoder.0 in slots"), "does not fit the segments decoder.0"),
        (of_no_error, "does not fit the segments image.0, decoder.0"),
    ],
)
def test_sums_that_do_not_fit(
    int8_bundle: Path, tmp_path: Path, run: Runner, change: Callable[[bytes], bytes], words: str
) -> None:
    folder = Path(shutil.copytree(int8_bundle, tmp_path / "bundle"))
    path = folder / golden.SUMS
    path.write_bytes(change(path.read_bytes()))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][golden.SUMS] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert words in run("verify", folder).error(4)


def test_a_text_branch_is_compared_too(tiny_entail_folder: Path, tmp_path: Path) -> None:
    """Its biases are written by the adapter, so they are no constants of the bundle."""
    from mue_edge.export.build import export

    made = export(tiny_entail_folder, tmp_path / "bundle", "host", {"precision": "int8"})
    sums = {s.segment: s for s in golden.read_sums(made.bundle)}
    assert {"bias", "live"} <= set(sums["text.0"].inputs)
    assert made.loop is not None and set(made.loop.sums) == set(sums) == {"image.0", "text.0", "decoder.0"}


def test_bundles_without_sums_are_verified_as_before(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    assert golden.SUMS not in bundle.manifest.files
    assert verify(bundle, targets.open_runtime(bundle, 1)).sums == {}

"""The screened head gives the plain head's words, or runs the plain head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

from mue_edge import targets  # noqa: E402
from mue_edge.bundle.folder import open_bundle  # noqa: E402
from mue_edge.errors import UsageError  # noqa: E402
from mue_edge.export.build import export  # noqa: E402
from mue_edge.export.onnx.format import Exporter  # noqa: E402
from mue_edge.export.onnx.graphs import session  # noqa: E402
from mue_edge.export.onnx.screened import CANDIDATES, ROUNDING, screened  # noqa: E402
from mue_edge.loop.policy import Policy  # noqa: E402
from mue_edge.loop.replay import run  # noqa: E402
from mue_edge.models.cut import Piece  # noqa: E402
from mue_edge.models.ofa.cutting.decoder_segments import Head  # noqa: E402
from mue_edge.targets import golden  # noqa: E402
from tests.models.ofa.tiny import make  # noqa: E402

EOS, TOP = 2, 21
PORTS = ("top_ids", "top_values", "logsumexp", "eos")
Floats = NDArray[np.float64]


class Heads(NamedTuple):
    """A plain head's graph, its table and norm, in float64."""

    plain: Any
    table: Floats
    scale: Floats
    bias: Floats

    def normed(self, states: Any) -> Floats:
        x = np.asarray(states, np.float64)
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * self.scale + self.bias


def heads(words: int, width: int, table: Any = None) -> Heads:
    decoder = make(vocab_size=words, decoder_dim=width, encoder_dim=width).decoder
    if table is not None:
        decoder.projection_weight.data.copy_(torch.from_numpy(table))
    head = Head(decoder, TOP, EOS)
    graph = Exporter().graph(Piece("head", head, {"y": torch.zeros(1, width)}, PORTS))
    tensors = (decoder.projection_weight, decoder.layer_norm.weight, decoder.layer_norm.bias)
    return Heads(graph, *(tensor.detach().double().numpy() for tensor in tensors))


def watched(model: Any) -> Any:
    """A session that also says whether the screen sufficed."""
    model.graph.output.append(onnx.helper.make_tensor_value_info("screen.certain", onnx.TensorProto.BOOL, []))
    return session(model)


def near_ties(table: Floats, count: int, seed: int) -> NDArray[np.float32]:
    """A third each: states of no word, near one word, and between two to six that score almost the same."""
    rng = np.random.default_rng(seed)
    words, width = table.shape
    states = rng.standard_normal((count, width)) * np.linalg.norm(table, axis=1).mean() / width**0.5
    for i in range(count):
        if i % 3:
            chosen = table[rng.choice(words, 1 if i % 3 == 1 else rng.integers(2, 7), replace=False)]
            unit = chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
            # The state of equal products with all of them, then all but equal ones.
            equal = np.linalg.lstsq(unit, 1 + 10.0 ** -rng.integers(3, 9) * rng.standard_normal(len(unit)), rcond=None)
            states[i] = states[i] * rng.uniform(0.1, 1) + 3 * equal[0]
    return states.astype(np.float32)


def check(found: Mapping[str, Any], logits: Floats, rounding: float) -> None:
    """The arg-max and the five best are float64's, but for words that are closer than float32 rounds."""
    ids = found["top_ids"][0]
    order = np.argpartition(-logits, 8)[:8]
    order = order[np.argsort(-logits[order], kind="stable")]
    assert len(set(ids.tolist())) == len(ids)
    for place in range(5):
        assert ids[place] == order[place] or abs(logits[ids[place]] - logits[order[place]]) <= rounding
    assert np.abs(found["top_values"][0] - logits[ids]).max() <= rounding
    assert abs(found["eos"][0] - logits[EOS]) <= rounding


def differences(heads: Heads, states: NDArray[np.float32]) -> int:
    """Check all; returns how many ran the plain head."""
    graph, fallbacks, norms = screened(heads.plain, EOS), 0, np.linalg.norm(heads.table, axis=1).max()
    run_head = watched(graph)
    for at in range(0, len(states), 256):
        h = heads.normed(states[at : at + 256])
        for y, own, logits in zip(states[at : at + 256], h, h @ heads.table.T):
            results = run_head.run(None, {"y": y[None]})
            check(dict(zip(PORTS, results)), logits, 1e-6 * np.linalg.norm(own) * norms)
            fallbacks += not results[-1]
    return fallbacks


def test_near_ties() -> None:
    some = heads(3000, 64)
    assert differences(some, near_ties(some.table, 600, 0)) < 60


@pytest.mark.slow
def test_a_hundred_thousand_states() -> None:
    some = heads(16384, 256)
    assert differences(some, near_ties(some.table, 100_000, 1)) < 1000


def test_the_log_sum_exp_is_within_its_bound() -> None:
    # Of the words that are no candidates a share r of the probability is off by at most the largest error s.
    some = heads(3000, 64)
    graph = screened(some.plain, EOS)
    errors = next(onnx.numpy_helper.to_array(t) for t in graph.graph.initializer if t.name == "screen.errors")
    head, sure = watched(graph), 0
    for y in near_ties(some.table, 100, 2):
        results = dict(zip((*PORTS, "certain"), head.run(None, {"y": y[None]})))
        (h,) = some.normed(y[None])
        logits = h @ some.table.T
        total = logits.max() + np.log(np.exp(logits - logits.max()).sum())
        worst = np.linalg.norm(h) * errors[0].max() + np.linalg.norm(h) * errors[1].max()
        rest = np.exp(np.sort(logits)[:-CANDIDATES] - total).sum()
        assert abs(results["logsumexp"][0] - total) <= np.log1p(rest * np.expm1(worst)) + ROUNDING
        sure += bool(results["certain"])
    assert sure > 50


def test_words_that_cannot_be_told_apart_run_the_plain_head() -> None:
    rng = np.random.default_rng(0)
    one = np.outer(rng.choice([-1, 1], 1000), rng.standard_normal(64))
    table = (one + 1e-4 * rng.standard_normal((1000, 64))).astype(np.float32)
    some = heads(1000, 64, table)
    states = (table[:20] + 1e-3 * rng.standard_normal((20, 64))).astype(np.float32)
    assert differences(some, states) == 20


def test_a_kernel_that_breaks_the_bound_runs_the_plain_head() -> None:
    some = heads(3000, 64)
    states = near_ties(some.table, 20, 3)
    graph = screened(some.plain, EOS)
    for tensor in graph.graph.initializer:
        if tensor.name == "screen.rows":
            rows = onnx.numpy_helper.to_array(tensor)
            wrong = np.minimum(rows, 160)  # as sums do that saturate
            tensor.CopyFrom(onnx.numpy_helper.from_array(wrong, tensor.name))
    plain, head = session(some.plain), watched(graph)
    for y in states:
        *found, certain = head.run(None, {"y": y[None]})
        assert not certain
        for mine, wanted in zip(found, plain.run(None, {"y": y[None]})):
            np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=1e-5)


def test_what_is_no_product_with_a_table_is_an_error() -> None:
    some = heads(1000, 24)
    with pytest.raises(UsageError, match="16 must divide that; use --head full"):
        screened(some.plain, EOS)
    twice = onnx.ModelProto()
    twice.CopyFrom(heads(1000, 32).plain)
    twice.graph.node.add(op_type="MatMul")
    with pytest.raises(UsageError, match=r"not one product.*--head full"):
        screened(twice, EOS)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_bundle(precision: str, tiny_model_folder: Path, tmp_path: Path) -> None:
    """It captions as with the plain head, stores the table once, and asks for a version that has the kernel."""
    from safetensors.numpy import load_file

    exports = {}
    for name in ("full", "screened"):
        options = {"precision": precision, "screened": name == "screened"}
        exports[name] = export(tiny_model_folder, tmp_path / name, options=options)
    bundle = exports["screened"].bundle
    assert bundle.manifest.plan["screened"] and "screened" not in exports["full"].bundle.manifest.plan
    assert bundle.manifest.runtime.versions == ">=1.22,<2"
    assert "screened" in exports["screened"].summary[0] and not exports["full"].summary
    assert bundle.manifest.segments["head"].macs > exports["full"].bundle.manifest.segments["head"].macs
    table = load_file(tiny_model_folder / "model.safetensors")["encoder.embed_tokens.weight"]
    assert (bundle.path / "segments" / "weights.bin").read_bytes().count(table.astype(np.float32).tobytes()) == 1
    if precision == "fp32":
        captions = []
        for each in (exports["full"].bundle, open_bundle(bundle.path, paranoid=True)):
            runtime, m = targets.open_runtime(each), each.manifest
            runtime.set_pixels(golden.pixels(golden.read(each)[0][0], m.preprocess))
            captions.append(run(m.layout, m.search, Policy("never"), runtime).hypotheses[0])
        assert captions[0].tokens == captions[1].tokens
        assert captions[0].score == pytest.approx(captions[1].score, abs=1e-5)

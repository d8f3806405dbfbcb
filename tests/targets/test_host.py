"""The ONNX Runtime adapter: buffers, threads, errors, and equality with the torch reference."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

import mue_edge
from mue_edge import targets
from mue_edge.bundle.folder import open_bundle
from mue_edge.errors import EnvironmentLacksError, InputFileError, UsageError
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.loop.replay import decision_log, run
from mue_edge.targets.host import HostRuntime

ort = pytest.importorskip("onnxruntime")


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (1, 3, 48, 48)).astype(np.float32)


def test_bound_arrays_are_the_tensors_themselves() -> None:
    """The runtime writes inputs and reads scores through numpy views: this must not copy."""
    array = np.zeros((2, 3), np.float32)
    value = ort.OrtValue.ortvalue_from_numpy(array)
    assert value.data_ptr() == array.ctypes.data


def test_two_captions_do_not_influence_one_another(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    layout, settings = bundle.manifest.layout, bundle.manifest.search
    runtime = targets.open_runtime(bundle, 1)
    early = Policy("fixed", {"image": StackExit(depth=1), "decoder": StackExit(depth=1)})

    def log(seed: int, policy: Policy) -> object:
        runtime.set_pixels(noise(seed))
        return decision_log(run(layout, settings, policy, runtime, trace=True))

    first = log(1, Policy("never"))
    log(2, early)
    log(3, Policy("fixed", {"image": StackExit(depth=2), "decoder": StackExit(depth=2)}))
    assert log(1, Policy("never")) == first


def test_packed_weights_are_made_once_and_compute_the_same(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(tiny_bundle)

    def log(shared: Path | None) -> object:
        runtime = HostRuntime(bundle, 1)
        if shared is not None:
            runtime.share_packed(shared)
        runtime.set_pixels(noise())
        layout, settings = bundle.manifest.layout, bundle.manifest.search
        return decision_log(run(layout, settings, Policy("never"), runtime, trace=True))

    plain = log(None)
    assert log(tmp_path) == plain
    made = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    assert made and log(tmp_path) == plain
    assert made == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    with pytest.raises(EnvironmentLacksError, match="cannot be packed into"):
        log(tmp_path / "no-such-folder")


def test_pixels_of_another_shape_are_refused(tiny_bundle: Path) -> None:
    runtime = targets.open_runtime(open_bundle(tiny_bundle), 1)
    with pytest.raises(InputFileError, match=r"\(1, 3, 48, 48\)"):
        runtime.set_pixels(np.zeros((1, 3, 32, 48), np.float32))


def test_early_exits_call_less(tiny_bundle: Path) -> None:
    with mue_edge.open(tiny_bundle, threads=1) as captioner:
        from PIL import Image

        picture = Image.new("RGB", (60, 40), (200, 30, 90))
        full = captioner.caption(picture, policy="full")
        early = captioner.caption(
            picture, policy=Policy("fixed", {"image": StackExit(depth=1), "decoder": StackExit(depth=1)})
        )
    assert full.exits["image"] == 3 and set(full.exits["decoder"]) == {3}
    assert early.exits["image"] == 1 and set(early.exits["decoder"]) == {1}
    assert early.calls / len(early.exits["decoder"]) < full.calls / len(full.exits["decoder"])
    assert early.decoder_layers == 1


def test_a_stream_grows_to_the_caption(tiny_bundle: Path) -> None:
    from PIL import Image

    with mue_edge.open(tiny_bundle, threads=1) as captioner:
        steps = captioner.stream(Image.new("RGB", (48, 48), "teal"))
        texts = []
        while True:
            try:
                texts.append(next(steps))
            except StopIteration as end:
                result = end.value
                break
    assert texts and result.text.startswith(texts[-1])
    assert all(b.startswith(a) for a, b in itertools.pairwise(texts))
    assert {"preprocess", "total", "stem"} <= set(result.seconds)
    kinds = {kind for name in result.seconds for kind in name.split("+")}
    assert kinds >= {"stem", "image", "decoder", "head", "cross_kv", "embed"}
    parts = sum(seconds for name, seconds in result.seconds.items() if name != "total")
    assert 0 < parts <= result.seconds["total"]


def test_policies_and_beams_that_do_not_fit(tiny_bundle: Path) -> None:
    with mue_edge.open(tiny_bundle, threads=1) as captioner:
        with pytest.raises(UsageError, match="full"):
            captioner.policy("no-such")
        with pytest.raises(UsageError, match="was made for plan"):
            captioner.policy(Policy("mue", {"image": StackExit(0.9)}, plan="another"))
        with pytest.raises(UsageError, match="--beam 5"):
            captioner.caption(b"", beam=5, policy="full")

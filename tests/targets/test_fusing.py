"""What runs as one: the order of requests, which fused segments fit them, and captions that are the same."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.errors import InputFileError
from mue_edge.export.build import export
from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.driver import drive, stepwise
from mue_edge.loop.policy import ExitPolicy, ForcedExits, Policy, StackExit
from mue_edge.loop.protocol import Answer, Outcome, Request, Store
from mue_edge.loop.search import BeamSearch
from mue_edge.targets.fusing import Fuser, preparations_first
from mue_edge.targets.host import HostRuntime

WHOLE = "embed+decoder.0-2+head"
# A test at every boundary that nothing passes, and one that all scores of a random model do.
TESTED = Policy("mue", {s: StackExit(1 - 1e-9) for s in ("image", "decoder")}, beta=1.0, name="tested")
FIRST = Policy("mue", {s: StackExit(-1.0) for s in ("image", "decoder")}, beta=1.0, name="first")
MIXED = ForcedExits({"image": 2, "text": 3}, (1, 3, 2, 3, 3, 1, 3))
POLICIES: list[ExitPolicy] = [Policy("never"), TESTED, FIRST, MIXED]


def request(run: str, reads: str, writes: str, **fields: object) -> Request:
    return replace(Request(run, {"x": reads}, {"y": writes}), **fields)


def test_preparations_come_first_where_that_changes_nothing() -> None:
    queue = [
        request("embed", "last_ids", "decoder.0"),
        request("cross_kv.0", "image.0", "cross_k.0"),
        request("decoder.0", "decoder.0", "decoder.1"),
        request("fill.1", "exit_states", "fill_rows.1"),
        request("cross_kv.1", "image.0", "cross_k.1"),
        request("head", "decoder.1", "top_ids"),
    ]
    assert [queue[i].run for i in preparations_first(queue)] == [
        *("cross_kv.0", "fill.1", "cross_kv.1"),
        *("embed", "decoder.0", "head"),
    ]


def test_a_preparation_stays_behind_what_it_reads() -> None:
    stored = (Store("decoder.0", "exit_states", (0,)),)
    queue = [
        request("image.5", "image.1", "image.0"),
        request("cross_kv.0", "image.0", "cross_k.0"),
        request("head", "decoder.0", "top_ids", store=stored),
        request("fill.1", "exit_states", "fill_rows.1"),
    ]
    assert preparations_first(queue) == [0, 1, 2, 3]


def caption(runtime: HostRuntime, policy: ExitPolicy, seed: int, beam: int = 1) -> tuple[Outcome, list[str]]:
    """The outcome, and what ran as the runtime tells it."""
    manifest = runtime.bundle.manifest
    p, ran = manifest.preprocess, list[str]()
    runtime.set_pixels(np.random.default_rng(seed).normal(size=(1, 3, p.height, p.width)).astype(np.float32))

    def note(request: Request, answer: Answer) -> None:
        ran.extend([request.run] if answer.ran is None else [name for name, _ in answer.ran])

    return drive(caption_loop(manifest.layout, policy, BeamSearch(manifest.search)), runtime, note), ran


@pytest.fixture(scope="module")
def bundles(tiny_bundle: Path, tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    root = tmp_path_factory.mktemp("fused")
    beams = export(tiny_model_folder, root / "beams", options={"beam": 3})
    int8 = export(tiny_model_folder, root / "int8", options={"precision": "int8"})
    return {"greedy": open_bundle(tiny_bundle), "beams": beams.bundle, "int8": int8.bundle}


@pytest.mark.parametrize("name", ["greedy", "beams", "int8"])
def test_fused_captions_are_those_of_single_segments(bundles: dict[str, Bundle], name: str) -> None:
    runtime = HostRuntime(bundles[name], 1)
    for policy in POLICIES * 2:  # in turns: what one leaves in the buffers must not matter to another
        for seed in range(3):
            fused, ran = caption(runtime, policy, seed)
            with stepwise(runtime):
                single, all_ran = caption(runtime, policy, seed)
            assert fused == single
            assert len(ran) < len(all_ran) and set(all_ran) <= set(bundles[name].manifest.segments)


def test_what_runs_as_one(bundles: dict[str, Bundle]) -> None:
    runtime = HostRuntime(bundles["greedy"], 1)
    full, ran = caption(runtime, Policy("never"), 0)
    assert ran == ["stem", "image.0-2", "cross_kv.0-2", *[WHOLE] * len(full.steps)]
    tested, ran = caption(runtime, TESTED, 0)
    assert tested.hypotheses == full.hypotheses
    step = ["embed+decoder.0", "decoder.1", "decoder.2+head"]
    assert ran[-6:] == step * 2
    # The first step makes each layer's keys and values before its layer.
    assert ran[4:10] == ["cross_kv.0", "embed+decoder.0", "cross_kv.1", "decoder.1", "cross_kv.2", "decoder.2+head"]
    first, ran = caption(runtime, FIRST, 0)
    assert set(first.exits["decoder"]) == {1}
    assert set(ran) == {"stem", "image.0", "cross_kv.0", "embed+decoder.0", "head"}


def test_a_caption_that_was_abandoned_leaves_nothing(bundles: dict[str, Bundle]) -> None:
    runtime = HostRuntime(bundles["greedy"], 1)
    expected, _ = caption(runtime, Policy("never"), 1)
    manifest = bundles["greedy"].manifest
    loop = caption_loop(manifest.layout, Policy("never"), BeamSearch(manifest.search))
    waiting = next(loop)
    for _ in range(3):
        waiting = loop.send(runtime.execute(waiting))
    assert caption(runtime, Policy("never"), 1)[0] == expected


def test_a_fused_segment_without_the_scores_that_are_read_is_not_taken(bundles: dict[str, Bundle]) -> None:
    fused = bundles["greedy"].manifest.fused
    embed = Request("embed", {"ids": "last_ids"}, {"x": "decoder.0"})
    ports = [*bundles["greedy"].manifest.segments["decoder.0"].inputs]
    first = Request("decoder.0", {p: p if p != "x" else "decoder.0" for p in ports}, {"y": "decoder.1", "score": "s"})
    quiet, read = [embed, first], [embed, replace(first, read=("score",))]
    name, without = "embed+decoder.0", dict(fused)
    outputs = {k: v for k, v in fused[name].graph.outputs.items() if not k.endswith((":score", ":gap"))}
    without[name] = replace(fused[name], graph=replace(fused[name].graph, outputs=outputs))
    assert [run.name for run, _ in Fuser(fused).runs(read)] == [name]
    assert [run.name for run, _ in Fuser(without).runs(quiet)] == [name]
    assert [run.name for run, _ in Fuser(without).runs(read)] == ["embed", "decoder.0"]


def test_other_wiring_is_not_taken(bundles: dict[str, Bundle]) -> None:
    fused = bundles["greedy"].manifest.fused
    last = bundles["greedy"].manifest.segments["decoder.2"]
    layer = Request("decoder.2", {p: p for p in last.inputs}, {p: f"out.{p}" for p in last.outputs})
    head = Request("head", {"y": "out.y"}, {p: p for p in bundles["greedy"].manifest.segments["head"].outputs})
    assert [run.name for run, _ in Fuser(fused).runs([layer, head])] == ["decoder.2+head"]
    elsewhere = replace(head, inputs={"y": "decoder_mixed"})
    assert [run.name for run, _ in Fuser(fused).runs([layer, elsewhere])] == ["decoder.2", "head"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"members": ["embed", "no-such"]}, "is not one of several segments"),
        ({"members": ["embed"]}, "is not one of several segments"),
        ({"graph": {"file": "segments/other.onnx"}}, "does not list"),
    ],
)
def test_fused_segments_of_something_else_are_refused(
    tiny_bundle: Path, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(tiny_bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    graph = change.pop("graph", {})
    manifest["fused"][WHOLE] |= change
    manifest["fused"][WHOLE]["graph"] |= graph
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputFileError, match=words):
        open_bundle(folder)


def test_a_bundle_without_fused_segments_runs_each_at_once(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    before = Bundle(bundle.path, replace(bundle.manifest, fused={}))
    runtime, fusing = HostRuntime(before, 1), HostRuntime(bundle, 1)
    outcome, ran = caption(runtime, TESTED, 0)
    assert outcome == caption(fusing, TESTED, 0)[0]
    assert set(ran) <= set(bundle.manifest.segments)

"""Lossless captions: what full depth says, whatever drafts them, and less work for it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from mue_edge import targets
from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.errors import UsageError
from mue_edge.loop.driver import Runtime, drive
from mue_edge.loop.lossless import lossless_loop
from mue_edge.loop.policy import ExitPolicy, ForcedExits, Policy, StackExit
from mue_edge.loop.protocol import Outcome
from mue_edge.loop.replay import quantile_policy, run
from mue_edge.loop.search import BeamSearch, SearchSettings
from mue_edge.loop.signals import patience
from tests.loop.test_loop import Scripted, layout

FULL = Policy("never", name="full")


@pytest.fixture(scope="module")
def bundle(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """`tiny_model_folder`, able to verify three drafts at once; captions of at least nine words."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from mue_edge.export.build import export

    out = tmp_path_factory.mktemp("bundles") / "lossless"
    export(tiny_model_folder, out, "host", {"verify_rows": 3, "min_length": 9})
    return open_bundle(out)


def lossless(bundle: Bundle, runtime: Runtime, policy: ExitPolicy) -> tuple[Outcome, list[str]]:
    runs: list[str] = []
    loop = lossless_loop(bundle.manifest.layout, policy, BeamSearch(bundle.manifest.search))
    return drive(loop, runtime, lambda request, answer: runs.append(request.run)), runs


def test_words_are_full_depths(bundle: Bundle) -> None:
    from mue_edge import targets
    from mue_edge.export import golden
    from mue_edge.targets.golden import pixels

    p, settings = bundle.manifest.preprocess, bundle.manifest.search
    at, runtime = bundle.manifest.layout, targets.open_runtime(bundle, 1)
    pictures = [pixels(x, p) for x in golden.pictures(p.height, p.width, 8)]
    wanted, tests = [], []
    for picture in pictures:
        runtime.set_pixels(picture)
        full = run(at, settings, FULL, runtime, trace=True)
        wanted.append(full)
        tests += [("decoder", max(d.distances)) for d in full.decisions if d.stack == "decoder" and d.depth < 3]
    policies: list[ExitPolicy] = [
        Policy("fixed", {"decoder": StackExit(depth=1), "image": StackExit(depth=1)}),
        Policy("fixed", {"decoder": StackExit(depth=2)}),
        quantile_policy(tests, 0.5, "half"),
        Policy("pabee", {"decoder": StackExit(patience(1))}),
        Policy("calm-softmax", {"decoder": StackExit(0.05)}, beta=1.0),
        Policy("uniform-skip", {"decoder": StackExit(depth=1)}),
        ForcedExits({"image": 3, "text": 3}, (1, 1, 1, 2, 3, 1, 2, 2, 2, 1, 3)),
    ]
    kinds: Counter[str] = Counter()
    rejected = kept = 0
    for policy in policies:
        for picture, full in zip(pictures, wanted, strict=True):
            runtime.set_pixels(picture)
            outcome, runs = lossless(bundle, runtime, policy)
            mine, theirs = outcome.hypotheses[0], full.hypotheses[0]
            assert mine.tokens == theirs.tokens, policy
            assert mine.positional_scores == pytest.approx(theirs.positional_scores, abs=1e-4)
            assert outcome.depths == full.depths and len(outcome.steps) == len(full.steps)
            drafted, rounds = runs.count("embed"), runs.count("verify_head")
            rejected += drafted - len(full.steps)
            kept += rounds < len(full.steps)
            kinds.update(run for run in runs if run.startswith("verify"))
    assert rejected and kept, "drafts were never rejected, or never kept"
    # Drafts that left after the same segment are verified from the next one on.
    assert kinds["verify_head"] == kinds["verify.2"] > kinds["verify.1"] > kinds["verify.0"]
    assert kinds["verify.0"] == kinds["verify_embed"] > 0
    runtime.close()


def test_drafts_of_a_decoder_with_positions_in_its_input(tiny_model_folder: Path, tmp_path: Path) -> None:
    """One pass checks drafts of several steps: each is told its own."""
    pytest.importorskip("onnx")
    from mue_edge.export.build import export

    model = Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))
    config = json.loads((model / "config.json").read_text())
    config |= {"entangle_position_embedding": True, "disable_entangle": False}
    (model / "config.json").write_text(json.dumps(config))
    export(model, tmp_path / "bundle", "host", {"verify_rows": 3, "min_length": 9})
    with targets.open(tmp_path / "bundle", threads=1) as captioner:
        for picture in (b"\0", b"\x80"):
            shown = Image.frombytes("L", (16, 16), picture * 256)
            full = captioner.caption(shown, policy=FULL)
            for depth in (1, 2):
                policy = Policy("fixed", {"decoder": StackExit(depth=depth)})
                found = captioner.caption(shown, policy=policy, lossless=True)
                assert found.tokens == full.tokens
                assert found.score == pytest.approx(full.score, abs=1e-4)


def test_weights_are_there_once(bundle: Bundle, tiny_bundle: Path) -> None:
    weights = [place / "segments" / "weights.bin" for place in (bundle.path, tiny_bundle)]
    assert weights[0].stat().st_size == weights[1].stat().st_size


def test_what_cannot_be_lossless_says_so(bundle: Bundle) -> None:
    greedy, policy = BeamSearch(SearchSettings()), Policy("fixed", {"decoder": StackExit(depth=1)})
    with pytest.raises(UsageError, match="greedy"):
        drive(lossless_loop(layout(3), policy, BeamSearch(SearchSettings(beam=3))), Scripted())
    with pytest.raises(UsageError, match="export it again with --lossless"):
        drive(lossless_loop(layout(), policy, greedy), Scripted())
    at = bundle.manifest.layout
    for idle in (FULL, Policy("mue", {"image": StackExit(0.5)})):
        with pytest.raises(UsageError, match="nothing to draft with"):
            drive(lossless_loop(at, idle, greedy), Scripted())

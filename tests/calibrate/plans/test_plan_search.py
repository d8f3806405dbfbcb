"""The search of plans: its logic with a judge of formulas, and two real trials on the tiny model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.plans.plan_search import PlanSearch, search_plans, worth
from mue_edge.calibrate.plans.plan_space import CUTS, PlanChoice, Space
from mue_edge.calibrate.plans.plan_trial import Bench, MeasuredPlan, PlanPoint, Reference, policy_within
from mue_edge.calibrate.policies.evaluator import PolicyEvaluator
from mue_edge.calibrate.traces.tracing import Sample
from mue_edge.durations import Span
from mue_edge.errors import InputFileError, UsageError
from mue_edge.loop.policy import Policy, StackExit
from tests.apps.cli.run import picture

SIZES = tuple((16 * n, 16 * n) for n in range(2, 8))
SMALL = Space(((80, 80), (96, 96)), ("fp32", "int8"), ("per-layer", "pairs", "planned"), (96, 96))
LARGE = Space(SIZES, ("fp32", "int8"), CUTS, (96, 96))


@contextmanager
def silent(label: str, length: int) -> Iterator[Callable[[], None]]:
    yield lambda: None


def point(seconds: float, quality: float, name: str = "p") -> PlanPoint:
    return PlanPoint(Policy("mue", name=name).to_json(), seconds, 2 * seconds, quality)


class Formula:
    """Time grows with pixels and segments, quality with pixels; at 112 there are no positions."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.fail_at, self.measured, self.planned_for = fail_at, list[dict[str, Any]](), list[Policy]()
        self.references: list[Reference | None] = []
        self.depths: Mapping[str, int] = {"image": 3, "decoder": 4}
        self.identity: Mapping[str, Any] = {}

    def measure(self, options: Mapping[str, Any], folder: Path, reference: Reference | None) -> MeasuredPlan:
        if len(self.measured) == self.fail_at:
            raise KeyboardInterrupt
        self.measured.append(dict(options))
        self.references.append(reference)
        if options["height"] > 100:
            return MeasuredPlan(problem="no positions")
        time = options["height"] / 96 * (0.5 if options["precision"] == "int8" else 1.0)
        time += 0.01 * sum(map(len, options["ends"].values()))
        quality = min(4.0, options["height"] / 24)
        fast, full = point(time / 2, 0.98 * quality, "fast"), point(time, quality, "full")
        return MeasuredPlan((point(time / 4, 0.5 * quality, "least"), fast, full), (f"as {options['height']}",))

    def propose(self, fine: Path, coarse: Path, policy: Policy) -> Mapping[str, Sequence[int]]:
        assert fine != coarse
        self.planned_for.append(policy)
        return {"image": (3,), "decoder": (1, 4)}


@pytest.fixture
def tune(tmp_path: Path) -> Samples:
    pictures = [Sample(f"p{i}", picture(tmp_path / f"p{i}.png", i)) for i in range(6)]
    names = tuple(sample.id for sample in pictures)
    return Samples("made", tuple(pictures), names, None)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def search(judge: Any, workdir: Path, space: Space, trials: int, budget: Span | None = None) -> PlanSearch:
    return search_plans(judge, space, budget, workdir, silent, trials, seed=1)


def test_a_small_space_is_tried_whole_and_its_fronts_are_joined(tmp_path: Path) -> None:
    judge = Formula()
    found = search(judge, tmp_path / "w", SMALL, 12)
    assert [t.choice for t in found.trials] == SMALL.choices
    assert [t.number for t in found.trials] == list(range(12))
    # Each plan was measured once, although planned boundaries need two others.
    assert len(judge.measured) == 12 and len({str(options) for options in judge.measured}) == 12
    planned = next(t for t in found.trials if t.choice == PlanChoice((96, 96), "fp32", "planned"))
    assert planned.options["ends"] == {"image": [3], "decoder": [1, 4]}
    # Without a budget, for the fastest policy that keeps 97 % of quality.
    assert {policy.name for policy in judge.planned_for} == {"fast"}
    assert judge.references[0] is None
    assert set(judge.references[1:]) == {Reference(found.trials[0].folder, ("as 96",))}
    every = [p for t in found.trials for p in t.measured.points]
    for one in found.front:
        assert not any(p.seconds <= one.point.seconds and p.quality > one.point.quality for p in every)
    assert [f.point.seconds for f in found.front] == sorted(f.point.seconds for f in found.front)
    assert found.front[-1].trial.choice == PlanChoice((96, 96), "int8", "planned")
    assert found.best == found.front[-1]


def test_a_budget_chooses_the_plan_and_what_is_planned_for(tmp_path: Path) -> None:
    judge = Formula()
    found = search(judge, tmp_path / "w", SMALL, 12, Span(share=0.3))
    # Of the tail of full depth at the model's own size with a segment a layer: 2 · (1 + 7 / 100).
    assert found.budget == pytest.approx(0.3 * 2.14)
    assert {policy.name for policy in judge.planned_for} == {"least", "fast"}
    assert found.best is not None and found.best.trial.choice == PlanChoice((96, 96), "int8", "planned")
    assert found.best.point.policy["name"] == "fast" and found.best.point.tail <= found.budget
    none = search(Formula(), tmp_path / "w", SMALL, 12, Span(seconds=0.01))
    assert none.best is None and none.front


def test_a_plan_that_cannot_be_had_is_a_trial_with_its_problem(tmp_path: Path, model: Path, tune: Samples) -> None:
    space = replace(SMALL, sizes=((96, 96), (112, 112)), cuts=("per-layer", "planned"))
    found = search(Formula(), tmp_path / "w", space, 8)
    problems = {t.choice.size for t in found.trials if t.measured.problem}
    assert problems == {(112, 112)} and len(found.trials) == 8
    assert {f.trial.choice.size for f in found.front} == {(96, 96)}
    alone = Space(((112, 112),), ("fp32",), ("per-layer",))
    with pytest.raises(UsageError, match="no positions"):
        search(Formula(), tmp_path / "other", alone, 8)


@pytest.mark.parametrize("killed", [0, 3, 9])
def test_a_large_search_that_was_killed_ends_as_an_undisturbed_one(
    tmp_path: Path, model: Path, tune: Samples, killed: int
) -> None:
    pytest.importorskip("optuna")
    whole = search(Formula(), tmp_path / "w", LARGE, 14)
    assert len(whole.trials) == 14 < len(LARGE.choices)
    with pytest.raises(KeyboardInterrupt):
        search(Formula(killed), tmp_path / "k", LARGE, 14)
    again = search(Formula(), tmp_path / "k", LARGE, 14)
    assert [(t.choice, t.measured) for t in again.trials] == [(t.choice, t.measured) for t in whole.trials]
    assert [f.point for f in again.front] == [f.point for f in whole.front]


def test_a_folder_of_another_search_is_refused(tmp_path: Path, model: Path, tune: Samples) -> None:
    def tried(subset: int, workdir: Path = tmp_path / "w", trials: int = 1) -> None:
        judge = Formula()
        judge.identity = Bench(model, "host", tune.at_most(subset), None, silent).identity
        search(judge, workdir, SMALL, trials)

    tried(4)
    with pytest.raises(UsageError, match="another pictures"):
        tried(3)
    (model / "model.safetensors").write_bytes(b"others")
    with pytest.raises(UsageError, match="another model"):
        tried(4)
    with pytest.raises(UsageError, match="holds no search"):
        tried(4, model)
    with pytest.raises(UsageError, match="needs a trial"):
        tried(4, trials=0)


def test_what_a_plan_is_worth() -> None:
    found = MeasuredPlan((point(1.0, 2.0), point(2.0, 3.0), point(4.0, 3.5)))
    # Nothing until 1 s, 2 until 2 s, 3 until 4 s, 3.5 until 5 s.
    assert worth(found, None, 5.0) == pytest.approx((2 + 3 * 2 + 3.5) / 5)
    assert worth(found, None, 1.5) == pytest.approx(2 * 0.5 / 1.5)
    assert worth(found, 4.0, 5.0) == 3.0
    assert -1 < worth(found, 1.5, 5.0) < 0
    assert worth(found, 0.01, 5.0) == worth(MeasuredPlan(problem="none"), 4.0, 5.0) == -1


def test_which_policy_boundaries_are_planned_for() -> None:
    found = MeasuredPlan((point(1.0, 2.0, "a"), point(2.0, 2.9, "b"), point(4.0, 3.0, "full")))
    assert policy_within(found, None, 0.9).name == "b"
    assert policy_within(found, 2.5, 0.9).name == "a"
    assert policy_within(found, 0.5, 0.9).name == "a"
    assert policy_within(found, 9.0, 0.9).name == "full"


def test_two_real_trials_go_on_behind_a_kill(
    tmp_path: Path, tiny_model_folder: Path, tune: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the second profile; given the profiles, it ends as an undisturbed search."""
    pytest.importorskip("onnxruntime")
    from mue_edge.export import build

    space = Space(((32, 32),), ("fp32",), ("per-layer", "pairs"))
    bench = Bench(tiny_model_folder, "host", tune.at_most(3), None, silent, "cpu", captions=24)

    def go(workdir: Path) -> PlanSearch:
        return search(bench, workdir, space, 2)

    whole = go(tmp_path / "w")
    assert whole.reference.full.quality == 1.0  # it is what consistency is counted against
    for trial in whole.trials:
        manifest = json.loads((trial.folder / "bundle/manifest.json").read_text())
        assert manifest["preprocess"]["height"] == 32
        assert len(manifest["layout"]["stacks"][-1]["stages"]) == (3 if trial.choice.cut == "per-layer" else 2)
        times = [p.seconds for p in trial.measured.points]
        assert times and times == sorted(times)

    resumed = tmp_path / "k"
    for trial in whole.trials:
        (resumed / trial.folder.name).mkdir(parents=True)
        shutil.copy(trial.folder / "profile.json", resumed / trial.folder.name)
    shutil.copytree(whole.trials[0].folder / "bundle", resumed / whole.trials[0].folder.name / "bundle")
    shutil.copy(tmp_path / "w/search.json", resumed)
    calls: list[int] = []
    real = PolicyEvaluator.evaluate

    def killed(*args: Any, **more: Any) -> Any:
        calls.append(0)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **more)

    monkeypatch.setattr(PolicyEvaluator, "evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        go(resumed)
    monkeypatch.setattr(build, "export", None)  # whatever was exported is not exported again
    again = go(resumed)
    assert [t.measured for t in again.trials] == [t.measured for t in whole.trials]
    assert len(calls) == 3

    # Weights that change in the middle are not mixed.
    other = replace(bench, model=shutil.copytree(tiny_model_folder, tmp_path / "other"))
    assert other.depths == {"image": 3, "text": 3, "decoder": 3}
    with (other.model / "model.safetensors").open("ab") as file:
        file.write(b" ")
    (fine_result := whole.trials[0].folder / "result.json").rename(tmp_path / "result.json")
    with pytest.raises(InputFileError, match="changed during the search"):
        other.measure(whole.trials[0].options, fine_result.parent, None)
    (tmp_path / "result.json").rename(fine_result)

    # And what they measured is enough to plan boundaries.
    fine, coarse = (trial.folder for trial in whole.trials)
    half = bench.propose(fine, coarse, Policy("fixed", {"image": StackExit(depth=2), "decoder": StackExit(depth=1)}))
    assert half.keys() == {"image", "decoder"} and all(ends[-1] == 3 for ends in half.values())
    assert set(half["image"]) <= {2, 3} and set(half["decoder"]) <= {1, 3}


def test_a_size_without_positions_is_found_out(tmp_path: Path, tiny_model_folder: Path, tune: Samples) -> None:
    pytest.importorskip("onnxruntime")
    space = Space(((112, 112),), ("fp32",), ("per-layer",))
    with pytest.raises(UsageError, match="positions for 6 a side"):
        search(Bench(tiny_model_folder, "host", tune, None, silent), tmp_path / "w", space, 1)

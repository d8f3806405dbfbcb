"""One plan, judged: export it (which verifies it), profile it, run the candidate policies on pictures.

A plan's folder holds its bundle, `profile.json`, traces and, in the end, `result.json`; each appears whole
or not at all, so that whatever kills the process, the next one goes on behind what is there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mue_edge import models, schema, targets
from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.bundle.manifest import MANIFEST
from mue_edge.bundle.policy_files import from_json as policy_from_json
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.metrics.cider import Frequencies
from mue_edge.calibrate.plans import planning
from mue_edge.calibrate.plans.times import level
from mue_edge.calibrate.policies import candidates, predicted_times
from mue_edge.calibrate.policies.calibration import front_to_full
from mue_edge.calibrate.policies.evaluator import PolicyEvaluator
from mue_edge.calibrate.traces.tracing import Progress, traced_runs
from mue_edge.errors import InputFileError, UsageError
from mue_edge.files import atomic_write, sha256
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import DECODER
from mue_edge.measuring import measure, profile
from mue_edge.measuring.profile import Profile
from mue_edge.sessions.captioner import Captioner

BUNDLE, PROFILE, TRACES, RESULT = "bundle", "profile.json", "traces", "result.json"
# Of the captions, that keep a budget.
SHARE = 0.95
PROFILES = 3  # at most, while the machine is restless
THREADS = 1


@dataclass(frozen=True)
class PlanPoint:
    """A policy under a plan: mean seconds of a caption, seconds that SHARE of them keep, mean quality."""

    policy: Mapping[str, Any]
    seconds: float
    tail: float
    quality: float


@dataclass(frozen=True)
class MeasuredPlan:
    """A plan's Pareto front from its fastest policy to full depth, and the captions of that; `error` of its
    profile. `problem`: why the model or the target cannot have this plan; the rest is empty then."""

    points: tuple[PlanPoint, ...] = ()
    captions: tuple[str, ...] = ()
    error: float = 0.0
    problem: str = ""

    @property
    def full(self) -> PlanPoint:
        return self.points[-1]


@dataclass(frozen=True)
class Reference:
    """The plan that others are compared with: its folder, and full depth's captions."""

    folder: Path
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Bench:
    """Judges plans by export and measurement on this machine. `captions` are timed for a profile."""

    model: Path
    target: str
    tune: Samples
    frequencies: Frequencies | None
    progress: Progress
    clock: str = profile.WALL
    captions: int = 120
    workers: int = 1

    @cached_property
    def depths(self) -> Mapping[str, int]:
        """Stack → layers."""
        network = models.load(self.model)
        shapes = models.family_of(network).stacks(network)
        return {stack: shape.layers for stack, shape in shapes.items()}

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """What results depend on beside the plan."""
        return {
            "model": sha256(self.model / "model.safetensors"),
            "target": self.target,
            "pictures": self.tune.fingerprint(),
            "frequencies": self.frequencies.fingerprint() if self.frequencies else "",
            "clock": self.clock,
        }

    def measure(self, options: Mapping[str, Any], folder: Path, reference: Reference | None) -> MeasuredPlan:
        """A plan in its folder, unless its result is there already. `reference`: the plan by whose profile
        times are levelled, and by whose captions consistency is counted where people wrote none; None: this
        plan itself."""
        result = folder / RESULT
        if not result.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            weights = self.identity["model"]
            try:
                bundle = self._bundle(options, folder)
            except UsageError as problem:
                measured = MeasuredPlan(problem=str(problem))
            else:
                if bundle.manifest.model.get("sha256") != weights:
                    raise InputFileError(f"{self.model} changed during the search; remove {folder.parent}")
                measured = self._judged(bundle, folder, reference)
            atomic_write(result, json.dumps(schema.encode(measured), indent=1) + "\n")
        return schema.decode(MeasuredPlan, json.loads(result.read_text(encoding="utf-8")), str(result))

    def propose(self, fine: Path, coarse: Path, policy: Policy) -> Mapping[str, Sequence[int]]:
        """The ends that suit the policy, from the folders of two measured plans that only differ in cuts."""
        bundle, coarse_bundle = (open_bundle(folder / BUNDLE) for folder in (fine, coarse))
        own, coarse_times = (profile.read(folder / PROFILE) for folder in (fine, coarse))
        costs = planning.boundary_costs(bundle.manifest, own, coarse_bundle.manifest, coarse_times)
        runs = traced_runs(bundle.path, fine / TRACES, [policy], self.tune.samples, workers=self.workers)
        captions = [of_sample.runs[0].segments for of_sample in runs]
        return planning.plan(bundle.manifest.layout, own, captions, costs)

    def _bundle(self, options: Mapping[str, Any], folder: Path) -> Bundle:
        out = folder / BUNDLE
        if (out / MANIFEST).is_file():
            return open_bundle(out)
        from mue_edge.export import build

        with self.progress(f"exporting {folder.name}", 1) as step:
            exported = build.export(self.model, out, self.target, dict(options))
            step()
        return exported.bundle

    def _judged(self, bundle: Bundle, folder: Path, reference: Reference | None) -> MeasuredPlan:
        with targets.open(bundle.path, threads=THREADS) as captioner:
            times = self._profile(captioner, folder / PROFILE, reference)
            evaluator = PolicyEvaluator(
                captioner, times, folder / TRACES, self.frequencies, self.progress, self.workers, self.clock
            )
            policies = candidates.enumerated(captioner, evaluator.decisions(self.tune))
            outcomes = evaluator.evaluate(
                [policy for policy in policies if _ranks(policy)],
                self.tune,
                "policies",
                reference.captions if reference else (),
            )
        noise, points = predicted_times.expected_noise(times), []
        for o in front_to_full(outcomes):
            tail = predicted_times.quantile_seconds(o.seconds, times, SHARE)
            points.append(PlanPoint(o.policy.to_json(), o.mean_seconds * noise, tail, o.quality))
        return MeasuredPlan(tuple(points), outcomes[0].captions, times.error or 0.0)

    def _profile(self, captioner: Captioner, path: Path, reference: Reference | None) -> Profile:
        """The quietest of some, levelled with the reference's and written; one that is there already."""
        if not path.is_file():
            pictures = [sample.picture for sample in self.tune.samples]
            inputs, profiles = measure.network_inputs(captioner, pictures), list[Profile]()
            while len(profiles) < PROFILES and all((p.error or 0.0) > profile.RESTLESS for p in profiles):
                with self.progress("profile", self.captions * 3 // 2) as step:
                    p, _ = measure.measure(captioner, inputs, self.captions, clock=self.clock, step=step)
                profiles.append(p)
            best = min(profiles, key=lambda p: p.error or 0.0)
            if reference is not None:
                reference_times = profile.read(reference.folder / PROFILE)
                with targets.open(reference.folder / BUNDLE, threads=THREADS) as other:
                    best = level(captioner, best, other, reference_times, pictures)
            profile.write(path, best)
        existing = profile.read(path)
        existing.check_fits(captioner.bundle, THREADS)
        return existing


def _ranks(policy: Policy) -> bool:
    """Whether a candidate is run here: fixed depths, and the decoder's one threshold after encoders of fixed
    depth. They rank plans; the finer candidates are for the plan that wins, and most of the cost."""
    scored = any(own.thetas is not None if stack == DECODER else own.tests for stack, own in policy.exits.items())
    return policy.rule in ("never", "fixed") or not (scored or policy.beta < 1)


def policy_within(measured: MeasuredPlan, budget: float | None, kept: float) -> Policy:
    """The policy that boundaries are planned for: of those within the budget (seconds that SHARE of the
    captions keep) the best, without a budget the fastest that keeps this share of full depth's quality;
    the fastest of all where there is none."""
    if budget is None:
        fitting = [p for p in measured.points if p.quality >= kept * measured.full.quality][:1]
    else:
        fitting = [p for p in measured.points if p.tail <= budget]
    best = max(fitting or measured.points[:1], key=lambda p: (p.quality, -p.seconds))
    return policy_from_json(dict(best.policy))

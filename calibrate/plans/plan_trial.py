"""One plan, judged: export it (which verifies it), profile it, run the candidate policies on pictures.

A plan's folder holds its bundle, `profile.json`, traces and, in the end, `result.json`; each appears whole
or not at all, so that whatever kills the process, the next one goes on behind what is there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from mue_edge import schema, targets
from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.bundle.manifest import MANIFEST
from mue_edge.bundle.policy_files import from_json as policy_from_json
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.metrics.cider import Frequencies
from mue_edge.calibrate.plans import planning, yardstick
from mue_edge.calibrate.policies import candidates, predicted_times
from mue_edge.calibrate.policies.calibration import front_to_full
from mue_edge.calibrate.policies.evaluator import PolicyEvaluator
from mue_edge.calibrate.traces.live import Progress
from mue_edge.calibrate.traces.tracing import traced_runs
from mue_edge.errors import InputFileError, UsageError
from mue_edge.files import atomic_write, sha256
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import DECODER
from mue_edge.measuring import profile, profiling
from mue_edge.measuring.profile import Profile
from mue_edge.sessions.captioner import Captioner

BUNDLE, PROFILE, TRACES, RESULT = "bundle", "profile.json", "traces", "result.json"
# Of the captions, that keep a budget.
SHARE = 0.95
PROFILES = 3  # at most, while the machine is restless


@dataclass(frozen=True)
class PlanPoint:
    """A policy under a plan: mean seconds of a caption, seconds that SHARE of them keep, mean quality."""

    policy: Mapping[str, Any]
    seconds: float
    tail: float
    quality: float


@dataclass(frozen=True)
class MeasuredPlan:
    """A plan's front from its fastest policy to full depth, whose captions are kept; `error` of its profile.
    `problem`: why the model or the target cannot have this plan; the rest is empty then."""

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

    place: Path
    captions: tuple[str, ...]


class Judge(Protocol):
    """What a search needs to know of plans."""

    def depths(self) -> Mapping[str, int]:
        """Stack → layers."""
        ...

    def measure(self, options: Mapping[str, Any], place: Path, reference: Reference | None) -> MeasuredPlan:
        """A plan in its folder. `reference`: the plan by whose profile times are levelled, and by whose
        captions consistency is counted where people wrote none; None: this plan itself."""
        ...

    def propose(self, fine: Path, coarse: Path, policy: Policy) -> Mapping[str, Sequence[int]]:
        """The ends that suit the policy, from the folders of two measured plans that only differ in cuts."""
        ...


@dataclass(frozen=True)
class Bench:
    """Judges by export and measurement on this machine. `captions` are timed for a profile."""

    model: Path
    target: str
    tune: Samples
    known: Frequencies | None
    progress: Progress
    clock: str = profile.WALL
    captions: int = 120
    workers: int = 1
    threads: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def _depths(self) -> dict[str, int]:
        from mue_edge import models

        network = models.load(self.model)
        shapes = models.family_of(network).stacks(network)
        return {stack: shape.layers for stack, shape in shapes.items()}

    @cached_property
    def _weights(self) -> str:
        return sha256(self.model / "model.safetensors")

    def depths(self) -> Mapping[str, int]:
        return self._depths

    def measure(self, options: Mapping[str, Any], place: Path, reference: Reference | None) -> MeasuredPlan:
        kept = place / RESULT
        if not kept.is_file():
            place.mkdir(parents=True, exist_ok=True)
            weights = self._weights
            try:
                bundle = self._bundle(options, place)
            except UsageError as problem:
                found = MeasuredPlan(problem=str(problem))
            else:
                if bundle.manifest.model.get("sha256") != weights:
                    raise InputFileError(f"{self.model} changed during the search; remove {place.parent}")
                found = self._judged(bundle, place, reference)
            atomic_write(kept, json.dumps(schema.encode(found), indent=1) + "\n")
        return schema.decode(MeasuredPlan, json.loads(kept.read_text(encoding="utf-8")), str(kept))

    def propose(self, fine: Path, coarse: Path, policy: Policy) -> Mapping[str, Sequence[int]]:
        one, other = (open_bundle(place / BUNDLE) for place in (fine, coarse))
        times, coarse_times = (profile.read(place / PROFILE) for place in (fine, coarse))
        costs = planning.boundary_costs(one.manifest, times, other.manifest, coarse_times)
        runs = traced_runs(one.path, fine / TRACES, [policy], self.tune.samples, workers=self.workers)
        captions = [found.runs[0].segments for found in runs]
        return planning.plan(one.manifest.layout, times, captions, costs).ends

    def _bundle(self, options: Mapping[str, Any], place: Path) -> Bundle:
        out = place / BUNDLE
        if (out / MANIFEST).is_file():
            return open_bundle(out)
        from mue_edge.export import build

        with self.progress(f"exporting {place.name}", 1) as step:
            made = build.export(self.model, out, self.target, {**self.options, **options})
            step()
        return made.bundle

    def _judged(self, bundle: Bundle, place: Path, reference: Reference | None) -> MeasuredPlan:
        with targets.open(bundle.path, threads=self.threads) as captioner:
            times = self._profile(captioner, place / PROFILE, reference)
            evaluator = PolicyEvaluator(
                captioner, times, place / TRACES, self.known, self.progress, self.workers, self.clock
            )
            policies = candidates.enumerated(captioner, evaluator.decisions(self.tune))
            outcomes = evaluator.evaluate(
                [policy for policy in policies if _ranks(policy)],
                self.tune,
                "policies",
                reference.captions if reference else (),
            )
        noise = predicted_times.expected_noise(times)
        points = tuple(
            PlanPoint(
                o.policy.to_json(), o.mean_seconds * noise,
                predicted_times.quantile_seconds(o.seconds, times, SHARE), o.quality,
            )
            for o in front_to_full(outcomes)
        )  # fmt: skip
        return MeasuredPlan(points, outcomes[0].captions, times.error or 0.0)

    def _profile(self, captioner: Captioner, kept: Path, reference: Reference | None) -> Profile:
        if not kept.is_file():
            pictures = [sample.picture for sample in self.tune.samples]
            shown = profiling.pictures(captioner, pictures)
            found = self._quietest(captioner, shown)
            if reference is not None:
                known = profile.read(reference.place / PROFILE)
                with targets.open(reference.place / BUNDLE, threads=self.threads) as other:
                    found = yardstick.level(captioner, found, other, known, pictures)
            profile.write(kept, found)
        found = profile.read(kept)
        found.check_fits(captioner.bundle, self.threads)
        return found

    def _quietest(self, captioner: Captioner, shown: profiling.NetworkInputs) -> Profile:
        """Of the profiles up to the first one that predicts well, the one that does so best."""
        made: list[Profile] = []
        while len(made) < PROFILES and all((p.error or 0.0) > profile.RESTLESS for p in made):
            with self.progress("profile", self.captions * 3 // 2) as step:
                found, _ = profiling.profiled(captioner, shown, self.captions, clock=self.clock, step=step)
            made.append(found)
        return min(made, key=lambda p: p.error or 0.0)


def _ranks(policy: Policy) -> bool:
    """Whether a candidate is run here: fixed depths, and the decoder's one threshold after encoders of fixed
    depth. They rank plans; the finer candidates are for the plan that wins, and most of the cost."""
    scored = any(
        own.thetas is not None if stack == DECODER else own.tests for stack, own in policy.exits.items()
    )
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

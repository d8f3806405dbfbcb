"""What policies are worth: each runs on pictures or statements, is scored, and its times are predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mue_edge.bundle.manifest import Manifest
from mue_edge.calibrate.certificate import losses
from mue_edge.calibrate.certificate.claim import Scope
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.metrics.cider import Frequencies, Scorer
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies.predicted_times import FusedSavings
from mue_edge.calibrate.traces.tracing import Progress, Sample, TracedRun, traced_decisions, traced_runs
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import DECODER, ExitDecision
from mue_edge.measuring import bench
from mue_edge.measuring.profile import Profile
from mue_edge.sessions.captioner import FULL
from mue_edge.sessions.session import Session

Result = TypeVar("Result")


@dataclass(frozen=True)
class PolicyOutcome:
    """A policy on samples: of each its run, caption (or answer), score and predicted seconds without noise.

    quality: mean over clusters of the mean score. quality_lower_bound: full depth's quality, less what the
    policy loses and one standard error of that; choices go by it, as of many candidates the best mean is
    often a lucky one.
    """

    policy: Policy
    runs: tuple[TracedRun, ...]
    captions: tuple[str, ...]
    scores: NDArray[np.float64]
    seconds: NDArray[np.float64]
    quality: float
    quality_lower_bound: float

    @property
    def mean_seconds(self) -> float:
        return float(self.seconds.mean())

    @property
    def layers(self) -> dict[str, float]:
        """Mean layers run: a picture by encoder stack, a token by the decoder."""
        depths = {stack: [run.depths[stack] for run in self.runs] for stack in self.runs[0].depths}
        depths[DECODER] = [depth for run in self.runs for depth in run.decoder]
        return {stack: sum(layers) / len(layers) for stack, layers in depths.items()}


@dataclass(frozen=True)
class PolicyEvaluator:
    """Evaluates policies of a session's bundle.

    folder: where the runtime's answers are kept. frequencies: of documents, where samples have captions.
    clock: of live times.
    """

    session: Session
    profile: Profile
    folder: Path
    frequencies: Frequencies | None
    progress: Progress
    workers: int = 1
    clock: str = "wall"

    @property
    def manifest(self) -> Manifest:
        return self.session.bundle.manifest

    def loss(self, samples: Samples) -> str:
        """CIDEr-D where people captioned the pictures, accuracy where statements have labels, else
        consistency with full depth."""
        if samples.references is None:
            return losses.CONSISTENCY
        if self.frequencies is not None:
            return losses.CIDER_D
        return losses.ACCURACY if self.manifest.answers else losses.CONSISTENCY

    def scope(self, samples: Samples) -> Scope:
        """What a claim on these samples is tied to."""
        m, answers = self.manifest, ", ".join(self.manifest.answers)
        decoding = f"one of {answers}" if answers else f"beam {m.search.beam}"
        frequencies = self.frequencies.fingerprint() if self.frequencies else ""
        fingerprint = samples.fingerprint()
        return Scope(samples.source, fingerprint, decoding, m.precision, m.plan_hash, frequencies)

    def evaluate(
        self, policies: Sequence[Policy], samples: Samples, label: str, reference: Sequence[str] = ()
    ) -> list[PolicyOutcome]:
        """Each policy's outcome, full depth's first. `reference`: the captions that consistency is counted
        against; empty: full depth's."""
        bundle = self.session.bundle.path
        traced = traced_runs(bundle, self.folder, policies, samples.samples, workers=self.workers)
        runs = list(zip(*(of_sample.runs for of_sample in self._collected(label, len(samples), traced))))
        text, clusters = self._text(), Clusters(samples.clusters)
        captions = [tuple(text(run.tokens) for run in of_policy) for of_policy in runs]
        score = self._score(samples, reference or captions[0])
        scores = [np.asarray(score(of_policy), dtype=np.float64) for of_policy in captions]
        extra = self.profile.preprocess_seconds or 0.0
        predicted = cache(lambda segments: self.profile.predict(segments) + extra)  # policies share runs
        savings, outcomes = FusedSavings(self.manifest, self.profile), []
        for i, policy in enumerate(policies):
            saved = [savings.seconds(policy, run.depths, run.decoder) for run in runs[i]]
            seconds = np.asarray([predicted(run.segments) for run in runs[i]]) - saved
            quality = float(clusters.means(scores[i]).mean())
            bound = quality_lower_bound(scores[i], scores[0], clusters)
            outcomes.append(PolicyOutcome(policy, runs[i], captions[i], scores[i], seconds, quality, bound))
        return outcomes

    def decisions(self, samples: Samples) -> list[tuple[ExitDecision, ...]]:
        """Full depth's decisions on every sample, every signal read at every boundary."""
        bundle = self.session.bundle.path
        traced = traced_decisions(bundle, self.folder, FULL, samples.samples, workers=self.workers)
        return self._collected("full depth", len(samples), traced)

    def live_seconds(self, policies: Sequence[Policy], samples: Sequence[Sample], label: str) -> NDArray[np.float64]:
        """Live seconds [policies, samples]."""
        runs = [(self.session, policy) for policy in policies]
        with self.progress(label, len(samples)) as step:
            return bench.policy_seconds(runs, samples, clock=self.clock, progress=step)

    def _collected(self, label: str, count: int, results: Iterable[Result]) -> list[Result]:
        collected = []
        with self.progress(label, count) as step:
            for result in results:
                collected.append(result)
                step()
        return collected

    def _text(self) -> Callable[[Sequence[int]], str]:
        """Ids to the text that is scored."""
        if self.manifest.answers:
            answers = dict(zip(self.manifest.search.answers, self.manifest.answers, strict=True))
            return lambda tokens: answers[tokens[0]]
        tokenizer = self.session.tokenizer
        return lambda tokens: tokenizer.caption(tokens).strip().lower()

    def _score(self, samples: Samples, full: Sequence[str]) -> Callable[[Sequence[str]], Sequence[float]]:
        """All samples' captions to a score each, from 0: CIDEr-D (to 10), else 1 where an answer is right."""
        if samples.references is not None and self.frequencies is not None:
            return Scorer(samples.references, self.frequencies)
        labels = samples.references if self.loss(samples) == losses.ACCURACY else None
        right = labels or [(caption,) for caption in full]
        return lambda answers: [float(a in accepted) for a, accepted in zip(answers, right, strict=True)]


def quality_lower_bound(scores: NDArray[np.float64], full: NDArray[np.float64], clusters: Clusters) -> float:
    """Full depth's quality, less what a policy with these scores loses (nothing, if it seems to gain) and one
    standard error of that."""
    lost = clusters.means(full - scores)
    error = float(lost.std(ddof=1)) / clusters.count**0.5 if clusters.count > 1 else 0.0
    return float(clusters.means(full).mean()) - max(0.0, float(lost.mean())) - error


def pareto_front(outcomes: Sequence[PolicyOutcome]) -> list[PolicyOutcome]:
    """Those whose quality's lower bound no faster one equals, from fastest to slowest."""
    front: list[PolicyOutcome] = []
    for one in sorted(outcomes, key=lambda o: (o.mean_seconds, -o.quality_lower_bound, o.policy.name)):
        if not front or one.quality_lower_bound > front[-1].quality_lower_bound:
            front.append(one)
    return front

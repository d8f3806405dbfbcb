"""What a calibration works on, and how its policies are run and scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mue_edge.calibrate.certificate import losses
from mue_edge.calibrate.certificate.claim import Conditions
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.metrics.cider import Frequencies, Scorer
from mue_edge.calibrate.policies.tuning import Score
from mue_edge.calibrate.traces.outcomes import SampleRuns, outcomes
from mue_edge.loop.policy import Policy
from mue_edge.measuring.profile import Profile
from mue_edge.sessions.session import Session

FULL = Policy("never", name="full")
# Label and number of steps → a context that gives what to call after each step.
Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


@dataclass(frozen=True)
class Setting:
    """A bundle with its profile, its pictures, and the folder of its traces. `known`: document frequencies,
    where the pictures have captions; `conditions`: where times come from; `clock`: of live times."""

    captioner: Session
    profile: Profile
    tune: Samples
    certify: Samples
    traces: Path
    known: Frequencies | None
    conditions: Conditions
    progress: Progress
    workers: int = 1
    clock: str = "wall"

    @property
    def loss(self) -> str:
        """CIDEr-D where people captioned the pictures, accuracy where statements have labels, else
        consistency with full depth."""
        if self.known is not None:
            return losses.CIDER_D
        judges = bool(self.captioner.bundle.manifest.answers)
        return losses.ACCURACY if judges and self.tune.references is not None else losses.CONSISTENCY

    @property
    def decoding(self) -> str:
        """How an answer is found, in words."""
        manifest = self.captioner.bundle.manifest
        return f"one of {', '.join(manifest.answers)}" if manifest.answers else f"beam {manifest.search.beam}"


@dataclass(frozen=True)
class Held:
    """A policy on *certify*: scores and captions by picture."""

    scores: NDArray[np.float64]
    captions: tuple[str, ...]


def runs_of(setting: Setting, policies: Sequence[Policy], part: Samples, label: str) -> list[SampleRuns]:
    """Every policy on every picture of a part, from the memo tree."""
    with setting.progress(label, len(part)) as step:
        return list(
            outcomes(
                setting.captioner.bundle.path, setting.traces, policies, part.samples,
                workers=setting.workers, progress=lambda _found: step(),
            )
        )  # fmt: skip


def speak(setting: Setting) -> Callable[[Sequence[int]], str]:
    """Ids to the text that is scored."""
    manifest = setting.captioner.bundle.manifest
    if manifest.answers:
        words = dict(zip(manifest.search.answers, manifest.answers, strict=True))
        return lambda tokens: words[tokens[0]]
    tokenizer = setting.captioner.tokenizer
    return lambda tokens: tokenizer.caption(tokens).strip().lower()


def score_of(setting: Setting, part: Samples, full: Sequence[str]) -> Score:
    """CIDEr-D of captions; 1 where an answer is the label (or, without one, what full depth says) and 0
    elsewhere."""
    references = part.references
    if references is not None and setting.loss == losses.ACCURACY:
        return lambda answers: [float(a in right) for a, right in zip(answers, references, strict=True)]
    if setting.known is None or references is None:
        return lambda captions: [float(a == b) for a, b in zip(captions, full, strict=True)]
    return Scorer(references, setting.known)

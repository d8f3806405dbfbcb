"""What a calibration works on, and how its policies are run and scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mue_edge.calibrate import losses
from mue_edge.calibrate.certificate import Conditions
from mue_edge.calibrate.cider import Frequencies, Scorer
from mue_edge.calibrate.outcomes import SampleRuns, outcomes
from mue_edge.calibrate.samples import Samples
from mue_edge.calibrate.tuning import Score
from mue_edge.captioner import Captioner
from mue_edge.policy import Policy
from mue_edge.profile import Profile

FULL = Policy("never", name="full")
# Label and number of steps → a context that gives what to call after each step.
Progress = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


@dataclass(frozen=True)
class Setting:
    """A bundle with its profile, its pictures, and the folder of its traces. `known`: document frequencies,
    where the pictures have references; `conditions`: where times come from; `clock`: of live times."""

    captioner: Captioner
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
        """CIDEr-D where people captioned the pictures, else consistency with full depth."""
        return losses.CONSISTENCY if self.known is None else losses.CIDER_D


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
    tokenizer = setting.captioner.tokenizer
    return lambda tokens: tokenizer.caption(tokens).strip().lower()


def score_of(setting: Setting, part: Samples, full: Sequence[str]) -> Score:
    """CIDEr-D of captions, or 1 where a caption is full depth's and 0 elsewhere."""
    if setting.known is None or part.references is None:
        return lambda captions: [float(a == b) for a, b in zip(captions, full, strict=True)]
    return Scorer(part.references, setting.known)

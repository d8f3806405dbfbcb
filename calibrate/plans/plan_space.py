"""Which plans a search may try, and which it tries next.

A space that is no larger than the number of trials is enumerated. Of a larger one the first plan is the
reference and the others are proposed by Optuna (TPE), each by a fresh sampler seeded by the search's seed
and the trial's number that is told all earlier results. A resumed search so equals an undisturbed one,
which a sampler that lives as long as its process does not.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from mue_edge.errors import UsageError, missing_extra

FINE, PAIRS, TRIPLES, PLANNED = "per-layer", "pairs", "triples", "planned"
CUTS = (FINE, PAIRS, TRIPLES, PLANNED)
GROUP = {FINE: 1, PAIRS: 2, TRIPLES: 3}
# Of the model's own size; a patch of every family so far is 16 pixels wide.
SHARES, PATCH = (0.67, 0.83, 1.0, 1.17), 16
# TPE draws at random until it has so many results.
AT_RANDOM, ASKED = 6, 32


@dataclass(frozen=True)
class PlanChoice:
    """A plan to try: image (height, width), precision, and how layers are grouped into segments."""

    size: tuple[int, int]
    precision: str
    cut: str = FINE


@dataclass(frozen=True)
class Space:
    """Every combination; `reference` is its first plan, which the others are compared with."""

    sizes: tuple[tuple[int, int], ...]
    precisions: tuple[str, ...]
    cuts: tuple[str, ...] = CUTS
    own_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not (self.sizes and self.precisions and self.cuts):
            raise UsageError("a search of plans needs a size, a precision and a cut")
        if unknown := [cut for cut in self.cuts if cut not in CUTS]:
            raise UsageError(f"unknown cut {unknown[0]!r}; known: {', '.join(CUTS)}")

    @property
    def choices(self) -> list[PlanChoice]:
        """All, the reference first: the model's own size, else the first one."""
        combinations = [PlanChoice(*each) for each in product(self.sizes, self.precisions, self.cuts)]
        size = self.own_size if self.own_size in self.sizes else self.sizes[0]
        first = PlanChoice(size, self.precisions[0], self.cuts[0])
        return [first, *(choice for choice in combinations if choice != first)]


def around(size: tuple[int, int], precisions: Sequence[str]) -> Space:
    """Sizes around the model's own, rounded to whole patches; every precision, every cut.

    One that the model has no positions for shows when its trial is cut.
    """
    sizes = [(_patches(size[0] * share), _patches(size[1] * share)) for share in SHARES]
    return Space(tuple(dict.fromkeys(sizes)), tuple(precisions), CUTS, size)


def ends(cut: str, layers: Mapping[str, int]) -> dict[str, list[int]]:
    """Layers after which segments end, by stack; also where no exits were trained."""
    return {stack: [*range(GROUP[cut], depth, GROUP[cut]), depth] for stack, depth in layers.items()}


def proposed(space: Space, tried: Sequence[tuple[PlanChoice, float]], trials: int, seed: int) -> PlanChoice | None:
    """What to try after `tried` (with what each was worth), None when nothing remains.

    Raises EnvironmentLacksError when Optuna is needed and is not installed.
    """
    choices, done = space.choices, {choice for choice, _ in tried}
    untried = [choice for choice in choices if choice not in done]
    if not untried or len(tried) >= trials:
        return None
    if len(choices) <= trials or not tried:
        return untried[0]
    sampled = _sampled(space, tried, seed)
    return sampled if sampled is not None else random.Random(f"{seed} {len(tried)}").choice(untried)


def _sampled(space: Space, tried: Sequence[tuple[PlanChoice, float]], seed: int) -> PlanChoice | None:
    """Optuna's next choice that was not tried; None if it keeps asking for the same."""
    try:
        import optuna
    except ImportError as problem:
        raise missing_extra("optuna", "calibrate") from problem
    loudness = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=AT_RANDOM, seed=random.Random(f"{seed} {len(tried)}").getrandbits(32)
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        sizes = {f"{height}x{width}": (height, width) for height, width in space.sizes}
        kinds: dict[str, optuna.distributions.BaseDistribution] = {
            "size": optuna.distributions.CategoricalDistribution(list(sizes)),
            "precision": optuna.distributions.CategoricalDistribution(space.precisions),
            "cut": optuna.distributions.CategoricalDistribution(space.cuts),
        }
        for choice, value in tried:
            named = {"size": f"{choice.size[0]}x{choice.size[1]}", "precision": choice.precision}
            study.add_trial(
                optuna.trial.create_trial(params=named | {"cut": choice.cut}, distributions=kinds, value=value)
            )
        done = {choice for choice, _ in tried}
        for _ in range(ASKED):
            trial = study.ask(kinds)
            choice = PlanChoice(sizes[trial.params["size"]], trial.params["precision"], trial.params["cut"])
            if choice not in done:
                return choice
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return None
    finally:
        optuna.logging.set_verbosity(loudness)


def _patches(pixels: float) -> int:
    return max(1, round(pixels / PATCH)) * PATCH

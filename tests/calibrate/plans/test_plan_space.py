"""What is tried, in which order, and that a resumed search goes on as it would have gone."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from mue_edge.calibrate.plans.plan_space import CUTS, PlanChoice, Space, around, ends, proposed
from mue_edge.errors import EnvironmentLacksError, UsageError

LARGE = Space(tuple((16 * n, 16 * n) for n in range(1, 11)), ("fp32", "int8"), CUTS, (96, 96))


def worth(choice: PlanChoice) -> float:
    """Best at 48 pixels in int8, cut in pairs."""
    return -abs(choice.size[0] - 48) / 16 + (choice.precision == "int8") + (choice.cut == "pairs")


def search(space: Space, trials: int, seed: int, tried: list[tuple[PlanChoice, float]]) -> list[PlanChoice]:
    tried = list(tried)
    while (choice := proposed(space, tried, trials, seed)) is not None:
        tried.append((choice, worth(choice)))
    return [choice for choice, _ in tried]


def test_a_small_space_is_enumerated_with_the_reference_first() -> None:
    space = Space(((80, 80), (96, 96)), ("fp32", "int8"), ("per-layer", "planned"), (96, 96))
    found = search(space, 8, 0, [])
    assert found[0] == PlanChoice((96, 96), "fp32", "per-layer")
    assert len(found) == len(set(found)) == 8 and set(found) == set(space.choices)


def test_a_large_space_is_sampled_without_repeats_and_well() -> None:
    pytest.importorskip("optuna")
    found = search(LARGE, 24, 3, [])
    assert found[0] == PlanChoice((96, 96), "fp32", "per-layer")
    assert len(found) == len(set(found)) == 24
    best = sorted(map(worth, LARGE.choices), reverse=True)
    assert max(map(worth, found)) >= best[2]
    # Better than the whole space on average, once it has learnt something.
    assert sum(map(worth, found[8:])) / 16 > sum(best) / len(best) + 0.5
    assert search(LARGE, 24, 4, []) != found


@pytest.mark.parametrize("killed", [1, 7, 13])
def test_a_resumed_search_equals_an_undisturbed_one(killed: int) -> None:
    pytest.importorskip("optuna")
    whole = search(LARGE, 16, 5, [])
    kept = [(choice, worth(choice)) for choice in whole[:killed]]
    assert search(LARGE, 16, 5, kept) == whole


def test_optuna_is_asked_for_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "optuna":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    small = Space(((80, 80), (96, 96)), ("fp32",), ("per-layer",))
    assert len(search(small, 2, 0, [])) == 2
    with pytest.raises(EnvironmentLacksError, match=r"mue-edge\[calibrate\]"):
        search(LARGE, 4, 0, [])


def test_sizes_are_whole_patches_and_cuts_end_with_the_stack() -> None:
    assert around((96, 96), ("fp32",)).sizes == ((64, 64), (80, 80), (96, 96), (112, 112))
    assert around((384, 512), ("fp32",)).sizes[0] == (256, 336)
    depths = {"image": 6, "decoder": 5}
    assert ends("per-layer", depths) == {"image": [1, 2, 3, 4, 5, 6], "decoder": [1, 2, 3, 4, 5]}
    assert ends("pairs", depths) == {"image": [2, 4, 6], "decoder": [2, 4, 5]}
    assert ends("triples", {"image": 2, "decoder": 6}) == {"image": [2], "decoder": [3, 6]}
    assert ends("per-layer", {"encoder": 4, "decoder": 2}) == {"encoder": [1, 2, 3, 4], "decoder": [1, 2]}


def test_a_space_without_plans_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown cut 'quarters'; known: per-layer"):
        Space(((96, 96),), ("fp32",), ("quarters",))
    with pytest.raises(UsageError, match="needs a size"):
        Space((), ("fp32",))

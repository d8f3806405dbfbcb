"""Golden answers: decision logs of the torch reference on a few pictures, kept in the bundle.

On a device without torch, `mue-edge verify` replays them. The pictures are made, not taken: smooth
random colours, the same on every machine, so that a bundle of any model can carry them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mue_edge import schema
from mue_edge.bundle.manifest import Preprocess
from mue_edge.loop.driver import Runtime, set_inputs
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import Layout
from mue_edge.loop.replay import DecisionLog, decision_log, quantile_policy, run
from mue_edge.loop.search import SearchSettings
from mue_edge.loop.signals import SIMILARITY
from mue_edge.targets.golden import LOGS, PICTURES, Golden, pixels

COUNT = 4


def pictures(height: int, width: int, count: int = COUNT) -> NDArray[np.uint8]:
    """[count, H, W, 3]: bilinear blends of a 4 × 4 grid of colours from a fixed generator."""
    rng = np.random.Generator(np.random.PCG64(7))
    corners = rng.uniform(0, 255, (count, 4, 4, 3))
    out = np.empty((count, height, width, 3))
    for axis_y, y in enumerate(np.linspace(0, 3, height)):
        top, fy = min(int(y), 2), y - min(int(y), 2)
        row = corners[:, top] * (1 - fy) + corners[:, top + 1] * fy
        for channel in range(3):
            for i in range(count):
                out[i, axis_y, :, channel] = np.interp(
                    np.linspace(0, 3, width), np.arange(4), row[i, :, channel]
                )
    return out.round().astype(np.uint8)


def sources(
    length: int, settings: SearchSettings, vocabulary: int, count: int = COUNT
) -> tuple[tuple[int, ...], ...]:
    """Made texts of rising lengths up to `length`, bos … eos, one a picture; empty where there is no text."""
    if not length:
        return ((),) * count
    rng = np.random.Generator(np.random.PCG64(7))
    made = []
    for i in range(count):
        words = rng.integers(settings.eos + 1, vocabulary, max(3, length * (i + 1) // count) - 2)
        made.append((settings.bos, *words.tolist(), settings.eos))
    return tuple(made)


def make(
    layout: Layout, settings: SearchSettings, reference: Runtime, preprocess: Preprocess,
    texts: Sequence[tuple[int, ...]],
) -> tuple[NDArray[np.uint8], list[Golden]]:  # fmt: skip
    """Logs at full depth, and with thresholds at the median gap, so that about half exit; `texts`: what each
    picture is shown with."""
    shown = pictures(preprocess.height, preprocess.width)
    made: list[Golden] = []

    def answer(policy: Policy) -> None:
        for i, (picture, text) in enumerate(zip(shown, texts, strict=True)):
            set_inputs(reference, pixels(picture, preprocess), text)
            log = decision_log(run(layout, settings, policy, reference, trace=True, source=text))
            made.append(Golden(i, policy.to_json(), log, text))

    answer(Policy("never", name="full"))
    answer(median_policy([g.log for g in made]))
    return shown, made


def median_policy(logs: Iterable[DecisionLog]) -> Policy:
    """A constant threshold for each stack, such that half of the tests in traced logs would pass."""
    tests = [
        (entry.stack, 1 - min(entry.scores))
        for log in logs
        for entry in log.scores
        if entry.signal == SIMILARITY
    ]
    return quantile_policy(tests, 0.5, "median")


def write(folder: Path, shown: NDArray[np.uint8], golden: Sequence[Golden]) -> None:
    """Into a bundle that is being made."""
    (folder / "golden").mkdir()
    np.save(folder / PICTURES, shown)
    (folder / LOGS).write_text(json.dumps([schema.encode(g) for g in golden]) + "\n", encoding="utf-8")

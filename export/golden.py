"""Golden answers: decision logs of the torch reference on a few pictures, kept in the bundle, which
`mue-edge verify` replays on devices without torch. The pictures are smooth random colours, the same on
every machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from mue_edge import schema
from mue_edge.arrays import Array
from mue_edge.bundle.manifest import Manifest
from mue_edge.loop.driver import Runtime, set_inputs
from mue_edge.loop.policy import Policy
from mue_edge.loop.replay import DecisionLog, decision_log, quantile_policy, run
from mue_edge.loop.search import SearchSettings
from mue_edge.loop.signals import SIMILARITY
from mue_edge.targets.golden import LOGS, PICTURES, Golden, pixels

# Every segment runs for any picture; more of them show that rounding does not move a token.
COUNT = 4


def pictures(height: int, width: int, count: int = COUNT) -> Array:
    """[count, H, W, 3]: bilinear blends of a 4 × 4 grid of colours from a fixed generator."""
    rng = np.random.Generator(np.random.PCG64(7))
    corners = rng.uniform(0, 255, (count, 4, 4, 3))
    columns, out = np.linspace(0, 3, width), np.empty((count, height, width, 3))
    for row, y in enumerate(np.linspace(0, 3, height)):
        top = min(int(y), 2)
        colours = corners[:, top] * (1 - (y - top)) + corners[:, top + 1] * (y - top)
        for i, channel in np.ndindex(count, 3):
            out[i, row, :, channel] = np.interp(columns, np.arange(4), colours[i, :, channel])
    return out.round().astype(np.uint8)


def sources(length: int, settings: SearchSettings, vocabulary: int, count: int = COUNT) -> tuple[tuple[int, ...], ...]:
    """Made texts of rising lengths up to `length`, bos … eos, one a picture; empty where there is no text."""
    if not length:
        return ((),) * count
    rng = np.random.Generator(np.random.PCG64(7))
    lengths = (max(3, length * (i + 1) // count) - 2 for i in range(count))
    words = (rng.integers(settings.eos + 1, vocabulary, size).tolist() for size in lengths)
    return tuple((settings.bos, *ids, settings.eos) for ids in words)


def write(
    folder: Path,
    manifest: Manifest,
    reference: Runtime,
    texts: Sequence[tuple[int, ...]],
    step: Callable[[], object] = lambda: None,
) -> None:
    """Write into a bundle in the making the reference's logs at full depth, and with thresholds at the median
    distance, so that about half exit. texts: what comes with each picture; step: called after each log."""
    preprocess = manifest.preprocess
    images = pictures(preprocess.height, preprocess.width, len(texts))
    golden: list[Golden] = []

    def caption_all(policy: Policy) -> None:
        for i, (picture, text) in enumerate(zip(images, texts, strict=True)):
            set_inputs(reference, pixels(picture, preprocess), text)
            outcome = run(manifest.layout, manifest.search, policy, reference, trace=True, source=text)
            golden.append(Golden(i, policy.to_json(), decision_log(outcome), text))
            step()

    caption_all(Policy("never", name="full"))
    caption_all(median_policy([entry.log for entry in golden]))
    (folder / "golden").mkdir()
    np.save(folder / PICTURES, images)
    (folder / LOGS).write_text(json.dumps([schema.encode(g) for g in golden]) + "\n", encoding="utf-8")


def median_policy(logs: Iterable[DecisionLog]) -> Policy:
    """A constant threshold for each stack, such that half of the tests in traced logs would pass."""
    entries = (entry for log in logs for entry in log.scores if entry.signal == SIMILARITY)
    return quantile_policy([(entry.stack, 1 - min(entry.scores)) for entry in entries], 0.5, "median")

"""What savings are measured on: pictures to choose on, held-out ones, bundles with their CPU times."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mue_edge import targets
from mue_edge.apps.cli.catalogue import calibration_pictures
from mue_edge.apps.cli.terminal import progress
from mue_edge.apps.stickers.dataset import read
from mue_edge.calibrate.data import examples, samples
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.metrics.cider import Frequencies
from mue_edge.calibrate.policies.evaluator import PolicyEvaluator
from mue_edge.calibrate.traces.tracing import Sample
from mue_edge.inputs import tokens
from mue_edge.measuring import measure, profile
from tools.stickers.render import on_white

SPLITS = ("test_render", "test_comp")


@dataclass(frozen=True)
class Data:
    """Pictures to tune on, held-out pictures, and document frequencies of the training captions."""

    tune: Samples
    held: Samples
    known: Frequencies


def data(say: Callable[[str], str], limit: int | None = None, *, both: bool = False) -> Data:
    """`limit`: only so many pictures each, to try it. `both`: nothing is certified here, so that the pictures
    for it may be tuned on too."""
    tune, certify, frequencies = samples.of_tables(*calibration_pictures("stickers"), say)
    tune = tune.joined(certify) if both else tune
    found = read()
    rows = [int(row) for split in SPLITS for row in found.rows(split)[:limit]]
    records = [found.records[row] for row in rows]
    held = Samples(
        "+".join(SPLITS),
        tuple(Sample(r.id, _png(on_white(found.pixels[row]))) for r, row in zip(records, rows)),
        tuple(r.emoji for r in records),
        tuple((say(r.caption),) for r in records),
    )
    tuned = tune if limit is None else tune.rows(range(limit), f"{tune.source} ({limit})")
    return Data(tuned, held, frequencies)


def spoken(bundle: Path) -> Callable[[str], str]:
    """A caption as a bundle's or a model folder's tokenizer writes it."""
    tokenizer = tokens.load(bundle / "tokenizer.json")
    return lambda text: examples.reference_text(tokenizer, text)


def _png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def opened(bundle: Path, kept: Path, known: Data) -> PolicyEvaluator:
    """A bundle with its profile in CPU time (made if it is not there)."""
    captioner = targets.open(bundle, threads=1)
    path = kept / "profile.json"
    if not path.is_file():
        kept.mkdir(parents=True, exist_ok=True)
        shown = measure.network_inputs(captioner, [sample.picture for sample in known.tune.samples])
        with progress("profile", measure.CAPTIONS) as step:
            found, _ = measure.measure(captioner, shown, clock=profile.CPU, step=step)
        profile.write(path, found)
    times = profile.read(path)
    return PolicyEvaluator(captioner, times, kept / "traces", known.known, progress, workers=2, clock=profile.CPU)

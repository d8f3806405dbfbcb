"""Chooses the bundled model's policies: `python -m mue_edge.apps.stickers.policies`.

Candidates are constant thresholds at quantiles of the gaps traced on val_render, one for the image
encoder and one for the decoder. Each is run through an exported bundle on other pictures of the
same split. Kept are the cheapest ones that lose little: `balanced` at most 1 point of exact match,
`fast` at most 5. They are no certificate; `mue-edge calibrate` will give one.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from mue_edge import targets
from mue_edge.apps.stickers import model_folder
from mue_edge.apps.stickers.dataset import read
from mue_edge.apps.stickers.evaluation import still
from mue_edge.captioner import Captioner
from mue_edge.export.build import export
from mue_edge.files import atomic_write
from mue_edge.policy import Policy
from mue_edge.replay import exit_tests, quantile_policy, run

QUANTILES = (None, 0.2, 0.35, 0.5, 0.65, 0.8)
TRACED = 100
LOSSES = {"fast": 0.05, "balanced": 0.01}


@dataclass(frozen=True)
class Tried:
    """A policy with its exact match and CPU seconds a caption."""

    policy: Policy
    exact_match: float
    seconds: float


def attempt(captioner: Captioner, policy: Policy, pixels: list[Any], names: list[str]) -> Tried:
    """Caption every picture with a policy."""
    settings, right = captioner.settings(), 0
    started = time.process_time()
    for picture, name in zip(pixels, names, strict=True):
        captioner.runtime.set_pixels(picture)
        best = run(captioner.layout, settings, policy, captioner.runtime).hypotheses[0]
        right += captioner.tokenizer.caption(best.tokens).strip() == name
    return Tried(policy, right / len(names), (time.process_time() - started) / len(names))


def candidates(captioner: Captioner, pixels: list[Any]) -> list[Policy]:
    """Full depth and every pair of quantiles."""
    tests = []
    for picture in pixels:
        captioner.runtime.set_pixels(picture)
        outcome = run(captioner.layout, captioner.settings(), Policy("never"), captioner.runtime, trace=True)
        tests += exit_tests(outcome.decisions)
    at = {q: quantile_policy(tests, q, "candidate") for q in QUANTILES if q is not None}
    found = []
    for image in QUANTILES:
        for decoder in QUANTILES:
            found.append(
                Policy(
                    theta_image=None if image is None else at[image].theta_image,
                    theta_decoder=None if decoder is None else at[decoder].theta_decoder,
                    beta=1.0,
                )
            )
    return found


def choose(tried: list[Tried], full: Tried) -> list[Policy]:
    """From fast to slow; a name whose policy is no cheaper than the next one's is left out."""
    chosen: list[Policy] = []
    for name, loss in LOSSES.items():
        allowed = [t for t in tried if t.exact_match >= full.exact_match - loss]
        best = min(allowed, key=lambda t: t.seconds)
        if best.policy.may_exit and all(replace(p, name="") != best.policy for p in chosen):
            chosen.append(replace(best.policy, name=name))
    return chosen


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), help="The recipe's folder.")
@click.option("--limit", default=300, show_default=True, help="Pictures that candidates are run on.")
def main(cache: Path | None, limit: int) -> None:
    """Write policies.json into the bundled model's folder."""
    data = read(cache)
    rows = np.random.default_rng(1).permutation(data.rows("val_render"))
    pixels = [still(data, rows[i : i + 1]).numpy() for i in range(len(rows))]
    names = [data.records[i].caption for i in rows]
    with tempfile.TemporaryDirectory() as place:
        export(model_folder(), Path(place) / "bundle")
        with targets.open(Path(place) / "bundle", threads=1) as captioner:
            policies = candidates(captioner, pixels[:TRACED])
            shown, known = pixels[TRACED : TRACED + limit], names[TRACED : TRACED + limit]
            attempt(captioner, policies[0], shown[:5], known[:5])  # loads the segments
            tried = []
            with click.progressbar(policies, label="candidates", file=sys.stderr) as bar:
                for policy in bar:
                    tried.append(attempt(captioner, policy, shown, known))
    full = tried[0]
    for t in tried:
        click.echo(
            f"exact match {t.exact_match:.3f}, time {t.seconds / full.seconds:.2f}: {t.policy.to_json()}"
        )
    chosen = choose(tried, full)
    text = json.dumps([p.to_json() for p in chosen], indent=1) + "\n"
    atomic_write(model_folder() / "policies.json", text)
    click.echo(f"written: {model_folder() / 'policies.json'} ({', '.join(p.name for p in chosen)})")


if __name__ == "__main__":
    main()

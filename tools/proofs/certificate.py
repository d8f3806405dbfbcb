"""Coverage, power and the walk of the certificate, on simulated scores and on those of the bundled model on
the pictures that it is certified on."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from mue_edge.calibrate.report.pages import table
from proving.bundles import bundle
from proving.pictures import bundled_samples
from proving.rendering import Record, holds


def measure() -> dict[str, Any]:
    from mue_edge import targets
    from tools.verification import certificate, simulate

    with targets.open(bundle(1), threads=1) as captioner:
        tune, certify, known = bundled_samples(captioner)
        chosen = certificate.policies(captioner, tune.at_most(100))
        with (
            tempfile.TemporaryDirectory() as folder,
            click.progressbar(length=len(certify), label="certificate, captions") as bar,
        ):
            pools = certificate.pools(captioner, Path(folder), chosen, certify, known, 2, lambda _: bar.update(1))
    sources = {
        "simulated": (simulate.cases(), simulate.policies()),
        certify.source: (certificate.cases(pools, simulate.PLACES), list(pools.values())),
    }
    figures = {}
    for name, (cases, policies) in sources.items():
        with click.progressbar(length=simulate.REPETITIONS, label=f"certificate, {name}") as bar:
            figures[name] = simulate.figures(cases, policies, step=lambda bar=bar: bar.update(1))
    figures["simulated"]["binomial"] = [
        simulate.record(simulate.binomial_coverage(drop, error, simulate.CLUSTERS)) for drop, error in simulate.PLACES
    ]
    return figures


def render(record: Record) -> str:
    """How often a certificate is wrong, and how often it says what is true."""
    cases, walks = [], []
    for name, f in record["figures"].items():
        for covered, power in zip(f["coverage"], f["power"], strict=True):
            cases.append(
                [
                    name,
                    covered["policy"],
                    f"{covered['drop']:.2%}",
                    f"{covered['error']:.2f}",
                    f"{covered['rate']:.4f} ≤ {covered['allowed']:.4f}",
                    f"{power['rate']:.4f}",
                    holds(covered["holds"] and power["holds"]),
                ]
            )
        w = f["walk"]
        walks.append(
            [
                name,
                str(w["policies"]),
                f"{w['drop']:.2%}",
                f"{w['error']:.2f}",
                f"{w['any_false']:.4f} ≤ {w['allowed']:.4f}",
                f"{w['some_true']:.4f}",
                holds(w["holds"]),
            ]
        )
    first = record["figures"]["simulated"]
    one, power = first["coverage"][0], first["power"][0]
    words = (
        f"{one['repetitions']} certifying sets of {one['clusters']} clusters each; power is at a true drop "
        f"of 0, for δ = {power['drop']:.0%} and ε = {power['error']:.2f}.\n\n"
    )
    head = ["scores", "policy", "true drop, claimed as δ", "ε", "certified although false ≤ allowed"]
    head += ["certified although nothing is lost", "criteria hold"]
    more = ["scores", "policies", "δ", "ε", "any false one certified ≤ allowed", "some true one certified"]
    return words + table(head, cases) + "\n" + table([*more, "criterion holds"], walks)

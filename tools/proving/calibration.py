"""Calibration: the memo tree, the certificate, and the whole command."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from proofs.bundles import BUNDLES, bundle, cli
from proofs.covered import CORE, MODEL, SEGMENTS
from proofs.entailment import MODEL as ENTAIL_MODEL
from proofs.entailment import PAIRS
from proofs.pictures import bundled_samples, held_out
from proofs.record import write

_OWN = (
    "calibration", "candidates", "certifier", "outcomes", "pareto_testing", "tuning", "betting", "losses",
)  # fmt: skip
COVERED = (*CORE, *SEGMENTS, *(f"calibrate/{name}.py" for name in _OWN))


def memo() -> None:
    """The memo tree against live runs: 200 pictures under 20 random policies, greedy and with beams."""
    from mue_edge.bundle import open_bundle
    from mue_edge.calibrate.prove_memo import prove
    from mue_edge.image import preprocess

    figures = {}
    for beam in (1, 5):
        opened = open_bundle(bundle(beam))
        p = opened.manifest.preprocess
        pixels = [preprocess(x, p.height, p.width, mean=p.mean, std=p.std) for x in held_out(200)]
        with (
            tempfile.TemporaryDirectory() as folder,
            click.progressbar(length=len(pixels), label=f"memo, beam {beam}") as bar,
        ):
            proof = prove(opened, Path(folder), pixels, 20, lambda bar=bar: bar.update(1))
        figures[f"beam {beam}"] = {k: round(v, 3) for k, v in asdict(proof).items()}
    own = tuple(f"calibrate/{name}.py" for name in ("memo", "trace_store", "outcomes", "plain_replay"))
    write("memo", "python tools/evidence.py memo", (*CORE, *own, *SEGMENTS, *MODEL), figures)


def certificate() -> None:
    """Coverage, power and the walk of the certificate, on simulated scores and on those of the bundled model
    on the pictures that it is certified on."""
    from mue_edge import targets
    from mue_edge.calibrate import prove_certificate, simulate
    from mue_edge.calibrate.plan_search import drawn

    with targets.open(bundle(1), threads=1) as captioner:
        tune, certify, known = bundled_samples(captioner)
        chosen = prove_certificate.policies(captioner, drawn(tune, 100, 0))
        with (
            tempfile.TemporaryDirectory() as folder,
            click.progressbar(length=len(certify), label="certificate, captions") as bar,
        ):
            pools = prove_certificate.pools(
                captioner, Path(folder), chosen, certify, known, 2, lambda _: bar.update(1)
            )
    sources = {
        "simulated": (simulate.cases(), simulate.policies()),
        certify.source: (prove_certificate.cases(pools, simulate.PLACES), list(pools.values())),
    }
    figures = {}
    for name, (cases, policies) in sources.items():
        with click.progressbar(length=simulate.REPETITIONS, label=f"certificate, {name}") as bar:
            figures[name] = simulate.figures(cases, policies, step=lambda bar=bar: bar.update(1))
    figures["simulated"]["binomial"] = [
        simulate.record(simulate.binomial_coverage(drop, error, simulate.CLUSTERS))
        for drop, error in simulate.PLACES
    ]
    own = (
        "prove_certificate", "simulate", "pareto_testing", "betting", "binomial", "losses", "clusters",
        "cider", "power", "certificate", "outcomes", "memo", "candidates", "samples",
    )  # fmt: skip
    covered = (*CORE, *SEGMENTS, *MODEL, *(f"calibrate/{name}.py" for name in own))
    write("certificate", "python tools/evidence.py certificate", covered, figures)


def calibrate() -> None:
    """The bundled captioner for several budgets."""
    figures = _calibrated("stickers", ("50ms", "70%", "50%", "35%"), "calibrated")
    write("calibrate", "mue-edge calibrate --budget BUDGET", (*COVERED, *MODEL), figures)


def entailment() -> None:
    """The bundled model for statements: exits of the picture's, the text's and the decoder's stack."""
    words = ("--max-drop", "5%", "--clock", "cpu")
    figures = _calibrated("stickers-entail", ("70%", "50%"), "calibrated-entail", *words)
    command = f"mue-edge calibrate stickers-entail --budget BUDGET {' '.join(words)}"
    write("calibrate-entail", command, (*COVERED, *ENTAIL_MODEL, *PAIRS), figures)


def _calibrated(model: str, budgets: tuple[str, ...], folder: str, *words: str) -> dict[str, Any]:
    """`mue-edge calibrate` as a user calls it, one budget after another in one folder."""
    import shutil

    from mue_edge.calibrate.certificate import certificate_from_json

    out = BUNDLES / folder
    shutil.rmtree(out, ignore_errors=True)
    figures = {}
    for budget in budgets:
        cli("calibrate", model, "--budget", budget, *words, "--out", str(out))
        found = json.loads((out / "calibration.json").read_text(encoding="utf-8"))
        front = {point["policy"]["name"]: point for point in found["front"]}
        chosen, live = front[found["chosen"]], found["live"][found["chosen"]]
        certificate = certificate_from_json(found["certificate"])
        figures[budget] = {
            "budget_ms": found["budget_ms"], "chosen": found["chosen"], "policy": chosen["policy"],
            "certified": bool(certificate.certified), "statement": certificate.statement,
            "drop_bound_of_primary": found["drop_bound_of_primary"], "kept_tune": chosen["kept"],
            "predicted_ms": chosen["mean_ms"], "predicted_p95_ms": chosen["p95_ms"],
            "live_ms": live["mean_ms"], "live_p95_ms": live["p95_ms"], "live_late": live["late"],
            "live_captions": live["captions"], "live_of_full_depth": live["of_full_depth"],
            "candidates": found["candidates"], "smallest_drop": found["smallest_drop"],
            "layers": chosen["layers"], "clusters": certificate.clusters, "load": found["profile"]["load"],
        }  # fmt: skip
    return figures

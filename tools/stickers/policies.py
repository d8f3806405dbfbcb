"""Chooses the bundled model's policies: `python -m tools.stickers.policies [--workers N]`.

Candidates and their quality are those of `mue-edge calibrate` on the shipped tuning pictures, costs are
CPU time. Kept is the fastest policy that loses little even one standard error below its mean: `balanced`
2 % of full depth's CIDEr-D, `fast` 6 %. They carry no certificate: `mue-edge calibrate` gives one.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import click

from mue_edge import targets
from mue_edge.apps.cli.calibration_pictures import to_calibrate_on
from mue_edge.apps.cli.terminal import progress
from mue_edge.apps.stickers import model_folder
from mue_edge.calibrate.certificate.claim import Claim
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies import calibration, halving
from mue_edge.calibrate.policies.evaluator import PolicyEvaluator, PolicyOutcome
from mue_edge.errors import VerificationError
from mue_edge.export.build import export
from mue_edge.files import atomic_write
from mue_edge.loop.policy import Policy
from mue_edge.measuring import measure

LOSSES = {"fast": 0.06, "balanced": 0.02}


def choose(found: calibration.PolicySearch, clusters: list[str]) -> list[Policy]:
    """From fast to slow. Raises VerificationError when nothing is faster than full depth and as good."""
    groups, full = Clusters(clusters), found.full
    chosen: list[Policy] = []
    for name, loss in LOSSES.items():

        def keeps(j: PolicyOutcome, loss: float = loss) -> bool:
            lost = groups.means((1 - loss) * full.scores - j.scores)
            return bool(lost.mean() + lost.std(ddof=1) / groups.count**0.5 < 0)

        fitting = [j for j in found.outcomes if j.policy.may_exit and keeps(j)]
        best = min(fitting, key=lambda j: j.mean_seconds, default=None)
        if best is None or best.mean_seconds >= full.mean_seconds:
            raise VerificationError(f"no policy loses less than {loss:.0%} and is faster than full depth")
        chosen.append(replace(best.policy, name=name, seconds=None, quality=None))
    return chosen


@click.command()
@click.option("--workers", default=2, show_default=True, help="Processes that run candidates.")
def main(workers: int) -> None:
    """Write policies.json into the bundled model's folder."""
    tuned, held, known = to_calibrate_on(model_folder(), None)
    with tempfile.TemporaryDirectory() as place:
        export(model_folder(), Path(place) / "bundle", name="stickers")
        with targets.open(Path(place) / "bundle", threads=1) as captioner:
            shown = measure.network_inputs(captioner, [s.picture for s in tuned.samples])
            profile, _ = measure.measure(captioner, shown, clock="cpu")
            evaluator = PolicyEvaluator(captioner, profile, Path(place), known, progress, workers, "cpu")
            outcomes = halving.evaluated_candidates(evaluator, tuned, evaluator.decisions(tuned))
            found = calibration.policy_search(outcomes, tuned, held, Claim(), click.echo)
    chosen = choose(found, list(tuned.clusters))
    for policy in chosen:
        click.echo(f"{policy.name}: {policy.to_json()}")
    text = json.dumps([policy.to_json() for policy in chosen], indent=1) + "\n"
    atomic_write(model_folder() / "policies.json", text)


if __name__ == "__main__":
    main()

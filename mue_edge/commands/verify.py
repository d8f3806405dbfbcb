"""`mue-edge verify`: is this bundle whole, and does it answer here as it must?"""

from __future__ import annotations

import json

import click


@click.command("verify")
@click.argument("bundle")
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON.")
@click.option("--threads", type=click.IntRange(1, 256), help="Threads of the runtime.")
def command(bundle: str, as_json: bool, threads: int | None) -> None:
    """Hash every file of a BUNDLE, then replay its golden answers through this machine's runtime.

    Exit code 4: a file is missing or was changed. Exit code 6: the answers differ.
    """
    from mue_edge import targets
    from mue_edge.bundle import open_bundle
    from mue_edge.targets.verify import SCORE_TOLERANCE, verify

    opened = open_bundle(bundle, paranoid=True)
    manifest = opened.manifest
    runtime = targets.open_runtime(opened, threads)
    try:
        found = verify(opened, runtime)
    finally:
        runtime.close()
    promised = manifest.precision in SCORE_TOLERANCE
    if as_json:
        record = {"bundle": str(opened.path), "files": len(manifest.files), "rung": manifest.evidence.rung}
        click.echo(json.dumps(record | {"promised": promised} | vars(found), indent=1))
        return
    size = sum(entry.bytes for entry in manifest.files.values())
    click.echo(f"files    {len(manifest.files)} whole, {size / 1e6:.1f} MB")
    click.echo(
        f"replay   {found.replay_same_tokens} of {found.logs} logs give the same tokens; "
        f"{found.scores} scores differ by up to {found.max_score_error:.1e}, p99 {found.p99_score_error:.1e}"
    )
    click.echo(
        f"free run {found.free_same_tokens} of {found.logs} captions and {found.free_same_exits} of "
        f"{found.logs} exit patterns are the same"
    )
    click.echo(f"export   reached rung {manifest.evidence.rung}")
    if promised:
        click.echo(f"{bundle} is verified on this machine ({manifest.target}, {manifest.precision})")
    else:
        click.echo(
            f"{manifest.precision} promises no equality with the reference: the figures are for reading"
        )

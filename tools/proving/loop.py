"""Verification level `loop`: a bundle against the torch model, in forced replay and in a free run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click


def looped(place: Path, pictures: list[Any]) -> dict[str, Any]:
    """Design 5's criteria (a) and (b) for one bundle, at full depth and with exits."""
    import torch

    from mue_edge import models, targets
    from mue_edge.apps.stickers import model_folder
    from mue_edge.bundle.folder import open_bundle
    from mue_edge.export.golden import median_policy
    from mue_edge.export.prompts import read_prompt
    from mue_edge.inputs.image import preprocess
    from mue_edge.loop.policy import Policy
    from tools.verification.loop import prove, reference_log

    opened = open_bundle(place)
    runtime = targets.open_runtime(opened)
    model = models.load(model_folder())
    prompt = read_prompt(model_folder(), "caption").ids
    p = opened.manifest.preprocess
    pixels = [preprocess(x, p.height, p.width, mean=p.mean, std=p.std) for x in pictures]
    with torch.no_grad():
        traced = [reference_log(model, prompt, x, opened.manifest.search, Policy("never")) for x in pixels[:50]]
        figures = {}
        for policy in (Policy("never", name="full"), median_policy(traced)):
            with click.progressbar(length=len(pixels), label=policy.name) as bar:
                proof = prove(opened, runtime, model, prompt, pixels, policy, lambda done, bar=bar: bar.update(1))
            figures[policy.name] = asdict(proof) | {"holds": proof.holds("fp32")}
    return figures

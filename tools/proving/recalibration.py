"""Criterion (c) of the level `loop`: int8 against fp32, each under thresholds of its own scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

# A fifth of the pictures sets the thresholds, the others are compared.
EVERY = 5


def recalibrated(bundle: Path, pictures: Sequence[Any], names: Sequence[str]) -> dict[str, float]:
    """Captions under the median policy of the bundle's own scores: mean layers, CIDEr-D, exact match."""
    from mue_edge import targets
    from mue_edge.apps.stickers import shipped
    from mue_edge.calibrate.metrics.cider import Scorer, frequencies
    from mue_edge.export.golden import median_policy
    from mue_edge.loop.policy import Policy
    from mue_edge.loop.replay import decision_log, run

    image, decoder, captions, wanted = [], [], [], []
    with targets.open(bundle, threads=1) as captioner:
        layout, settings, runtime = captioner.layout, captioner.settings(), captioner.runtime
        logs = []
        for picture in pictures[::EVERY]:
            runtime.set_pixels(captioner.pixels(picture))
            logs.append(decision_log(run(layout, settings, Policy("never"), runtime, trace=True)))
        policy = median_policy(logs)
        for i, (picture, name) in enumerate(zip(pictures, names, strict=True)):
            if i % EVERY:
                runtime.set_pixels(captioner.pixels(picture))
                outcome = run(layout, settings, policy, runtime)
                image.append(outcome.depths["image"])
                decoder += [step.depth for step in outcome.steps]
                captions.append(captioner.tokenizer.caption(outcome.hypotheses[0].tokens).strip())
                wanted.append([name])
    cider = Scorer(wanted, frequencies([text] for text in shipped.train_captions()))(captions)
    return {
        "pictures": len(captions), "theta_image": policy.stack_exit("image").theta,
        "theta_decoder": policy.stack_exit("decoder").theta,
        "image_layers": sum(image) / len(image), "decoder_layers": sum(decoder) / len(decoder),
        "cider_d": sum(cider) / len(cider),
        "exact_match": sum(a == b[0] for a, b in zip(captions, wanted)) / len(captions),
    }  # fmt: skip


def int8_holds(fp32: dict[str, float], int8: dict[str, float]) -> bool:
    """Criterion (c): CIDEr-D within 1 % of fp32's and mean layers within 5 %, after recalibration."""
    layers = all(abs(int8[k] / fp32[k] - 1) <= 0.05 for k in ("image_layers", "decoder_layers"))
    return layers and abs(int8["cider_d"] / fp32["cider_d"] - 1) <= 0.01

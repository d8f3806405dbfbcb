"""What `mue-edge calibrate` is tested on: pictures that a bundle captions, times that no clock makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mue_edge import targets
from mue_edge.bundle.folder import open_bundle
from mue_edge.measuring import profile


def captioned(folder: Path, bundle: Path, count: int) -> Path:
    """A folder of pictures; most are called what the bundle calls them at full depth."""
    rng, lines = np.random.default_rng(0), ["image,caption,cluster\n"]
    folder.mkdir(exist_ok=True)
    with targets.open(bundle, threads=1) as captioner:
        for i in range(count):
            noise = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
            Image.fromarray(noise).resize((48, 48), Image.Resampling.NEAREST).save(folder / f"{i}.png")
            words = captioner.caption(folder / f"{i}.png").text.split()[:6]
            lines.append(f"{i}.png,{' '.join(words[: 3 + i % 4]) or 'a'},c{i // 2}\n")
    (folder / "captions.csv").write_text("".join(lines), encoding="utf-8")
    return folder


def elsewhere(path: Path, bundle: Path) -> Path:
    """A profile of another machine: every segment takes a millisecond, so that nothing depends on a clock; what
    runs in the place of several takes as long as they do."""
    m = open_bundle(bundle).manifest
    times = {name: profile.SegmentTime(1e-3, 1e-3, 0.0, 9) for name in m.segments}
    made = profile.Profile(
        profile.SCHEMA,
        profile.MEASURED,
        m.name,
        m.target,
        m.precision,
        m.plan_hash,
        profile.total_macs(m),
        "another machine",
        m.runtime.name,
        1,
        "2026-01-01T00:00:00+00:00",
        times,
        noise=profile.Noise(1.0, 1.0),
        error=0.0,
        fused={name: profile.SegmentTime(k, k, 0.0, 9) for name, f in m.fused.items() for k in [1e-3 * len(f.members)]},
    )
    profile.write(path, made)
    return path

"""A calibration of eight pictures and five policies over the made bundle; nothing of it was ever run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from mue_edge.bundle.folder import open_bundle, write_manifest
from mue_edge.bundle.manifest import FileEntry
from mue_edge.calibrate.certificate.claim import Certificate, Claim, Conditions, Scope, Tested, next_level, state
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.metrics import cider
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies.calibration import Calibration, PolicySearch
from mue_edge.calibrate.policies.evaluator import PolicyEvaluator, PolicyOutcome, quality_lower_bound
from mue_edge.calibrate.traces.tracing import Sample, TracedRun
from mue_edge.files import sha256
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.loop.protocol import ExitDecision
from mue_edge.measuring import profile
from mue_edge.measuring.profile import Noise, Profile, SegmentTime
from mue_edge.sessions.captioner import FULL, Captioner
from tests import made_bundle
from tests.made_bundle import LAYERS

PICTURES, BUDGET = 8, 0.020
NASTY = "a <script>alert('&')</script> face"
CONDITIONS = Conditions("live", "a board", "onnxruntime 1.31", 1, "idle", "fixed")
# Pictures whose caption each policy changes.
CHANGES = {
    "full": (),
    "fixed-1-3": (0, 1, 2, 3),
    "fixed-2-3": (0,),
    "fixed-3-1": (0, 1, 2),
    "safe": (5,),
    "quick": (1, 2, 5),
}
DEPTHS = {"full": (3, 3), "fixed-1-3": (1, 3), "fixed-2-3": (2, 3), "fixed-3-1": (3, 1)}
DEPTHS |= {"safe": (3, 2), "quick": (2, 1)}
POLICIES = (
    FULL,
    Policy("fixed", {"image": StackExit(depth=1)}, name="fixed-1-3"),
    Policy("fixed", {"image": StackExit(depth=2)}, name="fixed-2-3"),
    Policy("fixed", {"decoder": StackExit(depth=1)}, name="fixed-3-1"),
    Policy("mue", {"decoder": StackExit(0.9)}, beta=1.0, name="safe"),
    Policy("mue", {"image": StackExit(0.5), "decoder": StackExit(0.5)}, beta=1.0, name="quick"),
)


def evaluator(folder: Path) -> PolicyEvaluator:
    """The made bundle in `folder`/bundle, with files that hold nothing."""
    place = folder / "bundle"
    place.mkdir(parents=True)
    manifest = made_bundle.bundle().manifest
    files = {}
    for segment in manifest.segments.values():
        (place / segment.file).write_bytes(b"graph")
        files[segment.file] = FileEntry(5, sha256(place / segment.file))
    write_manifest(place, replace(manifest, files=files))
    captioner = Captioner(open_bundle(place), made_bundle.Paced(made_bundle.Clock()))
    known = cider.frequencies([("a red face",), ("a cat",), ("a blue dog",)])
    return PolicyEvaluator(captioner, made_profile(captioner), folder / "traces", known, _silent)


def made_profile(captioner: Captioner) -> Profile:
    """A millisecond a call, 2 ms a caption, 1 ms a picture."""
    m = captioner.bundle.manifest
    times = {name: SegmentTime(1e-3, 2e-3, 0.0, 9) for name in m.segments}
    return Profile(
        profile.SCHEMA,
        profile.MEASURED,
        m.name,
        m.target,
        m.precision,
        m.plan_hash,
        profile.total_macs(m),
        "a board",
        "onnxruntime",
        1,
        "2026-01-02",
        times,
        caption_seconds=2e-3,
        preprocess_seconds=1e-3,
        noise=Noise(1.0, 1.2),
        error=0.02,
    )


def samples(source: str) -> Samples:
    """Red squares; two pictures a cluster."""
    data = BytesIO()
    Image.new("RGB", (40, 30), "red").save(data, "PNG")
    return Samples(
        source,
        tuple(Sample(f"{source} {i}", data.getvalue()) for i in range(PICTURES)),
        tuple(f"cluster {i // 2}" for i in range(PICTURES)),
        ((NASTY,),) * PICTURES,
    )


def search() -> PolicySearch:
    """Of all policies."""
    outcomes = tuple(_outcome(policy) for policy in POLICIES)
    by_name = {o.policy.name: o for o in outcomes}
    front = tuple(by_name[name] for name in ("quick", "safe", "full"))
    return PolicySearch(outcomes, front, 0.05, 900)


def calibration(
    made: PolicyEvaluator, chosen: str = "safe", certified: Sequence[str] = ("safe", "quick")
) -> Calibration:
    """`certified`: what the walk passed; empty: it failed at once."""
    found = search()
    by_name = {o.policy.name: o for o in found.outcomes}
    return Calibration(
        made,
        samples("tune"),
        samples("certify"),
        CONDITIONS,
        BUDGET,
        0.012,
        traces(),
        found,
        by_name[chosen],
        by_name[chosen],
        by_name["quick"] if certified else None,
        _certificate(chosen, certified),
        0.08,
        {name: by_name[name] for name in ("full", "safe", "quick")},
    )


def traces() -> tuple[tuple[ExitDecision, ...], ...]:
    """Full depth's decisions on every picture."""
    return tuple(map(_trace, range(PICTURES)))


def run(image: int, decoder: Sequence[int]) -> TracedRun:
    """What the loop calls at these depths, catching up on skipped rows left out."""
    calls = ["stem", *(f"image.{i}" for i in range(image))]
    for depth in decoder:
        calls += ["embed", *(f"decoder.{i}" for i in range(depth)), "head"]
    return TracedRun((5, 6), -1.0, {"image": image, "text": LAYERS}, tuple(decoder), tuple(calls))


def _outcome(policy: Policy) -> PolicyOutcome:
    image, decoder = DEPTHS[policy.name]
    runs = tuple(run(image, (decoder,) * (2 + i % 2)) for i in range(PICTURES))
    seconds = np.array([2e-3 + 1e-3 + 1e-3 * len(r.segments) for r in runs])
    scores = _scores(policy.name)
    bound = quality_lower_bound(scores, _scores(FULL.name), Clusters([str(i) for i in range(PICTURES)]))
    return PolicyOutcome(policy, runs, _captions(policy.name), scores, seconds, float(scores.mean()), bound)


def _captions(name: str) -> tuple[str, ...]:
    return tuple("another" if i in CHANGES[name] else f"picture {i}" for i in range(PICTURES))


def _scores(name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """5 for every caption; a changed one loses 2, but that of picture 5 gains 1."""
    return np.array([5.0 + (1 if i == 5 else -2) * (i in CHANGES[name]) for i in range(PICTURES)])


def _trace(picture: int) -> tuple[ExitDecision, ...]:
    """Gaps that foretell the image's exits rightly, and the decoder's wrongly."""
    gap = 0.5 if picture in CHANGES["fixed-1-3"] else 0.1
    # By step: the widest gap is wrong, the narrowest would be right.
    wrong = (0.1, 0.05) if picture in CHANGES["fixed-3-1"] else (0.5, 0.01)
    told = [("image", 1, 0, gap), ("image", 2, 0, 0.3), ("image", 3, 0, 0.0)]
    told += [("decoder", depth, step, wrong[step]) for step in (0, 1) for depth in (1, 2, 3)]
    return tuple(ExitDecision(stack, depth, step, (1 - g,), (g,), 1.0, False) for stack, depth, step, g in told)


def _certificate(chosen: str, certified: Sequence[str]) -> Certificate:
    claim = Claim(max_drop=0.1, budget=BUDGET)
    tested: list[Tested] = []
    for name in certified or ("safe",):
        level = next_level(claim.error, tested, lone=len(certified) < 2)
        seen = Tested(name, level, 0.01, 0.02, 0.03, 1, 4)
        tested.append(seen if certified else replace(seen, p_quality=0.5, drop=0.2, p_latency=0.6, late=3))
    policy = next(p for p in POLICIES if p.name == chosen).to_json() if certified else {}
    found = Certificate(
        claim,
        Scope("certify", "f00d", "beam 1", "fp32", "1234", "beef"),
        CONDITIONS,
        PICTURES // 2,
        PICTURES,
        tuple(tested),
        chosen if certified else "",
        policy,
        0.05,
        "cafe",
    )
    return replace(found, statement=state(found))


@contextmanager
def _silent(label: str, count: int) -> Iterator[Callable[[], None]]:
    yield lambda: None

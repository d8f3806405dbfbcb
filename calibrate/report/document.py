"""`report.html`: a calibration for people. One file that needs neither network nor scripts."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies.calibration import Calibration
from mue_edge.calibrate.report import report_page as page
from mue_edge.calibrate.report import report_savings
from mue_edge.calibrate.report.findings import Findings, FrontPoint, unit
from mue_edge.calibrate.report.report_page import Html
from mue_edge.loop.protocol import DECODER
from mue_edge.measuring.profile import CPU, WALL

MOST_PICTURES = 24
_SIDE = 144  # pixels of a shown picture: twice what it takes on the page, for dense screens
CLOCKS = {WALL: "", CPU: " (CPU time)"}
_PARTS = {
    "picture": "reading and resizing the picture",
    "once a caption": "handing over, beginning, ending",
    "stem": "stem (trunk)",
    "cross_kv": "cross-attention K/V",
    "embed": "token embedding",
    "fill": "K/V of skipped rows",
    "head": "vocabulary projection",
}


def render(calibration: Calibration, found: Findings, pareto: bytes, command: str) -> str:
    """The page. pareto: a PNG; command: what made this calibration."""
    manifest = calibration.evaluator.manifest
    budget = f"{1e3 * calibration.budget:.3g} ms"
    return page.document(
        f"{manifest.name} on {manifest.target}: calibrated for {budget}",
        page.tag("h1", f"{manifest.name} on {manifest.target}, calibrated for {budget} a caption"),
        page.tag("p", f"Times: {calibration.evaluator.profile.label}.", class_="note"),
        _facts(calibration, found),
        page.section("Certificate", *_certificate(calibration)),
        page.section("The front", _front(calibration, found), _figure(pareto)),
        page.section("Quality left when time is saved", *report_savings.content(found)),
        page.section("Exits of the chosen policy", *_exits(found)),
        page.section("How much the exit signals say", _signals(found)),
        page.section("Where the time goes", _parts(found)),
        page.section("Pictures whose caption changed", *_changed(calibration)),
        page.section("Conditions", _conditions(calibration)),
        page.section("How to repeat it", page.tag("pre", command)),
    )  # fmt: skip


def _facts(calibration: Calibration, found: Findings) -> Html:
    claim, chosen, full = calibration.certificate.claim, found.chosen, found.full
    fits = "; full depth keeps it too" if found.fits else ""
    sure = "certified" if calibration.certificate.chosen else "not certified"
    entries = [
        ("budget", _ms(calibration.budget), f"for {claim.share:.0%} of the captions{fits}"),
        ("chosen policy", chosen.policy.name, sure),
        ("predicted", _ms(chosen.mean), f"mean; 95 % within {_ms(chosen.p95)}. Full depth: {_ms(full.mean)}"),
        ("quality kept", f"{chosen.kept:.1%}", f"of {full.quality:.3g} {unit(found.loss)}, tuning pictures"),
    ]  # fmt: skip
    if chosen.held:
        entries.append(("quality kept", f"{chosen.held[1]:.1%}", "on the pictures of the certificate"))
    if live := found.live.get(chosen.policy.name):
        whole = found.live[full.policy.name]
        words = (
            f"mean; 95 % within {_ms(live.p95)}; {live.late} of {live.captions} late. Full: {_ms(whole.mean)}"
        )
        entries.append((f"live{CLOCKS[calibration.evaluator.clock]}", _ms(live.mean), words))
    return page.facts(entries)


def _certificate(calibration: Calibration) -> list[Html]:
    certificate, searched = calibration.certificate, calibration.search
    claim = certificate.claim
    rows = []
    for t in certificate.tested:
        latency = "–" if t.p_latency is None else f"{t.p_latency:.3g}"
        late = "–" if t.timed is None else f"{t.late} of {t.timed}"
        passed = "yes" if t.passed else "no"
        rows.append((t.name, f"{t.drop:.2%}", f"{t.p_quality:.3g}", latency, late, f"{t.level:.3g}", passed))
    head = ("policy", "drop seen", "p of quality", "p of latency", "late", "level", "certified")
    title = f"The walk over the frozen candidates: certified at p ≤ level, {claim.error:.3g} in all"
    words = f"{certificate.clusters} clusters can be expected to show a drop of {searched.smallest_drop:.1%}"
    needed = searched.clusters_needed
    words += f"; the asked {claim.max_drop:.1%} needs {needed}." if needed else "."
    if calibration.drop_bound is not None:
        words += (
            f" Of {calibration.primary.policy.name}, chosen before these pictures were opened, a drop "
            f"of {calibration.drop_bound:.1%} or more is refuted with confidence {claim.confidence:.3g}."
        )
    statement = page.tag("blockquote", certificate.statement)
    return [statement, page.table(title, head, rows), page.tag("p", words, class_="note")]


def _front(calibration: Calibration, found: Findings) -> Html:
    certified = {t.name for t in calibration.certificate.certified}
    stacks = list(found.full.layers)
    rows, strong = [], []
    for i, p in enumerate(found.front):
        if p.policy.name == found.chosen.policy.name:
            strong.append(i)
        held = f"{p.held[1]:.1%}" if p.held else "–"
        layers = [f"{p.layers[stack]:.2f}" for stack in stacks]
        sure = "yes" if p.policy.name in certified else ""
        times = f"{1e3 * p.mean:.3g}", f"{1e3 * p.p95:.3g}", _less(p, found.full)
        rows.append((p.policy.name, *times, f"{p.quality:.3f}", f"{p.kept:.1%}", held, *layers, sure))
    head = ("policy", "mean ms", "p95 ms", "time", "quality", "kept", "kept, certify", *stacks, "certified")
    title = (
        f"From the fastest to full depth: predicted times, {unit(found.loss)}, mean layers. The chosen one "
        "is in bold."
    )
    return page.table(title, head, rows, strong=strong)


def _figure(pareto: bytes) -> Html:
    words = "Quality over predicted time of every candidate, on the pictures to tune on."
    return page.tag("figure", page.picture(pareto, "image/png", words), page.tag("figcaption", words))


def _exits(found: Findings) -> list[Html]:
    made: list[Html] = []
    rows: list[tuple[object, ...]]
    for stack, shares in found.exits.items():
        what = "tokens" if stack == DECODER else "captions"
        rows = [(str(depth), share) for depth, share in shares.items()]
        title = f"{stack}: share of the {what} that left after a layer (the last: that stayed to the end)"
        made.append(page.table(title, ("layer", what), rows, bar=1))
    most = found.full.layers[DECODER]
    rows = [
        (str(i + 1), f"{p.layers:.2f}", p.layers / most, str(p.captions))
        for i, p in enumerate(found.positions)
    ]
    title = f"{DECODER}: mean layers by a token's place in the caption, the end of the caption included"
    return [*made, page.table(title, ("token", "layers", "of all", "captions"), rows, bar=2)]


def _signals(found: Findings) -> Html:
    if not found.signals:
        return page.tag("p", "No boundary of this bundle was tried alone.", class_="note")
    rows = [
        (
            f"{s.stack} {s.depth}",
            s.signal,
            "–" if s.auc is None else f"{s.auc:.2f}",
            str(s.kept),
            str(s.changed),
        )
        for s in found.signals
    ]
    title = (
        "AUC: the chance that a picture whose caption survives stopping there shows a smaller gap than one "
        "whose caption changes. 0.5 is a coin; – where all captions fare alike."
    )
    return page.table(title, ("after layer", "signal", "AUC", "captions kept", "changed"), rows)


def _parts(found: Findings) -> Html:
    full, chosen = (sum(both[i] for both in found.parts.values()) for i in (0, 1))
    rows = [
        (_PARTS.get(kind, f"{kind} layers"), _number(a), _number(b), b / chosen)
        for kind, (a, b) in found.parts.items()
    ]
    rows.append(("together", _number(full), _number(chosen), 1.0))
    head = ("part", "full depth", "chosen", "of the chosen's")
    return page.table("Predicted mean milliseconds a caption", head, rows, bar=3, strong=(len(rows) - 1,))


def changed(calibration: Calibration) -> list[int]:
    """Rows of *certify* whose caption changed, from the greatest loss of score to the greatest gain."""
    outcomes = calibration.certify_outcomes
    full, exits = (outcomes[o.policy.name] for o in (calibration.search.full, calibration.chosen))
    gains = exits.scores - full.scores
    rows = [i for i, (a, b) in enumerate(zip(full.captions, exits.captions, strict=True)) if a != b]
    return sorted(rows, key=lambda i: (float(gains[i]), i))


def _changed(calibration: Calibration) -> list[Html]:
    rows = changed(calibration)
    outcomes = calibration.certify_outcomes
    full, exits = (outcomes[o.policy.name] for o in (calibration.search.full, calibration.chosen))
    certify = calibration.certify
    total, clusters = len(full.captions), Clusters(certify.clusters).count
    words = f"{len(rows)} of {total} pictures ({clusters} clusters) of {certify.source}"
    if certify.references is not None:
        worse = sum(1 for i in rows if exits.scores[i] < full.scores[i])
        better = sum(1 for i in rows if exits.scores[i] > full.scores[i])
        words += f": {worse} score lower, {better} higher, {len(rows) - worse - better} the same"
    shown = spread(rows, MOST_PICTURES)
    if len(shown) < len(rows):
        words += f". {len(shown)} of them, evenly from the greatest loss to the greatest gain"
    cards = []
    for i in shown:
        said = [("full depth", full.captions[i]), ("chosen policy", exits.captions[i])]
        if certify.references is not None:
            said.insert(0, ("people", "; ".join(certify.references[i])))
        cards.append(page.tag("li", thumbnail(certify.samples[i].picture), page.definitions(said)))
    return [page.tag("p", words + ".", class_="note"), page.tag("ul", *cards, class_="cards")]


def spread(rows: Sequence[int], most: int) -> list[int]:
    """Up to `most` of them, evenly, first and last included."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / (most - 1))] for i in range(most)]


def thumbnail(source: Any) -> Html:
    """Small, on white; nothing where the picture is a network's input."""
    from mue_edge.inputs import image

    if not isinstance(source, (str, bytes)) and not hasattr(source, "__fspath__"):
        return Html()
    shown = image.load(source).rgb
    shown.thumbnail((_SIDE, _SIDE))
    data = BytesIO()
    shown.save(data, "JPEG", quality=88)
    return page.picture(data.getvalue(), "image/jpeg", "")


def _conditions(calibration: Calibration) -> Html:
    evaluator, c = calibration.evaluator, calibration.conditions
    manifest, profile = evaluator.manifest, evaluator.profile
    versions = ", ".join(f"{name} {version}" for name, version in profile.versions.items())
    error = "–" if profile.error is None else f"{profile.error:.1%} of a live caption (median)"
    rows = [
        ("times", c.kind), ("device", c.device), ("runtime", c.runtime), ("threads", c.threads),
        ("load", c.load), ("clocks", c.clocks), ("versions", versions or "–"), ("profiled", profile.date),
        ("error of predictions", error), ("plan", manifest.plan_hash), ("precision", manifest.precision),
        ("input", f"{manifest.preprocess.height} × {manifest.preprocess.width}"),
        ("decoding", calibration.certificate.scope.decoding),
        ("tuned on", _data(calibration.tune)), ("certified on", _data(calibration.certify)),
    ]  # fmt: skip
    return page.table("What this holds for; anything else voids it", ("what", "value"), rows, words=(1,))


def _data(part: Samples) -> str:
    return f"{len(part)} pictures of {part.source}, fingerprint {part.fingerprint()}"


def _less(point: FrontPoint, full: FrontPoint) -> str:
    return "–" if point.policy == full.policy else f"{point.mean / full.mean - 1:+.0%}".replace("-", "−")


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def _number(seconds: float) -> str:
    return f"{1e3 * seconds:.3f}"

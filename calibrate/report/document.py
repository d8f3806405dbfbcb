"""`report.html`: a calibration for people. One file that needs neither network nor scripts."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from mue_edge.calibrate.certificate import losses
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies import savings
from mue_edge.calibrate.policies.calibration import Calibration
from mue_edge.calibrate.policies.evaluator import PolicyOutcome
from mue_edge.calibrate.report import report_page as page
from mue_edge.calibrate.report.findings import Findings, FrontPoint, milliseconds, optional
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


def render(calibration: Calibration, findings: Findings, pareto: bytes, command: str) -> str:
    """The page. pareto: a PNG; command: what made this calibration."""
    manifest = calibration.evaluator.manifest
    budget = milliseconds(calibration.budget)
    words = "Quality over predicted time of every candidate, on the pictures to tune on."
    figure = page.tag("figure", page.picture(pareto, "image/png", words), page.tag("figcaption", words))
    return page.document(
        f"{manifest.name} on {manifest.target}: calibrated for {budget}",
        page.tag("h1", f"{manifest.name} on {manifest.target}, calibrated for {budget} a caption"),
        page.tag("p", f"Times: {calibration.evaluator.profile.label}.", class_="note"),
        _facts(calibration, findings),
        page.section("Certificate", *_certificate(calibration)),
        page.section("The Pareto front", _pareto_front(calibration, findings), figure),
        page.section("Quality left when time is saved", *_savings(findings)),
        page.section("Exits of the chosen policy", *_exits(findings)),
        page.section("How much the exit signals say", _signals(findings)),
        page.section("Where the time goes", _parts(findings)),
        page.section("Pictures whose caption changed", *_changed(calibration)),
        page.section("Conditions", _conditions(calibration)),
        page.section("How to repeat it", page.tag("pre", command)),
    )


def _facts(calibration: Calibration, findings: Findings) -> Html:
    claim, chosen, full = calibration.certificate.claim, findings.chosen, findings.full
    fits = "; full depth keeps it too" if findings.fits else ""
    sure = "certified" if calibration.certificate.chosen else "not certified"
    chosen_p95, full_mean = milliseconds(chosen.p95), milliseconds(full.mean)
    quality = losses.NAMES[findings.loss]
    entries = [
        ("budget", milliseconds(calibration.budget), f"for {claim.share:.0%} of the captions{fits}"),
        ("chosen policy", chosen.policy.name, sure),
        ("predicted", milliseconds(chosen.mean), f"mean; 95 % within {chosen_p95}. Full depth: {full_mean}"),
        ("quality kept", f"{chosen.kept:.1%}", f"of {full.quality:.3g} {quality}, tuning pictures"),
    ]
    if chosen.on_certify:
        entries.append(("quality kept", f"{chosen.on_certify[1]:.1%}", "on the pictures of the certificate"))
    if live := findings.live.get(chosen.policy.name):
        late, whole = f"{live.late} of {live.captions} late", findings.live[full.policy.name]
        words = f"mean; 95 % within {milliseconds(live.p95)}; {late}. Full: {milliseconds(whole.mean)}"
        entries.append((f"live{CLOCKS[calibration.evaluator.clock]}", milliseconds(live.mean), words))
    cards = [
        page.tag("div", page.tag("dt", term), page.tag("dd", figure, page.tag("small", note)))
        for term, figure, note in entries
    ]
    return page.tag("dl", *cards, class_="facts")


def _certificate(calibration: Calibration) -> list[Html]:
    certificate, searched = calibration.certificate, calibration.search
    claim = certificate.claim
    rows = []
    for t in certificate.tested:
        late = "–" if t.timed is None else f"{t.late} of {t.timed}"
        tests = f"{t.p_quality:.3g}", optional(t.p_latency, ".3g"), late, f"{t.level:.3g}"
        rows.append((t.name, f"{t.drop:.2%}", *tests, "yes" if t.passed else "no"))
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


def _pareto_front(calibration: Calibration, findings: Findings) -> Html:
    certified, full = {t.name for t in calibration.certificate.certified}, findings.full
    rows, strong = [], []
    for i, p in enumerate(findings.front):
        if p.policy.name == findings.chosen.policy.name:
            strong.append(i)
        saved = None if p.policy == full.policy else p.mean / full.mean - 1
        times = f"{1e3 * p.mean:.3g}", f"{1e3 * p.p95:.3g}", optional(saved, "+.0%")
        quality = f"{p.quality:.3f}", f"{p.kept:.1%}", optional(p.on_certify and p.on_certify[1], ".1%")
        layers = [f"{p.layers[stack]:.2f}" for stack in full.layers]
        rows.append((p.policy.name, *times, *quality, *layers, "yes" if p.policy.name in certified else ""))
    head = ("policy", "mean ms", "p95 ms", "time", "quality", "kept", "kept, certify", *full.layers)
    title = f"From the fastest to full depth: predicted times, {losses.NAMES[findings.loss]}, mean layers. "
    title += "The chosen one is in bold."
    return page.table(title, (*head, "certified"), rows, strong=strong)


def _savings(findings: Findings) -> list[Html]:
    """What exits buy: quality at given savings, and fixed depths to compare with."""

    def cells(point: FrontPoint | None) -> tuple[str, str]:
        return ("–", "–") if point is None else (point.policy.name, f"{point.kept:.1%}")

    rows = [(f"−{s.share:.0%}", *cells(s.published), *cells(s.best)) for s in findings.savings]
    title = (
        "Mean time against full depth's, and the quality that is kept on the pictures to tune on; – where "
        "nothing is so fast"
    )
    head = ("time", "MuE's own rule", "kept", "best of all candidates", "kept")
    duels = []
    for duel in findings.duels:
        pair = duel.fixed.policy.name, f"{1e3 * duel.fixed.mean_seconds:.3g}", f"{duel.fixed.quality:.3f}"
        rival = "–" if duel.rival is None else duel.rival.policy.name
        saved = None if duel.ratio is None else duel.ratio - 1
        duels.append((*pair, rival, optional(saved, "+.0%"), "yes" if duel.won else "no"))
    against = (
        "Pairs of fixed depths (image, decoder), and the fastest exits by score of no less quality; "
        "pairs that others beat by far were left out on a part of the pictures"
    )
    columns = ("pair", "mean ms", "quality", "exits by score", "their time", "10 % faster")
    verdict = page.tag("p", savings.verdict(findings.duels, findings.signals), class_="note")
    return [page.table(title, head, rows), verdict, page.table(against, columns, duels)]


def _exits(findings: Findings) -> list[Html]:
    tables = []
    for stack, shares in findings.exits.items():
        what = "tokens" if stack == DECODER else "captions"
        title = f"{stack}: share of the {what} that exited after a layer (the last: that stayed to the end)"
        rows = [(str(depth), share) for depth, share in shares.items()]
        tables.append(page.table(title, ("layer", what), rows, bar=1))
    most = findings.full.layers[DECODER]
    places = [
        (str(i), f"{p.layers:.2f}", p.layers / most, str(p.captions)) for i, p in enumerate(findings.positions, 1)
    ]
    title = f"{DECODER}: mean layers by a token's place in the caption, the end of the caption included"
    return [*tables, page.table(title, ("token", "layers", "of all", "captions"), places, bar=2)]


def _signals(findings: Findings) -> Html:
    if not findings.signals:
        return page.tag("p", "No boundary of this bundle was tried alone.", class_="note")
    rows = [
        (f"{s.stack} {s.depth}", s.signal, optional(s.auc, ".2f"), str(s.kept), str(s.changed))
        for s in findings.signals
    ]
    title = (
        "AUC: the chance that a picture whose caption survives stopping there shows a smaller distance than "
        "one whose caption changes. 0.5 is a coin; – where all captions fare alike."
    )
    return page.table(title, ("after layer", "signal", "AUC", "captions kept", "changed"), rows)


def _parts(findings: Findings) -> Html:
    full, chosen = (sum(column) for column in zip(*findings.parts.values()))
    parts = {_PARTS.get(kind, f"{kind} layers"): both for kind, both in findings.parts.items()}
    parts["together"] = full, chosen
    rows = [(part, f"{1e3 * a:.3f}", f"{1e3 * b:.3f}", b / chosen) for part, (a, b) in parts.items()]
    head = ("part", "full depth", "chosen", "of the chosen's")
    return page.table("Predicted mean milliseconds a caption", head, rows, bar=3, strong=(len(rows) - 1,))


def changed(calibration: Calibration) -> list[int]:
    """Rows of *certify* whose caption changed, from the greatest loss of score to the greatest gain."""
    full, exits = _of_certify(calibration)
    gains = exits.scores - full.scores
    rows = [i for i, (a, b) in enumerate(zip(full.captions, exits.captions, strict=True)) if a != b]
    return sorted(rows, key=lambda i: (float(gains[i]), i))


def _of_certify(calibration: Calibration) -> tuple[PolicyOutcome, PolicyOutcome]:
    """Full depth and the chosen policy."""
    full, chosen = calibration.search.full, calibration.chosen
    return calibration.certify_outcomes[full.policy.name], calibration.certify_outcomes[chosen.policy.name]


def _changed(calibration: Calibration) -> list[Html]:
    rows, part = changed(calibration), calibration.certify
    full, exits = _of_certify(calibration)
    clusters = Clusters(part.clusters).count
    words = f"{len(rows)} of {len(full.captions)} pictures ({clusters} clusters) of {part.source}"
    if part.references is not None:
        worse = sum(bool(exits.scores[i] < full.scores[i]) for i in rows)
        better = sum(bool(exits.scores[i] > full.scores[i]) for i in rows)
        words += f": {worse} score lower, {better} higher, {len(rows) - worse - better} the same"
    examples = spread(rows, MOST_PICTURES)
    if len(examples) < len(rows):
        words += f". {len(examples)} of them, evenly from the greatest loss to the greatest gain"
    cards = []
    for i in examples:
        captions = [("full depth", full.captions[i]), ("chosen policy", exits.captions[i])]
        if part.references is not None:
            captions.insert(0, ("people", "; ".join(part.references[i])))
        texts = [page.tag(name, text) for pair in captions for name, text in zip(("dt", "dd"), pair)]
        cards.append(page.tag("li", thumbnail(part.samples[i].picture), page.tag("dl", *texts)))
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
    manifest, profile, conditions = (
        calibration.evaluator.manifest,
        calibration.evaluator.profile,
        calibration.conditions,
    )
    size, versions = manifest.preprocess, [f"{name} {version}" for name, version in profile.versions.items()]
    error = "–" if profile.error is None else f"{profile.error:.1%} of a live caption (median)"
    parts = {"tuned on": calibration.tune, "certified on": calibration.certify}
    values = {
        "times": conditions.kind,
        **{name: getattr(conditions, name) for name in ("device", "runtime", "threads", "load", "clocks")},
        "versions": ", ".join(versions) or "–",
        "profiled": profile.date,
        "error of predictions": error,
        "plan": manifest.plan_hash,
        "precision": manifest.precision,
        "input": f"{size.height} × {size.width}",
        "decoding": calibration.certificate.scope.decoding,
        **{
            name: f"{len(part)} pictures of {part.source}, fingerprint {part.fingerprint()}"
            for name, part in parts.items()
        },
    }
    title, rows = "What this holds for; anything else voids it", list(values.items())
    return page.table(title, ("what", "value"), rows, words=(1,))

"""The report's section on what exits buy: quality at given savings, and fixed depths to compare with."""

from __future__ import annotations

from mue_edge.calibrate.policies import savings
from mue_edge.calibrate.report import report_page as page
from mue_edge.calibrate.report.findings import Findings, FrontPoint
from mue_edge.calibrate.report.report_page import Html


def content(found: Findings) -> list[Html]:
    """Two tables and a verdict between them."""

    def cells(point: FrontPoint | None) -> tuple[str, str]:
        return ("–", "–") if point is None else (point.policy.name, f"{point.kept:.1%}")

    rows = [(f"−{s.share:.0%}", *cells(s.published), *cells(s.best)) for s in found.savings]
    head = ("time", "MuE's own rule", "kept", "best of all candidates", "kept")
    title = (
        "Mean time against full depth's, and the quality that is kept on the pictures to tune on; – where "
        "nothing is so fast"
    )
    duels = [
        (
            d.fixed.policy.name, f"{1e3 * d.fixed.mean_seconds:.3g}", f"{d.fixed.quality:.3f}",
            "–" if d.rival is None else d.rival.policy.name,
            "–" if d.ratio is None else f"{d.ratio - 1:+.0%}".replace("-", "−"), "yes" if d.won else "no",
        )
        for d in found.duels
    ]  # fmt: skip
    words = savings.verdict(found.duels, found.signals)
    against = (
        "Pairs of fixed depths (image, decoder), and the fastest exits by score of no less quality; "
        "pairs that others beat by far were left out on a part of the pictures"
    )
    columns = ("pair", "mean ms", "quality", "exits by score", "their time", "10 % faster")
    made = page.table(against, columns, duels)
    return [page.table(title, head, rows), page.tag("p", words, class_="note"), made]

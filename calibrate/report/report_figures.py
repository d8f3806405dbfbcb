"""The picture of a calibration: quality against time. Needs matplotlib (extra `calibrate`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from mue_edge.calibrate.certificate import losses
from mue_edge.calibrate.policies.evaluator import PolicyOutcome
from mue_edge.calibrate.report.findings import Findings, FrontPoint
from mue_edge.errors import missing_extra
from mue_edge.rules import RULES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Inches at 100 dots an inch: 1000 × 650 pixels.
_SIZE, _DOTS = (10.0, 6.5), 100
_INK, _GREY, _PALE, _BLUE, _RED = "#1c2430", "#667085", "#c3cad6", "#2f6fde", "#c4372c"


def require() -> None:
    """Raises EnvironmentLacksError without matplotlib: to be asked before minutes of work."""
    if importlib.util.find_spec("matplotlib") is None:
        raise missing_extra("matplotlib", "calibrate")


def pareto(findings: Findings, judged: Sequence[PolicyOutcome], noise: float, budget: float, label: str) -> bytes:
    """A PNG of 1000 × 650 pixels: every candidate's quality on *tune* over its predicted mean time (times
    `noise`), the front, full depth and the chosen policy with a line to the time that 95 % of their captions
    keep, and the budget in seconds. `label` says where times come from."""
    require()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, dpi=_DOTS, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()

    def plot(points: Iterable[tuple[float, float]], marker: str, **style: Any) -> None:
        pairs = [(1e3 * seconds, quality) for seconds, quality in points]
        axes.plot([x for x, _ in pairs], [y for _, y in pairs], marker, markersize=5, **style)

    def places(by_score: bool) -> Iterator[tuple[float, float]]:
        for j in judged:
            if j.policy.rule != "never" and RULES[j.policy.rule].by_score == by_score:
                yield noise * j.mean_seconds, j.quality

    plot(places(True), "o", color=_PALE, label="exits by score")
    plot(places(False), "s", color=_GREY, fillstyle="none", label="fixed depths or layers")
    front = [(p.mean, p.quality) for p in findings.front]
    plot(front, "-o", color=_BLUE, linewidth=1.8, label="Pareto front")
    _mark(axes, findings.full, "D", _INK, "full depth")
    if findings.chosen.policy.name != findings.full.policy.name:
        _mark(axes, findings.chosen, "*", _RED, f"chosen: {findings.chosen.policy.name}")
    axes.axvline(1e3 * budget, color=_RED, linestyle="--", linewidth=1.2, label=f"budget {1e3 * budget:.3g} ms")
    axes.set_xlabel("predicted time of a caption in ms: mean (thin lines: to what 95 % of the captions keep)")
    axes.set_ylabel(losses.NAMES[findings.loss] + ", pictures to tune on")
    axes.set_title(label, fontsize=9, color=_GREY)
    axes.set_xlim(left=0)
    axes.grid(color="#e4e8ef")
    axes.set_axisbelow(True)
    axes.legend(loc="lower right", frameon=True, fontsize=9)
    data = BytesIO()
    canvas.print_figure(data, format="png")
    return data.getvalue()


def _mark(axes: Axes, point: FrontPoint, marker: str, colour: str, label: str) -> None:
    size = 16 if marker == "*" else 9
    axes.plot([1e3 * point.mean, 1e3 * point.p95], [point.quality] * 2, "-", color=colour, linewidth=1)
    axes.plot([1e3 * point.p95], [point.quality], "|", color=colour, markersize=10)
    axes.plot([1e3 * point.mean], [point.quality], marker, color=colour, markersize=size, label=label, zorder=5)

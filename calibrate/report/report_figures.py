"""The picture of a calibration: quality against time. Needs matplotlib (extra `calibrate`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from mue_edge.calibrate.policies.evaluator import PolicyOutcome
from mue_edge.calibrate.report.findings import Findings, FrontPoint, unit
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


def pareto(
    found: Findings, judged: Sequence[PolicyOutcome], noise: float, budget: float, label: str
) -> bytes:
    """A PNG of 1000 × 650 pixels: every candidate's quality on *tune* over its predicted mean time (times
    `noise`), the front, full depth and the chosen policy with a line to the time that 95 % of their captions
    keep, and the budget in seconds. `label` says where times come from."""
    require()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, dpi=_DOTS, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()

    def place(chosen: Sequence[PolicyOutcome]) -> tuple[list[float], list[float]]:
        return [1e3 * noise * j.mean_seconds for j in chosen], [j.quality for j in chosen]

    others = [j for j in judged if RULES[j.policy.rule].by_score]
    fixed = [j for j in judged if j.policy.rule != "never" and not RULES[j.policy.rule].by_score]
    axes.plot(*place(others), "o", color=_PALE, markersize=5, label="exits by score")
    axes.plot(*place(fixed), "s", color=_GREY, markersize=5, fillstyle="none", label="fixed depths or layers")
    axes.plot(
        [1e3 * p.mean for p in found.front], [p.quality for p in found.front],
        "-o", color=_BLUE, markersize=5, linewidth=1.8, label="the front",
    )  # fmt: skip
    _mark(axes, found.full, "D", _INK, "full depth")
    if found.chosen.policy.name != found.full.policy.name:
        _mark(axes, found.chosen, "*", _RED, f"chosen: {found.chosen.policy.name}")
    axes.axvline(
        1e3 * budget, color=_RED, linestyle="--", linewidth=1.2, label=f"budget {1e3 * budget:.3g} ms"
    )
    axes.set_xlabel("predicted time of a caption in ms: mean (thin lines: to what 95 % of the captions keep)")
    axes.set_ylabel(unit(found.loss) + ", pictures to tune on")
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
    axes.plot(
        [1e3 * point.mean], [point.quality], marker, color=colour, markersize=size, label=label, zorder=5
    )

"""Still pictures of uncertainty: reliability diagram, box plot of correlations, risk-coverage curve, entropy of a run.

Every function returns a matplotlib figure, ready to show or save; none shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from lazyvos.curves import POINTS, Curves
from lazyvos.interact.limits import logged
from lazyvos.journal import journal_events
from lazyvos.masks.overlay import OVERLAY_COLORS
from lazyvos.metrics.calibration import Calibration, Reliability
from lazyvos.metrics.correlation import Correlations
from lazyvos.metrics.risk import RiskCoverage
from lazyvos.types import InputError, Step

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8A8A8A")
"""Okabe and Ito's colours, which colour-blind people can tell apart, and a grey."""
MARKS = {  # kind: (name, marker, colour, size)
    "start": ("start of an object", ">", "#009E73", 40),
    "request": ("request", "o", "none", 75),
    "user": ("user correction", "*", "#D55E00", 75),
    "pseudo": ("pseudo-correction", "D", "#CC79A7", 26),
}
THRESHOLDS = {"user": 0.5, "pseudo": 0.2, "memory": 0.8}
"""Published thresholds: ΔS above ``user`` asks a person, above ``pseudo`` corrects by itself; a frame with S above ``memory`` is not stored."""
_LINES = {"user": ("τ$_u$ (ask)", "#D55E00"), "pseudo": ("τ$_p$ (pseudo)", "#CC79A7"), "memory": ("τ$_m$ (not stored)", "#0072B2")}


def reliability_figure(
    what: Reliability | Calibration | Mapping[str, Reliability | Calibration], *, title: str = "", log: bool = True
) -> Figure:
    """Reliability diagram: accuracy over confidence, the honest diagonal, and below how many pixels each bin holds.

    Parameters
    ----------
    what: one diagram, drawn as bars with the gaps filled, or several by name, drawn as lines (as are equal-count bins).
    title: heading of the figure.
    log: draws the shares of pixels on a logarithmic scale.

    Raises `InputError` where there is nothing to draw.
    """
    given = dict(what) if isinstance(what, Mapping) else {"": what}
    diagrams = {name: d.reliability if isinstance(d, Calibration) else d for name, d in given.items()}
    if not diagrams or not all(d.counts.sum() for d in diagrams.values()):
        raise InputError("there is no pixel to draw a reliability diagram of; give frames with truth that is not all void")
    figure = _figure(4.6, 5.4, title)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1.0])
    axes.plot([0, 1], [0, 1], color="black", linestyle=":", linewidth=1, label="calibrated")
    for n, (name, d) in enumerate(diagrams.items()):
        full = d.counts > 0
        paint = PALETTE[n % len(PALETTE)]
        words = f"{name + ': ' if name else ''}ECE {d.ece:.4f}, MCE {d.mce:.3f}"
        share = np.where(full, d.counts / d.counts.sum(), np.nan)
        if len(diagrams) == 1 and np.allclose(np.diff(d.edges), 1 / len(d.counts)):
            left, width = d.edges[:-1], np.diff(d.edges)
            axes.bar(left[full], d.accuracy[full], width[full], align="edge", color=paint, edgecolor="white", label=words)
            axes.bar(
                left[full], (d.confidence - d.accuracy)[full], width[full], d.accuracy[full], align="edge", color="none",
                edgecolor="#D55E00", hatch="///", linewidth=0.8, label="confidence − accuracy",
            )  # fmt: skip
            below.bar(left[full], share[full], width[full], align="edge", color=paint, edgecolor="white")
        else:
            axes.plot(d.confidence[full], d.accuracy[full], marker="o", markersize=4, color=paint, label=words)
            below.plot(d.confidence[full], share[full], marker="o", markersize=3, color=paint)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    axes.legend(fontsize=8, loc="upper left", frameon=False)
    below.set(xlabel="confidence", ylabel="share of pixels")
    if log:
        below.set_yscale("log")
    return figure


def correlation_figure(
    what: Sequence[Correlations] | Mapping[str, Sequence[Correlations]], *, title: str = "", objects: bool = True
) -> Figure:
    """Box plot of the correlation of each measure with the true IoU, over objects (the form of thesis Figure 6.5).

    Parameters
    ----------
    what: the measures of one data set, or of several by the data set's name (one panel each). Boxes are quartiles, the bar is
        the median, whiskers reach 1.5 interquartile ranges, circles lie beyond.
    title: heading of the figure.
    objects: also draws a dot for each object.

    Raises `InputError` where there is nothing to draw.
    """
    panels = dict(what) if isinstance(what, Mapping) else {"": what}
    if not panels or not all(len(rows) for rows in panels.values()):
        raise InputError("there is no correlation to draw; give at least one measure for each data set")
    most = max(len(rows) for rows in panels.values())
    figure = _figure(1.2 + len(panels) * (0.75 * most + 0.9), 4.2, title)
    for axes, (name, rows) in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items()):
        boxes = [
            {
                "med": r.median, "q1": r.quartiles[0], "q3": r.quartiles[1], "whislo": r.whiskers[0], "whishi": r.whiskers[1],
                "fliers": r.outliers, "label": f"{r.name}\nn={len(r.coefficients)}" + (f" (−{r.undefined})" if r.undefined else ""),
            }
            for r in rows
        ]  # fmt: skip
        drawn = axes.bxp(boxes, patch_artist=True, widths=0.6, medianprops={"color": "black", "linewidth": 1.6}, flierprops={"markersize": 4})
        for n, (box, r) in enumerate(zip(drawn["boxes"], rows)):
            box.set(facecolor=PALETTE[n % len(PALETTE)], alpha=0.6)
            if objects:
                spread = np.linspace(-0.18, 0.18, len(r.coefficients)) if len(r.coefficients) > 1 else np.zeros(len(r.coefficients))
                axes.scatter(n + 1 + spread, r.coefficients, s=5, color="#333333", alpha=0.5, linewidths=0, zorder=3)
        axes.axhline(0, color="black", linestyle=":", linewidth=1)
        axes.set_title(name, fontsize=10)
        axes.tick_params(axis="x", labelsize=8)
        axes.set_ylim(-1.05, 1.05)
    methods = sorted({r.method.capitalize() for rows in panels.values() for r in rows})
    figure.axes[0].set_ylabel(f"{' and '.join(methods)} correlation with IoU (1 is best)", fontsize=9)
    return figure


def risk_coverage_figure(what: RiskCoverage | Mapping[str, RiskCoverage], *, title: str = "") -> Figure:
    """Risk-coverage curves: mean 1 − IoU of the most certain share of the units, beside the best possible order.

    ``what``: one curve, or several by name. Those over the same units share one oracle, drawn once. Raises `InputError`
    where there is nothing to draw.
    """
    curves = dict(what) if isinstance(what, Mapping) else {"risk": what}
    if not curves or not all(c.risk.size for c in curves.values()):
        raise InputError("there is no unit to draw a risk-coverage curve of; give uncertainty and IoU of at least one")
    figure = _figure(5.4, 4.0, title)
    axes = figure.subplots()
    for n, (name, c) in enumerate(curves.items()):
        axes.plot(c.coverage, c.risk, color=PALETTE[n % len(PALETTE)], label=f"{name}: AURC {c.aurc:.3f}, E-AURC {c.eaurc:.3f}")
    for c in {c.oracle.tobytes(): c for c in curves.values()}.values():
        axes.plot(c.coverage, c.oracle, color="black", linestyle="--", linewidth=1, label=f"oracle: AURC {c.oracle_aurc:.3f}")
    axes.set(xlabel="coverage (share of units, most certain first)", ylabel="risk (mean 1 − IoU)", xlim=(0, 1.01))
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, frameon=False)
    return figure


def entropy_figure(
    what: Curves | Iterable[Step] | str | PathLike[str],
    *,
    thresholds: Mapping[str, float] | None = None,
    objects: Sequence[int] | None = None,
    points: int = POINTS,
    title: str = "",
) -> Figure:
    """Uncertainty of a run: S_R per object, its change ΔS_R, and the IoU where it is known, on one axis of frames.

    Requests, user corrections, pseudo-corrections, starts of objects and memory writes are marked; lines show the thresholds.

    Parameters
    ----------
    what: a log file ``session.jsonl``, steps of a tracker, or `lazyvos.curves.Curves`.
    thresholds: any of ``"user"``, ``"pseudo"`` (both of ΔS_R) and ``"memory"`` (of S_R); by default those
        that a log file names, else the published `THRESHOLDS`.
    objects: ids to draw; all by default.
    points: most points per curve. A longer run is thinned to the extremes of every bucket of frames, and shows no ΔS_R.
    title: heading of the figure.

    Raises `InputError` for an unknown threshold or object, and where there is no frame.
    """
    curves = what if isinstance(what, Curves) else _curves(what, points)
    lines = dict(_logged(what) if thresholds is None else thresholds)
    if unknown := set(lines) - set(THRESHOLDS):
        raise InputError(f"threshold {sorted(unknown)[0]!r} is not known; choose from {', '.join(THRESHOLDS)}")
    ids = sorted(curves.scores) if objects is None else list(objects)
    if missing := [o for o in ids if o not in curves.scores]:
        raise InputError(f"object {missing[0]} has no uncertainty in this run; it has objects {sorted(curves.scores)}")
    rows = ["S$_R$"] + (["ΔS$_R$"] if curves.gram.per_bucket == 1 else [])
    rows += ["IoU"] if any(len(curves.iou.get(o, ())) for o in ids) else []
    heights = [1.5] + [1.0] * (len(rows) - 1)
    figure = _figure(9.0, 0.8 + 1.7 * sum(heights), title)
    parts = dict(zip(rows, figure.subplots(len(rows), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]))
    for o in ids:
        paint, line = _color(o), curves.scores[o]
        parts["S$_R$"].plot(line.t, line.values, color=paint, linewidth=1.3, label=f"object {o}")
        if "ΔS$_R$" in parts:
            parts["ΔS$_R$"].plot(*_changes(line.t, line.values), color=paint, linewidth=1.1)
        if "IoU" in parts and o in curves.iou:
            parts["IoU"].plot(curves.iou[o].t, curves.iou[o].values, color=paint, linewidth=1.3)
    for kind, (name, marker, fill, size) in MARKS.items():
        marks = [m for m in curves.marks[kind] if m.object in ids]
        if marks:
            parts["S$_R$"].scatter(
                [m.t for m in marks], [m.score or 0.0 for m in marks], marker=marker, s=size, facecolors=fill, edgecolors="#222222",
                linewidths=1.2 if fill == "none" else 0.4, zorder=4, label=name,
            )  # fmt: skip
    stored = [m.t for m in curves.marks["memory"]]
    if stored:
        low = -0.06 * parts["S$_R$"].get_ylim()[1]
        parts["S$_R$"].scatter(stored, [low] * len(stored), marker="|", color="#0072B2", s=22, linewidths=1, label="memory write")
    for kind, value in lines.items():
        name, tone = _LINES[kind]
        row = "S$_R$" if kind == "memory" else "ΔS$_R$"
        if row in parts:
            parts[row].axhline(value, color=tone, linestyle="--", linewidth=1, label=f"{name} = {value:g}")
    for row, axes in parts.items():
        axes.set_ylabel(row)
        axes.grid(alpha=0.25)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.005, 0.5))
    if "IoU" in parts:
        parts["IoU"].set_ylim(-0.03, 1.03)
    list(parts.values())[-1].set_xlabel("frame")
    return figure


def _figure(width: float, height: float, title: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _curves(what: Iterable[Step] | str | PathLike[str], points: int) -> Curves:
    return Curves.from_log(what, points) if isinstance(what, str | PathLike) else Curves.from_steps(what, points)


def _logged(what: Any) -> dict[str, float]:
    """Thresholds of a run by what they decide; a level trigger's are not among them, they are no lines on ΔS_R."""
    known = logged(journal_events(what)) if isinstance(what, str | PathLike) else None
    return THRESHOLDS if known is None else {kind: value for kind, measure, value in known if (measure == "score") == (kind == "memory")}


def _color(identity: int) -> tuple[float, ...]:
    """Colour of an object, the one it has in overlays."""
    return tuple(OVERLAY_COLORS[(identity - 1) % len(OVERLAY_COLORS)] / 255)


def _changes(t: Sequence[int], values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """S_t - S_{t-1} on the frames after the first value; NaN where the frame before has none."""
    frames, s = np.asarray(t, np.int64), np.asarray(values, np.float64)
    return frames[1:], np.where(np.diff(frames) == 1, np.diff(s), np.nan)

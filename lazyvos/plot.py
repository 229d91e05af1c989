"""Figures for notebooks and reports. All are plain :class:`plotly.graph_objects.Figure`, which stay small and interactive."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from lazyvos.curves import POINTS, Curves, Mark
from lazyvos.masks.overlay import OVERLAY_COLORS
from lazyvos.masks.overlay import overlay as draw
from lazyvos.types import Step

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MARKS = {  # kind: (name, symbol, colour, size)
    "start": ("start of an object", "triangle-right", "#009E73", 10),
    "request": ("request", "circle-open", "#222222", 12),
    "user": ("user correction", "star", "#D55E00", 12),
    "pseudo": ("pseudo-correction", "diamond", "#CC79A7", 8),
}


def color(identity: int) -> str:
    """CSS colour of an object, the one it has in overlays."""
    red, green, blue = OVERLAY_COLORS[(identity - 1) % len(OVERLAY_COLORS)]
    return f"rgb({red},{green},{blue})"


def entropy_curves(what: Curves | Iterable[Step] | str | PathLike[str], *, points: int = POINTS, title: str = "") -> go.Figure:
    """Uncertainty S_R per object over the frames, with requests, corrections and memory writes.

    Below it log10|Γ| where the memory keeps a Gram matrix, and J where the truth is known (all on one frame axis).

    Parameters
    ----------
    what: a log file ``session.jsonl``, steps of a tracker, or :class:`lazyvos.curves.Curves`.
    points: most points per curve; longer runs are thinned to the extremes of every bucket of frames.
    title: heading of the figure.
    """
    from plotly.subplots import make_subplots

    curves = what if isinstance(what, Curves) else _curves(what, points)
    rows = ["uncertainty S<sub>R</sub>"]
    rows += ["log<sub>10</sub>|Γ|"] if len(curves.gram) else []
    rows += ["IoU"] if any(len(line) for line in curves.iou.values()) else []
    heights = [2.0] + [1.2] * (len(rows) - 1)
    figure = make_subplots(
        rows=len(rows), cols=1, shared_xaxes=True, vertical_spacing=0.05, row_heights=[h / sum(heights) for h in heights]
    )
    for identity, line in sorted(curves.scores.items()):
        figure.add_scatter(
            x=line.t, y=_short(line.values), mode="lines", name=f"object {identity}", legendgroup=f"o{identity}",
            line={"color": color(identity), "width": 1.6}, row=1, col=1,
        )  # fmt: skip
    for kind, (name, symbol, paint, size) in _MARKS.items():
        _scatter(figure, list(curves.marks[kind]), name, symbol, paint, size)
    top = max((value for line in curves.scores.values() for value in line.values), default=0.0)
    top = max(0.3, 1.12 * top)
    figure.update_yaxes(range=[-0.1 * top, top], row=1, col=1)
    stored = [mark.t for mark in curves.marks["memory"]]
    if stored:
        figure.add_scatter(
            x=stored, y=[round(-0.05 * top, 4)] * len(stored), mode="markers", name="memory write", hovertemplate="frame %{x}: stored<extra></extra>",
            marker={"symbol": "line-ns-open", "color": "#0072B2", "size": 7}, row=1, col=1,
        )  # fmt: skip
    if len(curves.gram):
        figure.add_scatter(
            x=curves.gram.t, y=_short(curves.gram.values), mode="lines", name="log|Γ| (diversity)",
            line={"color": "#555555", "shape": "hv"},
            row=2, col=1,
        )  # fmt: skip
    if rows[-1] == "IoU":
        for identity, line in sorted(curves.iou.items()):
            figure.add_scatter(
                x=line.t, y=_short(line.values), mode="lines", name=f"IoU of {identity}", legendgroup=f"o{identity}",
                line={"color": color(identity), "width": 1.6}, showlegend=False, row=len(rows), col=1,
            )  # fmt: skip
        figure.update_yaxes(range=[-0.03, 1.03], row=len(rows), col=1)
    for row, name in enumerate(rows, 1):
        figure.update_yaxes(title_text=name, row=row, col=1)
    figure.update_xaxes(title_text="frame", row=len(rows), col=1)
    figure.update_layout(
        template="plotly_white", height=150 + 170 * len(rows) + 40, title=title or None, hovermode="x unified",
        margin={"l": 70, "r": 20, "t": 50 if title else 20, "b": 45},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0},
    )  # fmt: skip
    return figure


def overlay(
    frame: np.ndarray, labels: np.ndarray | None = None, *, entropy: np.ndarray | None = None, clicks: Iterable[Any] = (),
    title: str = "",
) -> go.Figure:  # fmt: skip
    """A frame ``uint8 [H, W, 3]`` with its label map ``uint8 [H, W]``, entropy ``float [H, W]`` and clicks drawn over it."""
    return _picture(draw(frame, labels, entropy=entropy, clicks=clicks, contour=2), title)


def entropy_image(entropy: np.ndarray, frame: np.ndarray | None = None, *, title: str = "") -> go.Figure:
    """An entropy map ``float [H, W]`` in 0..1 as heat, over ``frame uint8 [H, W, 3]`` (greyed) or over black."""
    if entropy.ndim != 2:
        raise ValueError(f"entropy has shape {list(entropy.shape)}; give one map [H, W]")
    if frame is None:
        under = np.zeros((*entropy.shape, 3), np.uint8)
    else:
        under = np.repeat((frame.mean(-1, keepdims=True) * 0.6).astype(np.uint8), 3, -1)
    return _picture(draw(under, entropy=entropy), title)


def jpeg(picture: np.ndarray, quality: int = 85) -> str:
    """A picture ``uint8 [H, W, 3]`` as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _picture(picture: np.ndarray, title: str) -> go.Figure:
    import plotly.graph_objects as go

    height, width = picture.shape[:2]
    figure = go.Figure(go.Image(source=jpeg(picture, 90)))
    figure.update_layout(
        width=max(320, min(width, 960)) + 20, height=round(max(320, min(width, 960)) * height / width) + (50 if title else 20),
        margin={"l": 10, "r": 10, "t": 40 if title else 10, "b": 10}, title=title or None,
    )  # fmt: skip
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure


def _curves(what: Iterable[Step] | str | PathLike[str], points: int) -> Curves:
    return Curves.from_log(what, points) if isinstance(what, str | PathLike) else Curves.from_steps(what, points)


def _short(values: Iterable[float]) -> list[float]:
    return [round(value, 4) for value in values]


def _scatter(figure: go.Figure, marks: list[Mark], name: str, symbol: str, paint: str, size: int) -> None:
    if marks:
        figure.add_scatter(
            x=[m.t for m in marks], y=[round(m.score or 0.0, 4) for m in marks], customdata=[m.object for m in marks],
            mode="markers", name=name, hovertemplate=f"{name} of object %{{customdata}}<extra></extra>",
            marker={"symbol": symbol, "color": paint, "size": size, "line": {"width": 2 if "open" in symbol else 0.5}},
            row=1, col=1,
        )  # fmt: skip

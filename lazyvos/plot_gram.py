"""A still picture of a Gram log: heat map, what each replacement would have given, the stored frames, log10|Γ| over time."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from lazyvos.gram_log import GramLog
from lazyvos.gram_offer import GramState, Offer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKS = {  # reason: (marker, colour); the colours of Okabe and Ito, which colour-blind people can tell apart
    "filled": ("o", "#0072B2"), "replaced": ("^", "#009E73"), "no gain": ("x", "#E69F00"), "lower bound": ("v", "#D55E00"),
}  # fmt: skip
OTHER = ("s", "#CC79A7")
GAIN, LOSS, PLAIN = "#009E73", "#D55E00", "#8A8A8A"


def gram_figure(log: GramLog, t: int | None = None, *, title: str = "") -> Figure:
    """The Gram matrix that frame ``t`` met, its what-if and the course of log10|Γ| as a matplotlib figure.

    ``t``: the offered frame nearest to it is shown; ``None``: the newest one whose replacements were weighed, and where there is
    none yet the memory as it is. Raises ValueError for an empty log.
    """
    from matplotlib.figure import Figure

    with log.lock:
        offers, offer = log.offers, log.newest() if t is None else log.at(t)
        if offer is None and not log.state.entries:
            raise ValueError("the log is empty: no frame has been offered to the memory yet")
        weighed = offer is not None and (t is not None or offer.what_if is not None)
        shown = offer if weighed else None
        state = log.state if shown is None or not shown.state.entries else shown.state
        thumbs = {entry: log.thumbs.get(entry) for entry in state.entries}
    columns = min(10, max(5, len(state.entries)))
    rows = -(-len(state.entries) // columns)
    figure = Figure(figsize=(10, 6.3 + 0.85 * rows), layout="constrained")
    parts: Any = figure.subfigures(3, 1, height_ratios=[4.0, 0.85 * rows, 2.3])
    top, middle, bottom = parts
    left, right = top.subplots(1, 2, width_ratios=[1.0, 1.15])
    _matrix(left, state, shown)
    _what_if(right, state, shown)
    _strip(middle.subplots(rows, columns, squeeze=False).ravel(), state, thumbs)
    _course(bottom.subplots(), offers, shown, log.t)
    figure.suptitle(title or describe(log, shown), fontsize=11)
    return figure


def gram_png(log: GramLog, t: int | None = None, *, title: str = "", dpi: int = 80) -> bytes:
    """:func:`gram_figure` as a PNG, ``dpi`` points to the inch."""
    buffer = io.BytesIO()
    gram_figure(log, t, title=title).savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def describe(log: GramLog, offer: Offer | None = None) -> str:
    """One line on the memory now, or on an offer."""
    if offer is None:
        of = "" if log.slots is None else f" of {log.slots}"
        count = len(log.state.entries)
        return f"frame {log.t}: {count}{of} slots filled, log10|Γ| = {number(log.state.log)}" if count else "the memory is empty"
    done = "refused" if not offer.kept else "stored" if offer.replaced is None else f"stored for frame {offer.replaced}"
    change = number(offer.after) if offer.before is None or not offer.kept else f"{number(offer.before)} → {number(offer.after)}"
    return f"frame {offer.t}: {done} ({offer.reason}), log10|Γ| = {change}"


def number(value: float | None) -> str:
    """Three decimals; −∞ of a singular matrix; a dash for nothing."""
    if value is None or np.isnan(value):
        return "–"
    return f"{value:.3f}".replace("-", "−") if np.isfinite(value) else "−∞"


def _matrix(axes: Axes, state: GramState, offer: Offer | None) -> None:
    count = len(state.entries)
    off = state.gram[~np.eye(count, dtype=bool)]
    low = float(off.min()) if off.size else 0.0
    image = axes.imshow(state.gram, cmap="cividis", vmin=min(low, 0.99), vmax=max(1.0, float(state.gram.max())))
    axes.figure.colorbar(image, ax=axes, shrink=0.8, label="similarity")
    if count <= 10:
        for i, row in enumerate(state.gram):
            for j, value in enumerate(row):
                shade = "black" if (value - low) / max(1e-9, 1 - low) > 0.55 else "white"
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=shade)
    axes.set_xticks(range(count), [str(entry) for entry in state.entries], rotation=90, fontsize=7)
    axes.set_yticks(range(count), [str(entry) for entry in state.entries], fontsize=7)
    axes.set_title("Gram matrix Γ (by frame)" if offer is None else f"Gram matrix Γ that frame {offer.t} met", fontsize=9)


def _what_if(axes: Axes, state: GramState, offer: Offer | None) -> None:
    axes.set_title("what if: log10|Γ| after each replacement, against now", fontsize=9)
    if offer is None or offer.what_if is None or offer.before is None:
        words = "nothing was to be replaced" if offer is None else f"frame {offer.t}: nothing was to be replaced ({offer.reason})"
        axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes, color=PLAIN)
        axes.set_axis_off()
        return
    gains = np.nan_to_num(offer.what_if - offer.before, nan=0.0, posinf=np.inf, neginf=-np.inf)
    finite = np.abs(gains[np.isfinite(gains)])
    reach = max(float(finite.max(initial=0.0)), 1e-4)
    for n, (entry, gain) in enumerate(zip(state.entries, gains, strict=True)):
        stays = entry in state.pinned
        paint = PLAIN if stays else GAIN if gain >= 0 else LOSS
        axes.barh(n, np.clip(gain, -reach, reach), color=paint, hatch="///" if stays else None, edgecolor="white", height=0.75)
        words = f"{number(float(offer.what_if[n]))}{' (stays)' if stays else ''}{' ★' if n == offer.best else ''}"
        axes.text(reach * 1.06, n, words, va="center", fontsize=7)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_xlim(-reach * 1.05, reach * 1.7)
    axes.set_yticks(range(len(state.entries)), [str(entry) for entry in state.entries], fontsize=7)
    axes.set_ylim(len(state.entries) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_xlabel(f"gain in log10|Γ| over {number(offer.before)}; ★ the best", fontsize=8)


def _strip(axes: np.ndarray, state: GramState, thumbs: dict[int, bytes | None]) -> None:
    for panel in axes:
        panel.set_axis_off()
    for n, (panel, entry) in enumerate(zip(axes, state.entries)):
        data = thumbs.get(entry)
        if data is not None:
            panel.imshow(np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))[..., ::-1])
        panel.set_title(f"{n + 1}: frame {entry}{' (stays)' if entry in state.pinned else ''}", fontsize=7, pad=2)


def _course(axes: Axes, offers: tuple[Offer, ...], shown: Offer | None, end: int) -> None:
    known = [(o.t, o.after) for o in offers if o.after is not None and np.isfinite(o.after)]
    low, high = (min(v for _, v in known), max(v for _, v in known)) if known else (-1.0, 0.0)
    span = max(high - low, 0.1)
    if known:
        times, values = zip(*[*known, (max(end, known[-1][0]), known[-1][1])])
        axes.step(times, values, where="post", color="#444444", linewidth=1.2)
    lanes = {"no gain": low - 0.16 * span, "lower bound": low - 0.30 * span}
    for reason in dict.fromkeys((*MARKS, *(o.reason for o in offers))):
        ours = [o for o in offers if o.reason == reason]
        heights = [lanes.get(reason, o.after if o.after is not None and np.isfinite(o.after) else low) for o in ours]
        marker, paint = MARKS.get(reason, OTHER)
        word = reason if reason in ("filled", "replaced") or (ours and ours[0].kept) else f"refused: {reason}"
        if ours:
            axes.scatter([o.t for o in ours], heights, marker=marker, color=paint, s=26, zorder=3, label=f"{word} ({len(ours)})")
    if shown is not None:
        axes.axvline(shown.t, color="black", linestyle=":", linewidth=1)
    axes.set_ylim(low - 0.42 * span, high + 0.12 * span)
    axes.set_xlabel("frame", fontsize=8)
    axes.set_ylabel("log10|Γ|", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)
    if offers:
        axes.legend(fontsize=7, ncols=5, loc="upper center", bbox_to_anchor=(0.5, 1.2), frameon=False)

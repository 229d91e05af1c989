"""Rounds without a kernel: a picture, and a page of HTML with a few frames."""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lazyvos.masks import OVERLAY_COLORS, overlay
from lazyvos.rounds import Rounds
from lazyvos_widgets.picture import figure_png, jpeg, shrunk
from lazyvos_widgets.quality import Curves, mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 48
"""Most frames that a page may hold."""


def caption(rounds: Rounds, suggested: int | None) -> str:
    """One line that says where the rounds stand."""
    names = ", ".join(map(str, rounds.objects))
    parts = [f"{rounds.frames.name}: {len(rounds)} frames", f"{rounds.round} round{'' if rounds.round == 1 else 's'}",
             f"object{'' if len(rounds.objects) == 1 else 's'} {names}" if names else "no object yet",
             "" if suggested is None else f"suggested next: frame {suggested}"]  # fmt: skip
    return " · ".join(part for part in parts if part)


def chosen(rounds: Rounds, first: Sequence[int | None], count: int) -> list[int]:
    """At most ``count`` frames, ascending: ``first``, those of the newest rounds, then the ones farthest from all of these."""
    wanted = [*first, *(result.frame for result in reversed(rounds.results))]
    found = list(dict.fromkeys(t for t in wanted if t is not None))[:count]
    every = np.arange(len(rounds))
    while len(found) < min(count, len(rounds)):
        far = np.full(len(every), len(every)) if not found else np.abs(every[:, None] - np.array(found)).min(1)
        found.append(int(far.argmax()))
    return sorted(found)


def drawn(rounds: Rounds, t: int, opacity: float, longest: int) -> np.ndarray:
    """Frame ``t`` with the masks as they are now and the clicks of all rounds on it, ``uint8 [h, w, 3]``."""
    clicks = [click for result in rounds.results if result.frame == t for click in result.clicks]
    return shrunk(overlay(rounds.frames[t], rounds.labels(t), alpha=opacity, clicks=clicks), longest)


def words(rounds: Rounds, t: int, measure: str, curves: Curves) -> str:
    """What is known of frame ``t``."""
    numbers = [result.number for result in rounds.results if result.frame == t]
    value = mean(curves)[t] if curves else np.nan
    return " · ".join([f"frame {t}", *(f"round {n}" for n in numbers), *([f"{measure} {value:.3f}"] if np.isfinite(value) else [])])


def timeline_figure(
    rounds: Rounds, measure: str, now: Curves, before: Curves, suggested: int | None, pictures: Sequence[tuple[str, np.ndarray]] = ()
) -> Figure:
    """The curve of a measure over the frames with the rounds marked, under a row of pictures."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 4.4 if pictures else 2.4), layout="constrained")
    grid = figure.add_gridspec(2 if pictures else 1, max(1, len(pictures)), height_ratios=[1.25, 1] if pictures else [1])
    for i, (title, picture) in enumerate(pictures):
        axes = figure.add_subplot(grid[0, i])
        axes.imshow(picture)
        axes.set_title(title, fontsize=8)
        axes.axis("off")
    axes = figure.add_subplot(grid[-1, :])
    every = np.arange(len(rounds))
    if before:
        axes.plot(every, mean(before), color="#8a8a8a", linestyle="--", linewidth=1, label="before the last round")
    for name, values in now.items() if len(now) > 1 else ():
        axes.plot(every, values, color=OVERLAY_COLORS[(name - 1) % len(OVERLAY_COLORS)] / 255, linewidth=0.9, label=f"object {name}")
    if now:
        one = OVERLAY_COLORS[(next(iter(now)) - 1) % len(OVERLAY_COLORS)] / 255
        axes.plot(every, mean(now), color="black" if len(now) > 1 else one, linewidth=1.8, label="mean" if len(now) > 1 else f"object {next(iter(now))}")
    for result in rounds.results:
        axes.axvline(result.frame, color="#d55e00", linewidth=1)
        axes.annotate(str(result.number), (result.frame, 1), (0, 3), xycoords=("data", "axes fraction"), textcoords="offset points",
                      ha="center", fontsize=8, color="#d55e00", weight="bold")  # fmt: skip
    if suggested is not None:
        axes.axvline(suggested, color="#0072b2", linewidth=1.2, linestyle=":", label="suggested next")
    axes.set(xlim=(-0.5, len(rounds) - 0.5), xlabel="frame", ylabel=measure)
    if measure != "uncertainty":
        axes.set_ylim(0, 1.02)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=7, frameon=False, ncols=4, loc="best")
    return figure


def document(
    rounds: Rounds, frames: Sequence[int], measure: str, now: Curves, before: Curves, suggested: int | None, opacity: float, longest: int = 480
) -> str:
    """Curve, rounds and some frames as HTML that needs nothing else."""
    line = html.escape(caption(rounds, suggested))
    curve = b64encode(figure_png(timeline_figure(rounds, measure, now, before, suggested))).decode()
    tiles = []
    for t in frames:
        text, data = html.escape(words(rounds, t, measure, now)), b64encode(jpeg(drawn(rounds, t, opacity, longest), 80)).decode()
        tiles.append(f'<figure style="margin:0;width:min(100%,300px)"><img alt="{text}" style="width:100%" src="data:image/jpeg;base64,{data}">'
                     f"<figcaption>{text}</figcaption></figure>")  # fmt: skip
    rows = [f"<tr><td>{r.number}<td>{r.frame}<td>{len(r.clicks)}<td>{r.bounds[0]}–{r.bounds[1]}<td>{r.total_seconds:.1f} s</tr>" for r in rounds.results]
    head = "".join(f'<th scope="col" style="text-align:left;padding-right:1.5em">{name}' for name in ("round", "frame", "clicks", "computed", "time"))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>" if rows else ""
    return (f'<section style="font:14px/1.4 system-ui,sans-serif"><p>{line}</p><img alt="{html.escape(measure)} over the frames: {line}" '
            f'style="max-width:100%" src="data:image/png;base64,{curve}"><div style="display:flex;flex-wrap:wrap;gap:10px">{"".join(tiles)}</div>'
            f"{table}</section>")  # fmt: skip

"""The report of a run: one HTML file that opens anywhere, without network."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import cv2
import numpy as np

from lazyvos.curves import POINTS, Curves
from lazyvos.masks import atomic_path
from lazyvos.plot import entropy_curves, jpeg


class Thumbnails:
    """A few small pictures of a run of unknown length: ``few`` evenly spaced ones, and the first ``few`` of corrections.

    Never more than ``2 * few`` evenly spaced ones are held: at that number every second goes, and from then on they are taken
    half as often.
    """

    def __init__(self, few: int = 8, width: int = 320) -> None:
        self.few, self.width, self._stride = few, width, 1
        self._even: dict[int, str] = {}
        self._asked: dict[int, str] = {}

    def wants(self, t: int, corrected: bool = False) -> bool:
        """Whether frame ``t`` would be taken."""
        return t % self._stride == 0 or (corrected and len(self._asked) < self.few)

    def offer(self, t: int, picture: np.ndarray, corrected: bool = False) -> None:
        """Offer the overlay ``uint8 [H, W, 3]`` of frame ``t``; ``corrected`` says that a person clicked on it."""
        if not self.wants(t, corrected):
            return
        small = self._small(picture)
        if corrected and len(self._asked) < self.few:
            self._asked[t] = small
        if t % self._stride == 0:
            self._even[t] = small
            if len(self._even) >= 2 * self.few:
                self._stride *= 2
                self._even = {k: v for k, v in self._even.items() if k % self._stride == 0}

    def pictures(self) -> list[tuple[int, str, bool]]:
        """Frame number, data URI and whether a person clicked there, in order."""
        names = sorted(self._even)
        pick = {names[round(i)] for i in np.linspace(0, len(names) - 1, min(self.few, len(names)))} if names else set()
        every = {t: self._even[t] for t in pick} | self._asked
        return [(t, every[t], t in self._asked) for t in sorted(every)]

    def _small(self, picture: np.ndarray) -> str:
        height = max(1, round(picture.shape[0] * self.width / picture.shape[1]))
        return jpeg(cv2.resize(picture, (self.width, height), interpolation=cv2.INTER_AREA), 80)


def write_report(
    log: str | PathLike[str], path: str | PathLike[str], summary: Mapping[str, Any] | None = None,
    thumbnails: Sequence[tuple[int, str, bool]] = (), *, points: int = POINTS,
) -> None:  # fmt: skip
    """Write one self-contained HTML file (plotly.js inside, about 5 MB) from the log of a run.

    Parameters
    ----------
    log: ``session.jsonl`` of :func:`lazyvos.run.run_clip` or :class:`lazyvos.session.Session`; read twice, never held.
    path: the HTML file; written whole or not at all.
    summary: numbers for the table on top, named as in :class:`lazyvos.run.RunResult`.
    thumbnails: pictures as :meth:`Thumbnails.pictures` gives them.
    points: most points per curve.

    Raises :class:`lazyvos.types.InputError` where the log is missing or holds no frame.
    """
    curves = Curves.from_log(log, points)
    figure = entropy_curves(curves)
    drawing = figure.to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False, "responsive": True})
    title = html.escape(str((summary or {}).get("setup", {}).get("source", "run")).rsplit("/", 1)[-1])
    body = _PAGE.format(
        title=title, facts=_facts(summary or {}, curves), thumbnails=_strip(thumbnails), drawing=drawing,
        thinned=_thinned(curves),
    )  # fmt: skip
    with atomic_path(path) as temporary:
        temporary.write_text(body, encoding="utf-8")


def table(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows (name, value) of a summary for people; what was not measured is left out."""
    rows = [("frames", f"{summary['frames']}" + ("" if summary.get("complete", True) else " (stopped early)"))]
    if summary.get("JF") is not None:
        rows += [("J&F", f"{summary['JF']:.3f}"), ("J", f"{summary['J']:.3f}"), ("F", f"{summary['F']:.3f}")]
        if len(summary.get("scores") or ()) > 1:
            rows += [(f"  object {s['id']}", "not scored" if s["JF"] is None else f"{s['JF']:.3f}") for s in summary["scores"]]
    rows += [(f"R@{tau}", f"{value:.3f}") for tau, value in (summary.get("robustness") or {}).items()]
    rows += [
        ("requests", str(summary["requests"])),
        ("user corrections", str(summary["user_corrections"])),
        ("pseudo-corrections", str(summary["pseudo_corrections"])),
    ]
    if summary.get("fps") is not None:
        rows.append(("tracking speed", f"{summary['fps']:.1f} frames/s"))
    rows.append(("wall time", f"{summary['seconds']:.1f} s"))
    if summary.get("peak_memory_mb") is not None:
        rows.append(("peak memory", f"{summary['peak_memory_mb']:.0f} MB"))
    return rows


def _facts(summary: Mapping[str, Any], curves: Curves) -> str:
    if not summary:
        return f"<p>{curves.frames} frames.</p>"
    setup = summary.get("setup", {})
    size = setup.get("size") or ["?", "?"]
    how = (f"{setup.get('backbone')} at {setup.get('network_size') or 'full'} px on {setup.get('device')}, "
           f"memory {setup.get('memory')}, {size[1]}x{size[0]} frames")  # fmt: skip
    cells = "".join(
        f"<div class=fact><b>{html.escape(value)}</b><span>{html.escape(name.strip())}</span></div>" for name, value in table(summary)
    )
    return f"<p>{html.escape(how)}</p><div class=facts>{cells}</div>"


def _strip(thumbnails: Sequence[tuple[int, str, bool]]) -> str:
    return "".join(
        f'<figure{" class=asked" if asked else ""}><img alt="frame {t}" src="{uri}"><figcaption>frame {t}'
        f'{" · corrected" if asked else ""}</figcaption></figure>'
        for t, uri, asked in thumbnails
    )


def _thinned(curves: Curves) -> str:
    notes = []
    if curves.gram.per_bucket > 1:
        notes.append(f"Curves show the lowest and highest value of every {curves.gram.per_bucket} frames.")
    for name, marks in curves.marks.items():
        if marks.total > len(marks):
            notes.append(f"{len(marks)} of {marks.total} marks of kind “{name}” are shown.")
    return " ".join(notes)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>lazyvos: {title}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; color: #222; margin: 0 auto; max-width: 1180px; padding: 20px 24px; }}
h1 {{ font-size: 22px; margin: 0 0 2px; }} p {{ color: #555; margin: 4px 0 12px; }}
.facts {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(138px, 1fr)); gap: 8px; margin-bottom: 16px; }}
.fact {{ background: #f3f5f7; border-radius: 6px; padding: 6px 12px; }}
.fact b {{ display: block; font-size: 16px; }} .fact span {{ color: #666; font-size: 12px; }}
.strip {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 8px; margin: 12px 0; }}
figure {{ margin: 0; }} figure img {{ width: 100%; border-radius: 4px; display: block; box-sizing: border-box; }}
figure.asked img {{ outline: 3px solid #D55E00; outline-offset: -3px; }}
figcaption {{ font-size: 12px; color: #666; }}
</style></head><body>
<h1>{title}</h1>
{facts}
{drawing}
<p>{thinned}</p>
<div class="strip">{thumbnails}</div>
</body></html>
"""

"""Results as tables, and tables as Markdown, LaTeX and CSV."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from lazyvos.masks.atomic import atomic_path
from lazyvos.metrics.lvos import LvosObject, lvos_summary
from lazyvos.metrics.vots import MEASURES
from lazyvos.metrics.workload import aci, gaps
from lazyvos.types import InputError

FORMATS = ("markdown", "latex", "csv")
TIMES = ("seconds", "fps", "peak_mib", "encoder_passes", "encoder_passes_saved")
"""Columns that differ from run to run; all others are repeatable."""


def tidy(results: Iterable[tuple[str, Mapping[str, Any]]]) -> pd.DataFrame:
    """One row per experiment, sequence and object, from pairs of an experiment's name and a record.

    Columns: ``J``, ``F``, ``JF`` and their recall and decay, ``R@0.1`` … (all 0..1), ``scored`` frames; of the object also ``entry``
    (its first frame), ``asked``, ``NoC`` and ``pseudo`` (numbers of requests, of user and of pseudo-corrections), ``gaps`` and ``span`` (frames between
    prompts: their number and sum), ``ACI``, ``V`` (stability, LVOS) and the measures of VOTS (``Q``, ``ACC``, ``ROB``, ``NRE``, ``DRE``, ``ADQ``; NaN unless
    every frame has truth); of the sequence ``frames``, ``seconds``, ``fps``, ``peak_mib``, ``bank_mib`` (tensors of the memory), ``log_gram``
    (log10|Γ| at the end), ``unseen`` (LVOS; NaN where unknown), encoder passes; and ``scale``, ``hardware``, ``precision``. ``NoC`` and what follows from it is NaN without a user.
    """
    return pd.DataFrame([row for name, record in results for row in _rows(name, record)])


def _rows(name: str, record: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    where, user = record["machine"], record["user"] != "none"
    for o in record["objects"]:
        length = max(record["frames"] + record["start"] - o["entry"], 1)
        prompts = [t - o["entry"] for t in o["clicked"]]
        between = gaps(prompts, length) if user else ()
        row = {"experiment": name, "dataset": record["dataset"], "sequence": record["sequence"], "object": o["id"]}
        row |= {m: _number(o[m]) for m in ("J", "F", "JF", "J_recall", "F_recall", "J_decay", "F_decay")}
        row |= {f"R@{tau}": _number(value) for tau, value in o["R"].items()}
        row |= {m: _number((o.get("vots") or {}).get(m)) for m in MEASURES}
        yield row | {
            "V": _number(o.get("V")), "unseen": _number(record.get("unseen")), "bank_mib": _number(record["memory"].get("mib")),
            "scored": o["scored"], "entry": o["entry"], "asked": len(o["asked"]) if user else math.nan,
            "NoC": len(prompts) if user else math.nan, "pseudo": len(o["pseudo"]),
            "gaps": len(between) if user else math.nan, "span": float(sum(between)) if user else math.nan,
            "ACI": aci(prompts, length) if user else math.nan, "clip_fps": _number(record["clip_fps"]),
            "frames": record["frames"], "seconds": record["seconds"], "fps": _number(record["fps"]), "peak_mib": _number(record["peak_mib"]),
            "log_gram": _number(record["memory"]["log_gram"]),
            "encoder_passes": record["encoder"]["passes"], "encoder_passes_saved": record["encoder"]["saved"],
            "scale": record["scale"], "hardware": where["gpu"] or where["cpu"], "precision": record["facts"]["precision"],
        }  # fmt: skip


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def summary(table: pd.DataFrame, by: Sequence[str] = ("experiment", "dataset")) -> pd.DataFrame:
    """One row per experiment and data set, in order: means over objects of J, F, J&F and R@τ (0..1), NoC (sum), ACI (mean over
    objects), IDI in seconds (mean of all gaps; needs the clips' rate), numbers of sequences, objects, frames, seconds, fps and
    the largest peak memory; of VOTS means over sequences of means over objects. Where videos are known as seen and unseen, ``J_seen``,
    ``J_unseen``, … ``V_unseen`` and as ``lvos_J``, ``lvos_F``, ``lvos_JF``, ``lvos_V`` the mean of the two halves (LVOS)."""
    rows = []
    for key, part in table.groupby(list(by), sort=False):
        clips = part.drop_duplicates(["dataset", "sequence"])
        row = dict(zip(by, key, strict=True))
        row |= {m: part[m].mean() for m in part.columns if m in ("J", "F", "JF") or m.startswith("R@")}
        row |= {m: part.groupby("sequence")[m].mean().mean() for m in MEASURES if m in part.columns}
        row |= _halves(part)
        span = (part["span"] / part["clip_fps"]).sum(skipna=False)
        row |= {
            "NoC": part["NoC"].sum(min_count=1), "ACI": part["ACI"].mean(), "IDI": span / part["gaps"].sum(min_count=1),
            "videos": len(clips), "objects": len(part), "frames": clips["frames"].sum(), "seconds": clips["seconds"].sum(),
            "fps": clips["frames"].sum() / clips["seconds"].sum() if clips["seconds"].sum() else math.nan, "peak_mib": clips["peak_mib"].max(),
            "bank_mib": clips["bank_mib"].max() if "bank_mib" in clips else math.nan,
            "hardware": ", ".join(dict.fromkeys(part["hardware"])),
        }  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows)


def _halves(part: pd.DataFrame) -> dict[str, float]:
    if "unseen" not in part or part["unseen"].isna().any():
        return {}
    objects = [LvosObject(r["sequence"], r["object"], r["scored"], r["J"], r["F"], r["V"], bool(r["unseen"])) for r in part.to_dict("records")]
    return {name if "_" in name else f"lvos_{name}": value for name, value in lvos_summary(objects).items()}


def export(table: pd.DataFrame, form: str = "markdown", digits: int = 3) -> str:
    """The table as text, without its index: ``"markdown"``, ``"latex"`` (booktabs) or ``"csv"``.

    Numbers have ``digits`` decimals in Markdown and LaTeX and all of them in CSV; what was not measured is blank.
    """
    if form == "csv":
        return table.to_csv(index=False, lineterminator="\n")
    if form not in FORMATS:
        raise InputError(f"format {form!r} is unknown; choose {', '.join(FORMATS)}")
    heads = [str(name) for name in table.columns]
    body = [[_cell(value, digits) for value in row] for row in table.itertuples(index=False)]
    right = [bool(pd.api.types.is_numeric_dtype(kind)) for kind in table.dtypes]
    return _markdown(heads, body, right) if form == "markdown" else _latex(heads, body, right)


def save(table: pd.DataFrame, path: str | PathLike[str], digits: int = 3) -> None:
    """Write a table whole or not at all; ``.md``, ``.tex`` or ``.csv`` says in which form."""
    forms = {".md": "markdown", ".tex": "latex", ".csv": "csv"}
    form = forms.get(Path(path).suffix)
    if form is None:
        raise InputError(f"{path} must end in .md, .tex or .csv")
    with atomic_path(path) as partial:
        partial.write_text(export(table, form, digits), encoding="utf-8")


def _cell(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def _markdown(heads: list[str], body: list[list[str]], right: list[bool]) -> str:
    cells = [[text.replace("|", "\\|") for text in row] for row in [heads, *body]]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(heads))]

    def line(row: list[str]) -> str:
        return "| " + " | ".join(text.rjust(w) if r else text.ljust(w) for text, w, r in zip(row, widths, right)) + " |"

    rule = "|" + "|".join("-" * (w + 1) + ":" if r else "-" * (w + 2) for w, r in zip(widths, right)) + "|"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])]) + "\n"


_TEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "†": r"\textdagger{}", "Δ": r"$\Delta$", "Γ": r"$\Gamma$"}  # fmt: skip


def _latex(heads: list[str], body: list[list[str]], right: list[bool]) -> str:
    rows = [" & ".join("".join(_TEX.get(c, c) for c in text) for text in row) + r" \\" for row in [heads, *body]]
    form = "".join("r" if r else "l" for r in right)
    return "\n".join([rf"\begin{{tabular}}{{{form}}}", r"\toprule", rows[0], r"\midrule", *rows[1:], r"\bottomrule", r"\end{tabular}"]) + "\n"

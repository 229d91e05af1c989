"""The table that a score is: one record for each object, for each sequence, and for the whole."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lazyvos.masks.atomic import atomic_path

if TYPE_CHECKING:
    import pandas

Level = Literal["objects", "sequences", "global"]


@dataclass(frozen=True)
class Series:
    """One object frame by frame: ``names`` of the frames, ``j``, ``f`` (float64 ``[T]``), ``present`` and ``predicted`` (bool ``[T]``:
    is the mask of the truth, of the prediction not empty), and ``scored`` (bool ``[T]``: did the protocol count the frame)."""

    names: tuple[str, ...]
    j: np.ndarray
    f: np.ndarray
    present: np.ndarray
    predicted: np.ndarray
    scored: np.ndarray


@dataclass(frozen=True)
class ScoreTable:
    """What `lazyvos.score.score_folder` returns. Values are in 0..1 (decay -1..1); NaN where there is nothing to average.

    Attributes
    ----------
    protocol: how was scored.
    summary: the numbers of the whole, with counts of ``sequences``, ``objects`` and scored ``frames`` and a list of ``notes``.
    sequences, objects: one record (plain dict) for each sequence and each object.
    series: frame by frame values for each (sequence, object id).
    """

    protocol: str
    summary: dict[str, Any]
    sequences: list[dict[str, Any]]
    objects: list[dict[str, Any]]
    series: Mapping[tuple[str, int], Series] = field(default_factory=dict, repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: NaN is ``None``; without the series."""
        return {"protocol": self.protocol, **_clean(self.summary), "sequences": _clean(self.sequences), "objects": _clean(self.objects),
                "counts": {k: self.summary[k] for k in ("sequences", "objects", "frames")}}  # fmt: skip

    def rows(self, level: Level = "objects") -> list[dict[str, Any]]:
        """Records of a level; "global" gives one."""
        if level == "global":
            flat = {k: v for k, v in self.summary.items() if not isinstance(v, dict | list)}
            for name, part in self.summary.items():
                if isinstance(part, dict):
                    flat |= {f"{name}.{k}": v for k, v in part.items()}
            return [{"protocol": self.protocol, **flat}]
        return {"objects": self.objects, "sequences": self.sequences}[level]

    def to_csv(self, folder: str | PathLike[str]) -> list[Path]:
        """Write ``objects.csv``, ``sequences.csv`` and ``global.csv``, each whole or not at all; NaN is an empty cell."""
        return [self._write(Path(folder) / f"{level}.csv", self.rows(level)) for level in ("objects", "sequences", "global")]

    def to_frame(self, level: Level = "objects") -> pandas.DataFrame:
        """The records of a level as a pandas DataFrame."""
        import pandas

        return pandas.DataFrame(self.rows(level))

    @staticmethod
    def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            for row in rows:
                cells = (row.get(column) for column in columns)
                writer.writerow(["" if v is None or (isinstance(v, float) and math.isnan(v)) else v for v in cells])
        return path


def _clean(value: Any) -> Any:
    """Copy with None for NaN."""
    if isinstance(value, dict):
        return {k: _clean(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_clean(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value

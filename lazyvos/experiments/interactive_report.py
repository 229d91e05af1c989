"""What sessions of the interactive benchmark gave: a row per frame, a row per round, and the numbers of the tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lazyvos.metrics.interactive import Curves, curves, per_round

MEASURES = ("JF", "J", "F")
WALL_CLOCK = ("seconds", "seconds_so_far", "AUC-JF", "AUC-J", "AUC-F", "JF@60s", "J@60s", "F@60s", "late")
"""Figures that depend on the machine; all others are repeatable where no sample ran out of time."""


@dataclass(frozen=True, eq=False)
class Sessions:
    """Finished samples.

    Attributes
    ----------
    records: one for each sample, as :func:`lazyvos.experiments.interactive.play` makes it.
    rounds: how many a sample should have. seconds_per_object: wall time for all of them and each object, or ``None``.
    reused: how many of the records were found, not made.
    """

    records: tuple[Mapping[str, Any], ...]
    rounds: int = 8
    seconds_per_object: float | None = 240.0
    reused: int = 0

    @property
    def samples(self) -> list[tuple[str, int, int]]:
        """(sequence, sample, object) of everything that counts, also where no round was finished in time."""
        return [(r["video"], r["sample"], o) for r in self.records for o in r["objects"]]

    @property
    def frame(self) -> pd.DataFrame:
        """One row per sequence, sample, round, object and frame.

        Columns: those of :mod:`lazyvos.metrics.interactive`; ``shown``, the frame that was clicked; ``clicks``, how many the object got there
        in this round (the same in all rows of the round).
        """
        parts = []
        for r in self.records:
            objects, frames = np.array(r["objects"]), np.array(r["frames"])
            for n, one in enumerate(r["rounds"], 1):
                j, f = np.array(one["J"]), np.array(one["F"])  # [T, O]
                got = Counter(click[0] for click in one["clicks"])
                parts.append(
                    pd.DataFrame({
                        "sequence": r["video"], "sample": r["sample"], "round": n, "object": np.repeat(objects, len(frames)),
                        "frame": np.tile(frames, len(objects)), "J": j.T.ravel(), "F": f.T.ravel(), "JF": ((j + f) / 2).T.ravel(),
                        "seconds": one["seconds"], "shown": one["frame"], "clicks": np.repeat([got[o] for o in r["objects"]], len(frames)),
                    })
                )  # fmt: skip
        columns = ["sequence", "sample", "round", "object", "frame", "J", "F", "JF", "seconds", "shown", "clicks"]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)

    def curves(self, metric: str = "JF") -> Curves:
        """The metric (``"JF"``, ``"J"`` or ``"F"``) over rounds and over time."""
        return curves(self.frame, self.rounds, metric, seconds_per_object=self.seconds_per_object, samples=self.samples)

    def per_round(self) -> pd.DataFrame:
        """A row per round: ``J``, ``F``, ``JF`` (mean over samples and objects), ``clicks`` so far per object, and beside them the wall time: ``seconds`` of the
        round and ``seconds_so_far`` (mean over samples)."""
        table = per_round(self.frame, self.rounds, samples=self.samples)
        times = table.drop_duplicates(["sequence", "sample", "round"]).groupby("round")["seconds"].mean()
        out = table.groupby("round")[list(MEASURES)].mean()
        out["clicks"] = np.cumsum([sum(len(r["rounds"][n]["clicks"]) for r in self.records if n < len(r["rounds"])) for n in range(self.rounds)])
        out["clicks"] /= len(self.samples)
        return out.assign(seconds=times, seconds_so_far=times.cumsum()).reset_index()

    def summary(self) -> dict[str, Any]:
        """Numbers of the whole.

        Without a clock: ``JF``, ``J``, ``F`` after the last round; ``R-AUC-JF`` … as published and ``R-AUC-JF-rounds`` … between the first and the last round;
        ``NoC``, clicks per object and sample. By the clock of ``hardware``: ``AUC-JF`` …, ``JF@60s`` …, ``seconds`` per sample, ``late`` samples (out of
        time), ``timeout`` of the curve.
        """
        rounds = self.per_round()
        found: dict[str, Any] = {
            "samples": len(self.records), "sequences": len({r["video"] for r in self.records}), "objects": len(self.samples), "rounds": self.rounds,
        }  # fmt: skip
        lines = {m: self.curves(m) for m in MEASURES}
        found |= {m: float(line.metric[-1]) for m, line in lines.items()}
        found |= {f"R-AUC-{m}": line.r_auc() for m, line in lines.items()}
        found |= {f"R-AUC-{m}-rounds": line.r_auc("rounds") for m, line in lines.items()}
        found |= {"NoC": float(rounds["clicks"].iloc[-1])}
        found |= {f"AUC-{m}": line.auc for m, line in lines.items()} | {f"{m}@60s": line.at(60) for m, line in lines.items()}
        machines = dict.fromkeys(str(r["machine"]["gpu"] or r["machine"]["cpu"]) for r in self.records if r.get("machine"))
        return found | {
            "seconds": float(rounds["seconds_so_far"].iloc[-1]), "timeout": lines["JF"].timeout,
            "late": sum(bool(r["late"]) for r in self.records), "hardware": ", ".join(machines),
        }  # fmt: skip

"""What a run notes besides J and F: absences (VOTS), the volume of the memory over time, and the bytes it holds."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from lazyvos.memory.base import Memory
from lazyvos.metrics.jf import region
from lazyvos.metrics.vots import MEASURES, vots_object
from lazyvos.types import Decision


class Absences:
    """Overlap, and whether truth and prediction show the object, for every frame with truth (VOTS challenge).

    Frames before the first one tracked count as noticed absences: no object has a mask there.
    """

    def __init__(self, objects: Iterable[int], before: int = 0) -> None:
        self._rows: dict[int, list[tuple[float, bool, bool]]] = {o: [(1.0, False, False)] * before for o in objects}

    def update(self, labels: np.ndarray, truth: Any, known: Mapping[int, float]) -> None:
        """Note a frame. ``labels uint8 [H, W]``; ``truth`` the same, or a mask for each object (they may overlap); ``known``: overlaps
        against label maps that are computed already."""
        for o, rows in self._rows.items():
            mine, true = labels == o, truth[o] if isinstance(truth, Mapping) else truth == o
            overlap = None if isinstance(truth, Mapping) else known.get(o)
            rows.append((region(mine, true) if overlap is None else overlap, bool(true.any()), bool(mine.any())))

    def predicted(self, o: int) -> list[int]:
        """For each frame with truth, 1 where the prediction shows object ``o``."""
        return [int(row[2]) for row in self._rows[o]]

    def measures(self, o: int, frames: int) -> dict[str, Any] | None:
        """The measures of :mod:`lazyvos.metrics.vots` and their counts; ``None`` unless all ``frames`` had truth."""
        rows = np.array(self._rows[o], np.float64).reshape(-1, 3)
        if len(rows) != frames:
            return None
        found = vots_object(rows[:, 0], rows[:, 1] > 0, rows[:, 2] > 0, id=o)
        plain = {m: getattr(found, m) for m in MEASURES}
        counts = dict(zip(("tracked", "drifted", "missed", "hallucinated", "noticed"), found.counts, strict=True))
        return {**{m: None if math.isnan(v) else v for m, v in plain.items()}, **counts}


class Volume:
    """log10|Γ| over time as its steps, when the slots were first full, and the most bytes the memory held."""

    def __init__(self, memory: Memory) -> None:
        self.memory, self.bytes = memory, 0
        self.steps: list[list[float | None]] = []
        self.full: int | None = None

    def update(self, t: int, decision: Decision) -> None:
        """Note what became of frame ``t``."""
        log = decision.log_gram_after
        if log is not None:
            value = log if math.isfinite(log) else None
            if not self.steps or self.steps[-1][1] != value:
                self.steps.append([t, value])
        slots = getattr(self.memory, "slots", None)
        if self.full is None and slots is not None and len(getattr(self.memory, "stored", ())) >= slots:
            self.full = t
        if decision.kept:
            self.bytes = max(self.bytes, held_bytes(self.memory))

    def record(self) -> dict[str, Any]:
        """Plain values: frames stored at the end, log10|Γ| at the end, its steps ``[t, log10|Γ|]`` (``None``: singular), the frame at
        which all slots were first taken, MiB held at most."""
        return {
            "frames": list(self.memory.frames()), "log_gram": self.steps[-1][1] if self.steps else None, "steps": self.steps,
            "full": self.full, "mib": self.bytes / 2**20,
        }  # fmt: skip


def held_bytes(thing: Any) -> int:
    """Bytes of all tensors that an object and the objects in it hold, storage by storage."""
    storages: dict[int, int] = {}
    seen: set[int] = set()
    todo = [thing]
    while todo:
        one = todo.pop()
        if isinstance(one, torch.Tensor):
            storage = one.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(one, (str, bytes, int, float, type(None), np.ndarray, type, types.ModuleType)) or id(one) in seen:
            continue
        else:
            seen.add(id(one))
            if isinstance(one, Mapping):
                todo.extend(one.values())
            elif isinstance(one, (list, tuple, set, frozenset)):
                todo.extend(one)
            else:
                todo.extend(getattr(one, "__dict__", {}).values())
    return sum(storages.values())

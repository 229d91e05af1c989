"""What happened in a session: an event log that survives a crash, and one small record per frame for plots."""

from __future__ import annotations

import json
import math
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lazyvos.types import InputError

KEEP = 20_000
"""Events and frames that stay in memory; the file of a journal has all events."""


class Moment(NamedTuple):
    """One committed frame in numbers; the tuples run along ``objects``.

    ``areas`` are pixels of the final masks; ``scores`` and ``deltas`` (S_R, ΔS_R) belong to the prediction before any
    correction; ``asked``, ``pseudo`` and ``clicked`` are ids of objects; ``kept`` says that the memory took the frame;
    ``seconds`` is computing time.
    """

    t: int
    objects: tuple[int, ...]
    areas: tuple[int, ...]
    scores: tuple[float | None, ...]
    deltas: tuple[float | None, ...]
    asked: tuple[int, ...]
    pseudo: tuple[int, ...]
    clicked: tuple[int, ...]
    kept: bool
    log_gram: float | None
    seconds: float


class Journal:
    """Events as plain dicts: the newest ``keep`` in memory, all of them as JSON lines in ``path`` where one is given.

    Every event has ``event`` (its name) and ``time`` (seconds since 1970). Lines are flushed one by one, so a crash
    loses at most the line being written. An existing file is continued.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, keep: int = KEEP) -> None:
        self.path = None if path is None else Path(path)
        self.events: deque[dict[str, Any]] = deque(maxlen=keep)
        self._file = None
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
            self._mend()

    def _mend(self) -> None:
        """End a line that a crash left open."""
        assert self._file is not None
        if self._file.seek(0, os.SEEK_END):
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")

    def add(self, event: str, **facts: Any) -> dict[str, Any]:
        """Write one event and return it. Numbers of numpy become plain ones, NaN and infinities ``None``."""
        entry = {"event": event, "time": round(time.time(), 3), **{name: plain(fact) for name, fact in facts.items()}}
        self.events.append(entry)
        if self._file is not None:
            self._file.write(json.dumps(entry, ensure_ascii=False, allow_nan=False).encode() + b"\n")
            self._file.flush()
        return entry

    def close(self) -> None:
        """Close the file; events are still kept in memory afterwards."""
        if self._file is not None:
            self._file.close()
            self._file = None


def journal_events(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Events of a journal file one after another; lines that a crash cut off are left out.

    Raises :class:`InputError` where the file is missing.
    """
    source = Path(path)
    if not source.is_file():
        raise InputError(f"{source} does not exist; give the path of a session.jsonl file")
    with source.open("rb") as lines:
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and "event" in entry:
                yield entry


def read_journal(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """All events of a journal file, see :func:`journal_events`.

    Raises :class:`InputError` where the file is missing or holds no event.
    """
    events = list(journal_events(path))
    if not events:
        raise InputError(f"{path} holds no session events; give a session.jsonl file written by a session")
    return events


def plain(value: Any) -> Any:
    """``value`` with nothing but dicts, lists, strings, finite numbers, booleans and ``None`` (string keys)."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    return str(value)

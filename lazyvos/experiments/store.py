"""Results on disk: one file for each experiment and sequence, whole or not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lazyvos.masks.atomic import atomic_path
from lazyvos.outputs import make_folder


@dataclass(frozen=True)
class Store:
    """A folder with ``KEY/SEQUENCE.json``; the key is the fingerprint of an experiment.

    Equal experiments share results whatever they are called, so tables with common rows may share a folder.
    """

    root: Path

    @classmethod
    def at(cls, root: str | PathLike[str]) -> Store:
        """Make the folder; raises :class:`lazyvos.types.InputError` where that cannot be."""
        make_folder(Path(root))
        return cls(Path(root))

    def file(self, key: str, sequence: str) -> Path:
        """Where a result is or will be."""
        return self.root / key / f"{quote(sequence, safe=' ')}.json"

    def load(self, key: str, sequence: str, clip: str) -> dict[str, Any] | None:
        """The result of ``sequence``, if it is there and was made from the same frames (fingerprint ``clip``)."""
        record = _read(self.file(key, sequence))
        if record is None or (record.get("key"), record.get("sequence"), record.get("clip")) != (key, sequence, clip):
            return None
        return record

    def save(self, record: dict[str, Any]) -> Path:
        """Write a result whole."""
        file = self.file(record["key"], record["sequence"])
        with atomic_path(file) as partial:
            partial.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
        return file

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All results, by key and sequence."""
        for file in sorted(self.root.glob("*/*.json")):
            record = _read(file)
            if record is not None and record.get("key") == file.parent.name:
                yield record


def _read(file: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None

"""The file of a Gram log: JSON lines with the offers, the Gram matrices they met and the thumbnails."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lazyvos.gram_offer import GramState, Offer
from lazyvos.masks.atomic import atomic_path
from lazyvos.types import InputError

SUFFIX = ".gram.jsonl"


@dataclass
class Content:
    """What a file holds. ``head``: plain values; ``state``: the memory at the end; ``thumbs``: JPEG by frame number."""

    head: Mapping[str, Any]
    offers: Sequence[Offer] = ()
    state: GramState = field(default_factory=GramState)
    thumbs: Mapping[int, bytes] = field(default_factory=dict)


def gram_path(path: str | os.PathLike[str]) -> Path:
    """The file of a Gram log: ``path`` itself, or beside the session log ``path``, or in the folder ``path``.

    Raises :class:`InputError` for another kind of file name.
    """
    given = Path(path)
    if given.name.endswith(SUFFIX):
        return given
    if given.suffix == ".jsonl":
        return given.with_suffix(SUFFIX)
    if given.suffix and not given.is_dir():
        raise InputError(f"{given} is no Gram log; give a folder, a session log (.jsonl) or a file that ends with {SUFFIX}")
    return given / f"session{SUFFIX}"


def write_content(path: str | os.PathLike[str], content: Content) -> Path:
    """Write it, whole or not at all; returns the file, see :func:`gram_path`."""
    target = gram_path(path)
    with atomic_path(target) as temporary, temporary.open("w", encoding="utf-8") as file:
        for line in _lines(content):
            file.write(json.dumps(line, allow_nan=False) + "\n")
    return target


def read_content(path: str | os.PathLike[str]) -> Content:
    """What :func:`write_content` wrote. Raises :class:`InputError` for a missing, damaged or foreign file."""
    source = gram_path(path)
    if not source.is_file():
        raise InputError(f"{source} does not exist; record one with GramLog().follow(session) before tracking")
    try:
        return _content([json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{source} is no Gram log or is damaged; give a file that GramLog.save wrote") from error


def _lines(content: Content) -> Iterator[dict[str, Any]]:
    yield {"kind": "gram log", "format": 1, **content.head}
    names: dict[int, int] = {}
    for state in (*(offer.state for offer in content.offers), content.state):
        if id(state) not in names:
            names[id(state)] = len(names)
            rows = [_numbers(row[: n + 1]) for n, row in enumerate(state.gram)]
            yield {"kind": "state", "entries": state.entries, "pinned": sorted(state.pinned), "gram": rows}
    for o in content.offers:
        yield {
            "kind": "offer", "t": o.t, "kept": o.kept, "reason": o.reason, "slot": o.slot, "replaced": o.replaced,
            "logs": _numbers((o.before, o.after)), "state": names[id(o.state)], "number": o.number,
            "similarities": _numbers(o.similarities), "what_if": _numbers(o.what_if),
        }  # fmt: skip
    for t, data in content.thumbs.items():
        yield {"kind": "thumb", "t": t, "jpeg": base64.b64encode(data).decode("ascii")}
    yield {"kind": "now", "state": names[id(content.state)]}


def _content(lines: list[dict[str, Any]]) -> Content:
    head, *rest = lines
    if head["kind"] != "gram log" or head["format"] != 1 or rest[-1]["kind"] != "now":
        raise ValueError("its first or last line is another")
    states: list[GramState] = []
    offers: list[Offer] = []
    thumbs: dict[int, bytes] = {}
    for line in rest:
        if line["kind"] == "state":
            states.append(GramState(tuple(line["entries"]), frozenset(line["pinned"]), _square(line["gram"])))
        elif line["kind"] == "offer":
            before, after = (None if value is None else float(value) for value in line["logs"])
            offers.append(Offer(
                line["t"], line["kept"], line["reason"], line["slot"], line["replaced"], before, after, states[line["state"]],
                _array(line["similarities"]), _array(line["what_if"]), line["number"],
            ))  # fmt: skip
        elif line["kind"] == "thumb":
            thumbs[line["t"]] = base64.b64decode(line["jpeg"], validate=True)
    return Content(head, offers, states[rest[-1]["state"]], thumbs)


def _numbers(values: Iterable[float | None] | None) -> list[float | str | None] | None:
    """Plain numbers for JSON; infinities as text."""
    if values is None:
        return None
    return [None if v is None else float(v) if np.isfinite(v) else str(float(v)) for v in values]


def _array(values: list[float | str] | None) -> np.ndarray | None:
    return None if values is None else np.array([float(value) for value in values])


def _square(rows: list[list[float | str]]) -> np.ndarray:
    gram = np.zeros((len(rows), len(rows)))
    for n, row in enumerate(rows):
        gram[n, : n + 1] = gram[: n + 1, n] = [float(value) for value in row]
    return gram

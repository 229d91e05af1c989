"""Validate a copy of a dataset: everything that is wrong with it, not only the first thing.

Every frame's header and end are read (its pixels with `deep`), every mask is decoded; ids are compared with the meta
file, counts with what is known of the dataset.
"""
from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lazyvos.datasets.base import folders, meta_objects
from lazyvos.datasets.catalog import Facts, davis_split, facts_of, find
from lazyvos.datasets.check_files import Found, Part, Problem, check_folder, check_vots
from lazyvos.datasets.davis import FULL, listed
from lazyvos.images import image_files
from lazyvos.types import InputError


@dataclass
class CheckReport:
    """What a check found. `ok` where there is no problem; counts are of what could be read."""

    name: str
    root: str
    layout: str
    sequences: int = 0
    frames: int = 0
    masks: int = 0
    objects: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.problems

    def as_dict(self, most: int | None = None) -> dict[str, Any]:
        """Plain values; at most `most` problems, `problem_count` tells how many there are."""
        facts = {key: value for key, value in asdict(self).items() if key != "problems"}
        return {"ok": self.ok, **facts, "problem_count": len(self.problems),
                "problems": [asdict(problem) for problem in self.problems[:most]]}


_Job = Callable[[], Found]


def check_dataset(root: str | PathLike[str], as_: str | None = None, *, deep: bool = False, jobs: int | None = None,
                  progress: bool = True) -> CheckReport:
    """Validate a copy of a dataset.

    Args:
        root: the folder to look at.
        as_: the dataset that it should be (a name of `catalog()`); default: told by its layout, without known counts.
        deep: decode all frames too, not only their header and end.
        jobs: threads; default: as many as there are processors, at most 8.
        progress: show a bar on stderr.

    Raises:
        InputError: `root` is no folder, `as_` is unknown, or nothing there looks like a dataset.
    """
    base = Path(root).expanduser()
    if not base.is_dir():
        raise InputError(f"{root} is not a folder; give the folder of the dataset")
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs is {jobs}; give 1 or more")
    facts = None if as_ is None else facts_of(as_)
    if facts is not None:
        base = find(facts.name, base) or base
    kind = _kind(base) if facts is None else facts.kind
    report = CheckReport(base.name if facts is None else facts.name, str(base), kind)
    plan = Found()
    work = list(_plan(base, kind, facts, deep, plan))
    report.problems += plan.problems
    results: dict[int, Found] = {}
    with ThreadPoolExecutor(jobs or min(8, os.cpu_count() or 1)) as pool:
        running = {pool.submit(job): n for n, job in enumerate(work)}
        for done in tqdm(as_completed(running), total=len(running), unit="sequence", disable=not progress, dynamic_ncols=True):
            results[running[done]] = done.result()
    for n in range(len(work)):
        found = results[n]
        report.sequences += found.frames > 0
        report.frames, report.masks = report.frames + found.frames, report.masks + found.masks
        report.objects += found.objects
        report.problems += found.problems
    if facts is not None:
        for what in ("objects", "frames", "sequences"):  # each goes before the last
            known, there = getattr(facts, what), getattr(report, what)
            if known is not None and known != there and not (what == "frames" and facts.all_frames):
                report.problems.insert(0, Problem("count", str(base), f"{facts.title} has {known} {what}, this copy has {there}"))
    return report


def _kind(base: Path) -> str:
    if (base / "list.txt").is_file() or (base / "sequences" / "list.txt").is_file():
        return "vots"
    if (base / "JPEGImages").is_dir():
        return "ytvos" if (base / "meta.json").is_file() else "lvos" if list(base.glob("*_meta.json")) else "davis"
    splits = [name for name in ("train", "valid", "val", "test") if (base / name / "JPEGImages").is_dir()]
    raise InputError(f"{base} holds neither JPEGImages/ nor list.txt; " + (
        f"give one of its splits ({', '.join(splits)}) or say which dataset it is (--as NAME)" if splits
        else "give the folder of a dataset, or say which it is (--as NAME)"))


def _plan(base: Path, kind: str, facts: Facts | None, deep: bool, found: Found) -> Iterator[_Job]:
    """One job for each sequence; what is wrong with the whole is added to `found`."""
    if kind == "vots":
        base = base if (base / "list.txt").is_file() or not (base / "sequences").is_dir() else base / "sequences"
        names = [line.strip() for line in (base / "list.txt").read_text(encoding="utf-8").splitlines() if line.strip()] \
            if (base / "list.txt").is_file() else []
        if not names:
            found.add("missing", base / "list.txt", "list.txt is missing or empty; it names the sequences, one a line")
        for name in names:
            yield partial(check_vots, base / name, deep)
        return
    split = (facts.split if facts is not None else None) or ""
    base = base / split if kind in ("ytvos", "lvos", "mose") and (base / split).is_dir() else base
    images, annotations = base / "JPEGImages", base / "Annotations"
    if facts is not None and facts.all_frames:
        images = next((place for place in (base.parent / f"{split}_all_frames/JPEGImages", base.parent / f"all_frames/{split}_all_frames/JPEGImages")
                       if place.is_dir()), images)
    for place in (images, annotations):
        if not place.is_dir():
            found.add("missing", place, f"{place} does not exist")
    if not images.is_dir():
        return
    for part in _meta_parts(base, images, annotations, kind, split, found) if kind in ("ytvos", "lvos") \
            else _davis_parts(base, images, annotations, kind, facts, found):
        yield partial(check_folder, part, deep)


def _davis_parts(base: Path, images: Path, annotations: Path, kind: str, facts: Facts | None, found: Found) -> Iterator[Part]:
    nested = [name for name in folders(images) if folders(images / name) and not image_files(images / name)]
    wanted = FULL if facts is not None and facts.resolution == "full" else ("480p", *FULL)
    level = next((name for name in wanted if name in nested), nested[0] if nested else "")
    images, annotations = images / level, annotations / level
    names = folders(images)
    if facts is not None and kind in ("davis16", "davis17", "interactive"):
        try:
            names = listed(base, Path(davis_split(base, kind, facts.split or "val") or facts.split or "val"))
        except InputError as error:
            found.add("missing", base / "ImageSets", str(error))
    if kind == "interactive":
        for name in names:
            sets = sorted((base / "Scribbles" / name).glob("*.json"))
            if len(sets) < 3:
                found.add("missing", base / "Scribbles" / name, f"{name} has {len(sets)} of 3 sets of scribbles")
    split = facts.split if facts is not None else None
    dense = kind in ("davis16", "davis17", "interactive", "mose") and split != "test-dev" and not (kind == "mose" and split != "train")
    for name in sorted(set(folders(annotations)) - set(folders(images))) if annotations.is_dir() else ():
        found.add("stray", annotations / name, f"masks of {name} but no frames of it")
    for name in names:
        yield Part(name, images / name, annotations / name, dense)


def _meta_parts(base: Path, images: Path, annotations: Path, kind: str, split: str, found: Found) -> Iterator[Part]:
    metas = [base / "meta.json"] if kind == "ytvos" else [base / f"{split}_meta.json"] if split else sorted(
        file for file in base.glob("*_meta.json"))[:1]
    try:
        meta = meta_objects(metas[0])
    except InputError as error:
        found.add("meta", metas[0], str(error))
        return
    for name in sorted(set(folders(images)) - set(meta)):
        found.add("meta", images / name, f"frames of {name}, which {metas[0].name} does not name")
    for name, objects in sorted(meta.items()):
        entries: dict[int, str | None] = {}
        wanted: set[str] = set()
        for key, entry in objects.items():
            if kind == "ytvos":
                frames = [str(frame) for frame in entry.get("frames") or []]
                entries[key] = min(frames) if frames else None
                wanted.update(frames)
            else:
                limits = entry.get("frame_range")
                start = str(limits.get("start", "")) if isinstance(limits, dict) else ""
                entries[key] = f"{int(start):08d}" if start.isdigit() else None
            if entries[key] is None:
                found.add("meta", metas[0], f"{metas[0].name} gives no frames for object {key} of {name}")
        yield Part(name, images / name, annotations / name, kind == "lvos" and split in ("train", "val"), entries, frozenset(wanted))

"""Datasets by name: what is known about each, where its copy lies on this machine, and how to open it."""
from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any

from lazyvos.datasets.base import Dataset, some
from lazyvos.datasets.davis import DavisFolder, InteractiveDavis
from lazyvos.datasets.generated import GeneratedBenchmark
from lazyvos.datasets.longvideo import LongVideo
from lazyvos.datasets.lvos import Lvos
from lazyvos.datasets.mose import Mose
from lazyvos.datasets.vots import Vots
from lazyvos.datasets.youtube import YouTubeVOS
from lazyvos.registry import weights_folder
from lazyvos.types import InputError

GENERATED = "generated"


@dataclass(frozen=True)
class Facts:
    """What is known about a dataset (`data/datasets.toml`); None and empty text mean unknown.

    Attributes:
        name: as `open_dataset` takes it.
        kind: which class reads it: davis16, davis17, interactive, ytvos, lv1, lvos, vots, mose.
        title, year, paper, url, licence, about: for people.
        get: what to get from the page, `layout`: the files it has to become.
        folders: where its copy is looked for, below the folder of all datasets.
        split, resolution, all_frames: which part of the copy it is.
        sequences, frames, objects: numbers of the split.
    """

    name: str
    kind: str
    title: str
    year: int | None = None
    paper: str = ""
    url: str = ""
    licence: str = ""
    about: str = ""
    get: str = ""
    layout: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    split: str | None = None
    resolution: str | None = None
    all_frames: bool = False
    sequences: int | None = None
    frames: int | None = None
    objects: int | None = None


@cache
def catalog() -> Mapping[str, Facts]:
    """All known datasets by name; raises InputError where the package lacks its list."""
    beside = Path(__file__).resolve().parents[2] / "data" / "datasets.toml"
    try:
        text = beside.read_text(encoding="utf-8") if beside.is_file() else (
            files("lazyvos_data").joinpath("datasets.toml").read_text(encoding="utf-8"))
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise InputError("the package lacks its list of datasets, datasets.toml; install lazyvos again") from error
    known = {field.name for field in fields(Facts)}
    found: dict[str, Facts] = {}
    table: dict[str, dict[str, Any]] = {}
    for name, entry in tomllib.loads(text).items():
        base = {key: value for key, value in table[entry["like"]].items() if key not in ("sequences", "frames", "objects")} \
            if "like" in entry else {}
        table[name] = {**base, **entry, "name": name}
        values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table[name].items()}
        found[name] = Facts(**{key: value for key, value in values.items() if key in known})
    return found


def facts_of(name: str) -> Facts:
    """What is known about a dataset; raises InputError for an unknown name."""
    if name not in catalog():
        raise InputError(f"there is no dataset {name!r}; there are {', '.join(catalog())}, generated:<suite>, "
                         "and any folder in DAVIS layout")
    return catalog()[name]


def data_folder() -> Path:
    """The folder of all datasets: `LAZYVOS_DATA`, or `datasets` beside the folder of weights (`LAZYVOS_HOME`)."""
    given = os.environ.get("LAZYVOS_DATA")
    return Path(given).expanduser() if given else weights_folder().parent / "datasets"


def find(name: str, root: str | PathLike[str] | None = None) -> Path | None:
    """Folder of the copy of a dataset, or None.

    `root` is that folder or one above it that holds one of the dataset's usual names; without it `data_folder()` is
    looked through.
    """
    facts = facts_of(name)
    base = data_folder() if root is None else Path(root).expanduser()
    places = [base / folder for folder in facts.folders]
    if root is not None:
        places.insert(0, base)
    return next((place for place in places if place.is_dir() and _looks_right(place, facts)), None)


def _looks_right(place: Path, facts: Facts) -> bool:
    """Whether the first files that its reader asks for are there."""
    split = facts.split or ""
    if facts.kind in ("ytvos", "lvos", "mose"):
        wanted = {"ytvos": "meta.json", "lvos": f"{split}_meta.json", "mose": "JPEGImages"}[facts.kind]
        if facts.all_frames and not any((place / above / f"{split}_all_frames").is_dir() for above in ("", "all_frames", "..")):
            return False
        return (place / split / wanted).exists() or ((place / wanted).exists() and (place / "JPEGImages").is_dir())
    if facts.kind == "vots":
        return (place / "list.txt").is_file() or (place / "sequences").is_dir()
    if not (place / "JPEGImages").is_dir():
        return False
    if facts.kind == "interactive" and not (place / "Scribbles").is_dir():
        return False
    if facts.resolution == "full" and not any((place / "JPEGImages" / name).is_dir() for name in ("Full-Resolution", "1080p")):
        return False
    return facts.kind == "lv1" or davis_split(place, facts.kind, split) is not None


def davis_split(root: Path, kind: str, split: str) -> str | None:
    """The list in `root/ImageSets` that a split of DAVIS 2016 (`kind` "davis16") or 2017 has there, or None."""
    years = ("2016", "480p", "1080p") if kind == "davis16" else ("2017", "2019")
    return next((f"{year}/{split}" for year in years if (root / "ImageSets" / year / f"{split}.txt").is_file()),
                split if (root / "ImageSets" / f"{split}.txt").is_file() else None)


def open_dataset(name_or_path: str | PathLike[str], root: str | PathLike[str] | None = None,
                 split: str | None = None) -> Dataset[Any]:
    """Open a dataset by name, or a folder in DAVIS layout.

    Args:
        name_or_path: a name of `catalog()` such as "davis17-val" or "lvos-val", "generated:<suite>", or a folder.
        root: where its copy lies, or a folder above; default: the folder of all datasets (`data_folder`).
        split: another split than the name says; for a folder, a list in its `ImageSets/` (default: all sequences).

    Nothing is downloaded. Lists and headers are read, pixels not.

    Raises:
        InputError: the name is unknown, or the copy is not found or lacks a part; the message says what to do.
    """
    text = str(name_or_path)
    if text == GENERATED or text.startswith(f"{GENERATED}:"):
        return GeneratedBenchmark(text.partition(":")[2] or "smoke")
    if text not in catalog():
        folder = Path(text).expanduser()
        if not folder.is_dir():
            raise InputError(f"{text!r} is neither a folder nor a dataset; there are {', '.join(catalog())}, "
                             "generated:<suite>, and any folder in DAVIS layout")
        return DavisFolder(folder, split, check=False)
    facts = facts_of(text)
    place = find(text, root)
    if place is None:
        searched = data_folder() if root is None else Path(root)
        raise InputError(f"{facts.title} is not in {searched} (looked for {some(list(facts.folders))}); get it from "
                         f"{facts.url or 'the authors of the paper'} and unpack it there, or say where it lies "
                         f"(root=…, LAZYVOS_DATA); `lazyvos data where {text}` says what it has to look like")
    return _open(facts, place, split)


def _open(facts: Facts, place: Path, other: str | None) -> Dataset[Any]:
    split = other or facts.split
    if facts.kind in ("davis16", "davis17", "interactive"):
        chosen = davis_split(place, facts.kind, split or "val") or split
        if facts.kind == "interactive":
            return InteractiveDavis(place, chosen, resolution=facts.resolution, name=facts.name)
        return DavisFolder(place, chosen, resolution=facts.resolution, check=False, merge=facts.kind == "davis16",
                           name=facts.name)
    if facts.kind == "ytvos":
        return YouTubeVOS(place, split or "valid", all_frames=facts.all_frames, name=facts.name)
    if facts.kind == "lvos":
        return Lvos(place, split or "val", name=facts.name)
    if facts.kind == "mose":
        return Mose(place, split or "valid", name=facts.name)
    if facts.kind == "lv1":
        return LongVideo(place, other, name=facts.name)
    if facts.kind == "vots":
        return Vots(place, name=facts.name)
    raise InputError(f"datasets.toml calls {facts.name} a {facts.kind!r}, which nothing reads; install lazyvos again")

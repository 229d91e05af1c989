"""Masks that any tracker left behind, found and checked by name and size before one of them is decoded.

Four layouts are understood, for each sequence by itself:

- ``PRED/SEQ/FRAME.png``: label maps as in DAVIS (palette, grey, or black-and-white for one object);
- ``PRED/SEQ/OBJECT/FRAME.png``: one binary mask for each object and frame (BURST, SA-V); masks may overlap;
- ``PRED/SEQ/*.txt``: VOT regions, one file for each object, one line for each frame;
- ``PRED/SEQ.json`` or one file ``PRED.json`` for all: run-length codes as of COCO (see `lazyvos.predictions_rle`).

``PRED/Annotations/…`` and a folder of resolution below it are looked into too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from lazyvos.images import image_files, image_size
from lazyvos.masks.labels import read_mask
from lazyvos.predictions_rle import RleFile, decode_parts
from lazyvos.types import InputError

PNG = frozenset({".png"})


@dataclass(frozen=True)
class Wanted:
    """What is to be read of one sequence.

    Attributes
    ----------
    sequence: its name. size: height and width in pixels.
    names: for each frame that is scored, by number, the name of its file without ending.
    entries: gives for each object the first frame that needs a mask; asked only where objects have files of their own.
    object_names: how files call the objects, where not by id.
    length: number of frames of the whole sequence.
    """

    sequence: str
    size: tuple[int, int]
    names: Mapping[int, str]
    entries: Callable[[], Mapping[int, int]]
    length: int
    object_names: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Masks:
    """The undecoded prediction of one frame: a label map's file, or a source (file, code, region) for each object."""

    labels: Path | None = None
    parts: Mapping[int, Any] = field(default_factory=dict)

    def read(self, size: tuple[int, int]) -> np.ndarray | dict[int, np.ndarray]:
        """A label map ``uint8 [H, W]``, or a mask ``bool [H, W]`` for each object.

        Raises :class:`InputError` for a damaged source or another size.
        """
        if self.labels is not None:
            return read_mask(self.labels, size)
        return decode_parts(self.parts, size)


Found = tuple[dict[int, Masks], list[str]]
"""Predictions by frame number, and sentences about what is missing or has a wrong size."""


class Predictions:
    """Predictions of a whole data set. Nothing is decoded until `Masks.read`.

    Args:
        root: a folder, or a ``.json`` file of run-length codes.

    Raises:
        InputError: it does not exist or the JSON is no list of codes.
    """

    def __init__(self, root: str | PathLike[str]) -> None:
        self.root = Path(root)
        self._codes: RleFile | None = None
        if self.root.suffix.lower() == ".json" and self.root.is_file():
            self._codes = RleFile(self.root)
        elif not self.root.is_dir():
            raise InputError(f"predictions {root} do not exist; give a folder with one folder for each sequence, or a .json file")

    def find(self, wanted: Wanted) -> Found:
        """Find the masks of a sequence and read their headers; nothing is raised for what is missing."""
        if self._codes is not None:
            return _codes(self._codes, wanted)
        folder = self._folder(wanted.sequence)
        if folder is None:
            codes = self.root / f"{wanted.sequence}.json"
            if codes.is_file():
                return _codes(RleFile(codes, wanted.sequence), wanted)
            return {}, [f"{self.root / wanted.sequence} (the whole sequence)"]
        if image_files(folder, PNG):
            return _label_maps(folder, wanted)
        inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
        if inside:
            return _object_files(folder, inside, wanted)
        if any(folder.glob("*.txt")):
            return _regions(folder, wanted)
        return {}, [f"{folder} (it holds no masks)"]

    def _folder(self, sequence: str) -> Path | None:
        masks = self.root / "Annotations"
        places = [self.root, masks, *(sorted(masks.iterdir()) if masks.is_dir() else [])]
        return next((place / sequence for place in places if (place / sequence).is_dir()), None)


def refuse(problems: Sequence[str], root: Path) -> None:
    """Raise :class:`InputError` naming the first five of ``problems`` and their number, if there is one."""
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise InputError(
            f"{len(problems)} masks of {root} are missing or do not fit: {'; '.join(problems[:5])}{more}. "
            "Every scored frame needs a mask of the truth's size; write empty masks where there is no object"
        )


def _files(folder: Path, frames: Mapping[int, str], size: tuple[int, int]) -> tuple[dict[int, Path], list[str]]:
    """PNG of each frame (same name, or the same number where no name is the same), and what is wrong with them."""
    by_name = {file.stem: file for file in image_files(folder, PNG)}
    if not by_name.keys() & set(frames.values()):
        by_number = {int(name): file for name, file in by_name.items() if name.isdecimal()}
        by_name = {name: by_number[int(name)] for name in frames.values() if name.isdecimal() and int(name) in by_number}
    found, problems = {}, []
    for t, name in frames.items():
        file = by_name.get(name)
        if file is None:
            problems.append(str(folder / f"{name}.png"))
            continue
        try:
            height, width = mask_size(file)
        except InputError as error:
            problems.append(str(error).split(";")[0])
            continue
        if (height, width) != tuple(size):
            problems.append(f"{file} is {width}x{height}, not {size[1]}x{size[0]}")
            continue
        found[t] = file
    return found, problems


def mask_size(file: Path) -> tuple[int, int]:
    """Height and width of a PNG from its first bytes (ten times faster than opening it, which counts with 100,000 files).

    Raises :class:`InputError` where it is no image.
    """
    with file.open("rb") as opened:
        head = opened.read(24)
    if len(head) < 24 or not head.startswith(b"\x89PNG") or head[12:16] != b"IHDR":
        return image_size(file)  # another format, or damaged
    return int.from_bytes(head[20:24]), int.from_bytes(head[16:20])


def _codes(file: RleFile, wanted: Wanted) -> Found:
    found, problems = file.find(wanted.sequence, wanted.names, wanted.size, wanted.length)
    return {t: Masks(parts=parts) for t, parts in found.items()}, problems


def _label_maps(folder: Path, wanted: Wanted) -> Found:
    files, problems = _files(folder, wanted.names, wanted.size)
    return {t: Masks(labels=file) for t, file in files.items()}, problems


def _object_files(folder: Path, inside: list[Path], wanted: Wanted) -> Found:
    at, problems = _by_id([(path.name, path) for path in inside], wanted, folder)
    entries = wanted.entries()
    problems += [f"{folder / str(wanted.object_names.get(k, k))} (object {k})" for k in sorted(set(entries) - set(at))]
    found: dict[int, dict[int, Path]] = {t: {} for t in wanted.names}
    for k, place in at.items():
        needed = {t: name for t, name in wanted.names.items() if t >= entries.get(k, wanted.length)}
        files, wrong = _files(place, needed, wanted.size)
        extra = {t: name for t, name in wanted.names.items() if t not in needed and (place / f"{name}.png").is_file()}
        more, wrong_too = _files(place, extra, wanted.size)
        problems += wrong + wrong_too
        for t, file in {**files, **more}.items():
            found[t][k] = file
    return {t: Masks(parts=parts) for t, parts in found.items()}, problems


def _regions(folder: Path, wanted: Wanted) -> Found:
    from lazyvos.datasets.vots import read_regions

    files = [f for f in sorted(folder.glob("*.txt")) if not re.search(r"(time|confidence|score)", f.stem.removeprefix(wanted.sequence))]
    named = [(file.stem.removeprefix(wanted.sequence).strip("_"), file) for file in files]
    at, problems = _by_id(named, wanted, folder)
    problems += [f"{folder / f'{wanted.sequence}_{wanted.object_names.get(k, k)}.txt'} (object {k})"
                 for k in sorted(set(wanted.entries()) - set(at))]  # fmt: skip
    found: dict[int, dict[int, str]] = {t: {} for t in wanted.names}
    for k, file in at.items():
        lines = read_regions(file)
        if len(lines) != wanted.length:
            problems.append(f"{file} has {len(lines)} lines, not one for each of {wanted.length} frames")
            continue
        for t in wanted.names:
            found[t][k] = lines[t]
    return {t: Masks(parts=parts) for t, parts in found.items()}, problems


def _by_id(named: list[tuple[str, Path]], wanted: Wanted, folder: Path) -> tuple[dict[int, Path], list[str]]:
    """Files or folders by object id: the name that the truth gives the object, else the first number in theirs."""
    known = {name: k for k, name in wanted.object_names.items()}
    at: dict[int, Path] = {}
    problems = []
    for text, path in named:
        number = re.search(r"\d+", text)
        k = known.get(text, known.get(re.sub(r"_\d{3}$", "", text), int(number[0]) if number else 0))
        if k < 1:
            problems.append(f"{path} (no object has this name; ids are numbers from 1 on)")
        elif k in at:
            problems.append(f"{path} (object {k} already is {at[k].name})")
        else:
            at[k] = path
    return at, problems

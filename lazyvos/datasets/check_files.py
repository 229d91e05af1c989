"""Validate one sequence of a dataset: its frames, its masks, and the ids in them."""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from lazyvos.datasets.vots import VotsSequence, vot_decode
from lazyvos.images import image_files, image_size
from lazyvos.masks.labels import object_ids, read_mask
from lazyvos.types import InputError


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: `kind` (missing, unreadable, size, ids, stray, meta, count), the file or folder, a sentence."""

    kind: str
    path: str
    text: str


@dataclass(frozen=True)
class Part:
    """One sequence as folders of frames and masks; `entries` are the frames' names where meta says objects enter."""

    name: str
    images: Path
    annotations: Path
    dense: bool = False
    entries: dict[int, str | None] | None = None
    wanted: frozenset[str] = frozenset()


@dataclass
class Found:
    """What a look at one sequence (or at a whole copy) found."""

    frames: int = 0
    masks: int = 0
    objects: int = 0
    problems: list[Problem] = field(default_factory=list)

    def add(self, kind: str, path: Path, text: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(kind, str(path), text))


def _frames(files: list[Path], deep: bool, found: Found) -> tuple[int, int] | None:
    """Check the frames' headers and ends, and return the size that most of them have."""
    sizes: dict[Path, tuple[int, int]] = {}
    for file in files:
        try:
            sizes[file] = image_size(file)
            _whole(file, deep)
        except InputError as error:
            found.add("unreadable", file, str(error))
    if not sizes:
        return None
    size = Counter(sizes.values()).most_common(1)[0][0]
    for file, other in sizes.items():
        if other != size:
            found.add("size", file, f"{file.name} is {other[1]}x{other[0]} but most frames beside it are {size[1]}x{size[0]}")
    return size


def _whole(file: Path, deep: bool) -> None:
    """Raise InputError where an image is cut off: by its end marker, or with `deep` (or a missing marker) by decoding it."""
    if not deep:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - 1024))
            end = stream.read()
        if (b"IEND" if file.suffix.lower() == ".png" else b"\xff\xd9") in end:
            return
    try:
        with Image.open(file) as image:
            image.load()
    except (OSError, SyntaxError) as error:
        raise InputError(f"{file} is cut off or damaged; copy it again") from error


def check_folder(part: Part, deep: bool) -> Found:
    """Check one sequence of frames and masks."""
    found = Found()
    if not part.images.is_dir() or not (files := image_files(part.images)):
        found.add("missing", part.images, f"{part.name} has no frames")
        return found
    found.frames = len(files)
    size = _frames(files, deep, found)
    stems = {file.stem for file in files}
    masks = image_files(part.annotations, frozenset({".png"})) if part.annotations.is_dir() else []
    found.masks = len(masks)
    if not masks:
        found.add("missing", part.annotations, f"{part.name} has no masks")
    inside: dict[str, list[int]] = {}
    for file in masks:
        if file.stem not in stems:
            found.add("stray", file, f"mask {file.name} of {part.name} has no frame")
        try:
            labels = read_mask(file)
        except InputError as error:
            found.add("unreadable", file, str(error))
            continue
        if size is not None and labels.shape != size:
            found.add("size", file, f"mask {file.name} is {labels.shape[1]}x{labels.shape[0]} but the frames are {size[1]}x{size[0]}")
        inside[file.stem] = object_ids(labels)
    if part.dense and masks and len(stems - {file.stem for file in masks}):
        lacking = sorted(stems - {file.stem for file in masks})
        found.add("missing", part.annotations, f"{len(lacking)} frames of {part.name} have no mask, the first is {lacking[0]}")
    _ids(part, stems, inside, found)
    return found


def _ids(part: Part, stems: set[str], inside: dict[str, list[int]], found: Found) -> None:
    """Compare the ids in the masks with those of the meta file."""
    if part.entries is None:
        first = next((ids for _, ids in sorted(inside.items()) if ids), [])
        found.objects = len(first)
        if inside and not first:
            found.add("ids", part.annotations, f"no mask of {part.name} holds an object")
        return
    found.objects = len(part.entries)
    lacking = sorted(part.wanted - stems)
    if lacking:
        found.add("missing", part.images, f"{len(lacking)} frames of {part.name} that the meta file lists are missing, the first is {lacking[0]}")
    for stem, ids in sorted(inside.items()):
        strange = sorted(set(ids) - set(part.entries))
        if strange:
            found.add("ids", part.annotations / f"{stem}.png", f"mask {stem} of {part.name} holds object {strange[0]}, which the meta file does not name")
            break
    for key, enters in part.entries.items():
        if enters is None:
            continue
        if enters not in stems:
            found.add("missing", part.images, f"object {key} of {part.name} enters at frame {enters}, which is missing")
        elif inside and key not in inside.get(enters, []):
            found.add("ids", part.annotations / f"{enters}.png", f"object {key} of {part.name} enters at frame {enters}, but the mask there does not hold it")


def check_vots(folder: Path, deep: bool) -> Found:
    """Check one sequence in VOT layout."""
    found = Found()
    try:
        sequence = VotsSequence(folder)
    except InputError as error:
        found.add("missing", folder, str(error))
        return found
    found.frames, found.objects = len(sequence), len(sequence.truths)
    size = _frames(sequence.images, deep, found)
    for key, file in sequence.truths.items():
        try:
            lines = sequence.regions[key]
        except InputError as error:
            found.add("unreadable", file, str(error))
            return found
        if len(lines) not in (1, len(sequence)):
            found.add("count", file, f"{file.name} of {sequence.name} has {len(lines)} lines but there are {len(sequence)} frames "
                      "(one line, or one a frame)")
        if lines and not any(line.startswith("m") for line in lines):
            found.add("ids", file, f"{file.name} of {sequence.name} never holds a mask")
        for number, line in enumerate(lines if size is not None else [], 1):
            try:
                vot_decode(line, size or (1, 1))
            except InputError as error:
                found.add("unreadable", file, f"line {number} of {file.name} of {sequence.name}: {error}")
                break
        found.masks += sum(line.startswith("m") for line in lines)
    return found

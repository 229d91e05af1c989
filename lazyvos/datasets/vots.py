"""Sequences as of the VOT challenges (VOTS2023, Kristan et al., 2023), and their text format for masks.

A dataset is a folder with `list.txt` and one folder for each sequence: `sequence` (lines `key=value`, among them
`channels.color=color/%08d.jpg` and `fps`), the frames in `color/`, and `groundtruth_<object>.txt` (`groundtruth.txt`
for a single object) with one region a line, a line for each frame. The truth of the challenge itself has one line only.
"""
from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from os import PathLike
from pathlib import Path

import numpy as np

from lazyvos.datasets.base import Table, folders, some
from lazyvos.images import image_files, natural
from lazyvos.masks.atomic import atomic_path
from lazyvos.types import InputError
from lazyvos.video import Source, open_source


def vot_encode(mask: np.ndarray) -> str:
    """Write a mask `bool [H,W]` as a VOT region: `m` left, top, width, height of its box, then run lengths.

    Runs go along the rows of the box and start with background. An empty mask is `0`.
    """
    mask = np.asarray(mask).astype(bool)
    if mask.ndim != 2:
        raise InputError(f"a mask has shape [H,W], but this one has {list(mask.shape)}")
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return "0"
    top, left = int(rows[0]), int(columns[0])
    part = mask[top:rows[-1] + 1, left:columns[-1] + 1]
    flat = part.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    numbers = [left, top, part.shape[1], part.shape[0], *([0] if flat[0] else []), *runs]
    return "m" + ",".join(map(str, numbers))


def vot_decode(text: str, size: tuple[int, int]) -> np.ndarray:
    """Read a VOT region as a mask `bool [H,W]` of a frame of that size.

    A single number (`0` absent, `1` start, `2` failure) is an empty mask; parts outside the frame are dropped.

    Raises:
        InputError: it is no mask: a rectangle, a polygon, or damaged.
    """
    out = np.zeros(size, bool)
    text = text.strip()
    if text.isdigit():
        return out
    if not text.startswith("m"):
        raise InputError(f"the region {text[:40]!r} is no mask (m and numbers, or 0); give masks, not boxes or polygons")
    try:
        left, top, width, height, *runs = (int(number) for number in text[1:].split(","))
    except ValueError as error:
        raise InputError(f"the region {text[:40]!r} is no mask: after m come left, top, width, height and run lengths") from error
    if min(width, height, *runs, 0) < 0 or sum(runs) > width * height:
        raise InputError(f"the runs of the region {text[:40]!r} add up to {sum(runs)} pixels but its box has {width}x{height}")
    flat = np.zeros(width * height, bool)
    ends = np.cumsum(runs, dtype=np.int64)
    for begin, end in zip(ends[:-1:2], ends[1::2]):
        flat[begin:end] = True
    part = flat.reshape(height, width)
    y0, y1, x0, x1 = max(top, 0), min(top + height, size[0]), max(left, 0), min(left + width, size[1])
    if y0 < y1 and x0 < x1:
        out[y0:y1, x0:x1] = part[y0 - top:y1 - top, x0 - left:x1 - left]
    return out


def write_regions(path: str | PathLike[str], masks: Iterable[np.ndarray]) -> None:
    """Write masks `bool [H,W]`, one a line, as a VOT trajectory; the file appears when it is whole."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
        for mask in masks:
            file.write(vot_encode(mask) + "\n")


def read_regions(path: str | PathLike[str]) -> list[str]:
    """Lines of a VOT trajectory, undecoded; raises InputError where it cannot be read."""
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; it needs one region a line") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text of VOT regions; copy it again") from error
    return [line.strip() for line in lines if line.strip()]


class VotsSequence:
    """One sequence in VOT layout; a `lazyvos.datasets.base.Sequence`.

    Attributes:
        name: name of the folder.
        facts: keys and values of the file `sequence`.
        images: files of the frames in order.
        object_names: for each object id (from 1, in the order of the files' names), its name in the files.
    """

    def __init__(self, folder: Path, prefetch: int = 8) -> None:
        self.name, self._prefetch = folder.name, prefetch
        if not folder.is_dir():
            raise InputError(f"sequence {self.name} does not exist: {folder} is no folder")
        self.facts = _facts(folder / "sequence")
        pattern = self.facts.get("channels.color", "color/%08d.jpg")
        self._folder = (folder / pattern).parent
        suffix = Path(pattern).suffix.lower()
        if not self._folder.is_dir():
            raise InputError(f"sequence {self.name} has no frames: {self._folder} does not exist")
        self.images = image_files(self._folder, frozenset({suffix})) if suffix in (".jpg", ".jpeg", ".png") else []
        if not self.images:
            raise InputError(f"sequence {self.name} has no frames: {self._folder} holds no {suffix} images")
        truths = sorted([*folder.glob("groundtruth.txt"), *folder.glob("groundtruth_*.txt")], key=natural)
        if not truths:
            raise InputError(f"sequence {self.name} has no truth; {folder} needs groundtruth_<object>.txt")
        self.truths = dict(enumerate(truths, 1))
        if len(truths) > 254:
            raise InputError(f"sequence {self.name} has {len(truths)} objects; label maps hold at most 254")
        self.object_names = {key: file.stem.removeprefix("groundtruth").lstrip("_") or "1" for key, file in self.truths.items()}

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"VotsSequence({self.name!r}, {len(self)} frames, {len(self.truths)} objects)"

    @property
    def fps(self) -> float | None:
        """Frames per second, where the file `sequence` says so."""
        try:
            return float(self.facts["fps"])
        except (KeyError, ValueError):
            return None

    @cached_property
    def frames(self) -> Source:
        """The frames, read when asked for."""
        return open_source(self._folder, prefetch=self._prefetch)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames in pixels."""
        return self.frames.size

    @property
    def frame_names(self) -> list[str]:
        """Names of the frames' files without their endings."""
        return [file.stem for file in self.images]

    @cached_property
    def regions(self) -> dict[int, list[str]]:
        """For each object, its lines of truth, undecoded."""
        return {key: read_regions(file) for key, file in self.truths.items()}

    @property
    def annotated(self) -> list[int]:
        """Frames for which every object has a line of truth; only the first in the challenge."""
        return list(range(min(len(self), *(len(lines) for lines in self.regions.values()))))

    def masks(self, t: int) -> dict[int, np.ndarray] | None:
        """For each object, its mask `bool [H,W]` at frame `t` (they may overlap), or None where it has no truth."""
        if not 0 <= t < len(self):
            raise IndexError(f"frame {t} of {self.name} does not exist; it has frames 0 to {len(self) - 1}")
        if t >= len(self.annotated):
            return None
        found = {}
        for key, lines in self.regions.items():
            try:
                found[key] = vot_decode(lines[t], self.size)
            except InputError as error:
                raise InputError(f"line {t + 1} of {self.truths[key]}: {error}") from error
        return found

    def mask(self, t: int) -> np.ndarray | None:
        """Label map `uint8 [H,W]` of frame `t`, or None without truth. Where objects overlap, the later one is shown."""
        masks = self.masks(t)
        if masks is None:
            return None
        labels = np.zeros(self.size, np.uint8)
        for key, mask in masks.items():
            labels[mask] = key
        return labels

    @cached_property
    def entries(self) -> dict[int, int]:
        """For each object, the first frame with a mask of it."""
        return {key: t for key, lines in self.regions.items()
                for t in [next((t for t, line in enumerate(lines) if line.startswith("m")), None)] if t is not None}

    @property
    def spans(self) -> dict[int, tuple[int, int]]:
        """For each object, the frames that are scored: all."""
        return dict.fromkeys(self.entries, (0, len(self)))

    @property
    def start(self) -> int:
        """First frame with a mask; raises InputError where no line holds one."""
        if not self.entries:
            raise InputError(f"no line of the truth of sequence {self.name} is a mask; copy {next(iter(self.truths.values()))} again")
        return min(self.entries.values())

    @property
    def objects(self) -> list[int]:
        """Ids of the objects with a mask at frame `start`."""
        return [key for key, t in self.entries.items() if t == self.start]


class Vots(Table[VotsSequence]):
    """A dataset in VOT layout; a `lazyvos.datasets.base.Dataset`.

    Args:
        root: the folder that holds `list.txt` and the sequences, or the folder above its `sequences/`.
        prefetch: most frames that a sequence reads ahead.
        name: what the dataset is called; by default the name of the folder.

    Raises:
        InputError: a part is missing.
    """

    protocol = "vots"

    def __init__(self, root: str | PathLike[str], *, prefetch: int = 8, name: str | None = None) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise InputError(f"{root} is not a folder; give the folder that holds list.txt and the sequences")
        if (self.root / "sequences").is_dir() and not (self.root / "list.txt").is_file():
            self.root = self.root / "sequences"
        self.name = name or self.root.name
        self._where = str(self.root)
        index = self.root / "list.txt"
        if index.is_file():
            names = [line.strip() for line in index.read_text(encoding="utf-8").splitlines() if line.strip()]
        else:
            names = [folder for folder in folders(self.root) if (self.root / folder / "sequence").is_file()]
        if not names:
            raise InputError(f"{self.root} holds no sequences; it needs list.txt with one name a line, and their folders")
        missing = [folder for folder in names if not (self.root / folder).is_dir()]
        if missing:
            raise InputError(f"{self.root} lacks {len(missing)} of the sequences in list.txt: {some(missing)}; unpack them there")
        self._sequences = {folder: VotsSequence(self.root / folder, prefetch) for folder in names}

    @property
    def fps(self) -> float | None:
        """Frames per second that all sequences share, or None."""
        rates = {sequence.fps for sequence in self}
        return rates.pop() if len(rates) == 1 else None


def _facts(file: Path) -> dict[str, str]:
    if not file.is_file():
        return {}
    lines = (line.partition("=") for line in file.read_text(encoding="utf-8").splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in lines}

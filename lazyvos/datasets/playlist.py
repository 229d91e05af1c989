"""Long clips made of short ones: text files that list frames, one `<dataset>/<sequence>/<frame>` a line.

The clip follows the sequence of the first line, forward, backward, and cut away to other sequences as the list says. On
frames of another sequence the target is absent: its mask there is empty. So a few short videos with a mask for every
frame give long, real pictures with exact masks, without new files.
"""
from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from os import PathLike
from pathlib import Path

import numpy as np

from lazyvos.datasets.base import Table
from lazyvos.datasets.davis import DavisFolder, FolderSequence
from lazyvos.images import check_frame, common_size, read_image
from lazyvos.masks.labels import object_ids
from lazyvos.types import InputError
from lazyvos.video import Source


class _Listed(Source):
    """Images in the order of a list."""

    def __init__(self, name: str, images: list[Path], prefetch: int) -> None:
        self.files = images
        super().__init__(name, common_size(sorted(set(images))), len(images), prefetch=prefetch)

    def _frames(self) -> Iterator[np.ndarray]:
        return (self._frame(t) for t in range(len(self.files)))

    def _frame(self, t: int) -> np.ndarray:
        return check_frame(read_image(self.files[t]), self.size, t, self.name)


class Playlist:
    """One listed clip; a `lazyvos.datasets.base.Sequence`.

    Args:
        file: the list.
        sets: opened datasets by the names that the list uses, filled as needed.
        root: folder that holds the datasets.
        prefetch: most frames that it reads ahead.

    Raises:
        InputError: a line is of another form or names a frame that is not there.
    """

    def __init__(self, file: Path, sets: dict[str, DavisFolder], root: Path, prefetch: int = 8) -> None:
        self.name, self._prefetch = file.stem, prefetch
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        if not lines:
            raise InputError(f"{file} is empty; write one <dataset>/<sequence>/<frame> a line")
        places: dict[tuple[str, str], dict[str, int]] = {}
        self._at: list[tuple[FolderSequence, int]] = []
        for number, line in enumerate(lines, 1):
            parts = line.rsplit("/", 2)
            if len(parts) != 3:
                raise InputError(f"line {number} of {file} is {line!r}; write <dataset>/<sequence>/<frame>")
            folder, name, frame = parts
            if folder not in sets:
                sets[folder] = DavisFolder(root / folder, check=False, prefetch=prefetch)
            sequence = sets[folder][name]
            known = places.setdefault((folder, name), {stem: t for t, stem in enumerate(sequence.frame_names)})
            if frame not in known:
                raise InputError(f"line {number} of {file} asks for frame {frame} of {folder}/{name}, which has none of that name")
            self._at.append((sequence, known[frame]))
        self.target = self._at[0][0]

    def __len__(self) -> int:
        return len(self._at)

    def __repr__(self) -> str:
        return f"Playlist({self.name!r}, {len(self)} frames of {self.target.name})"

    @property
    def images(self) -> list[Path]:
        """Files of the frames in order; the same one may come again."""
        return [sequence.images[t] for sequence, t in self._at]

    @cached_property
    def frames(self) -> Source:
        """The frames, read when asked for."""
        return _Listed(self.name, self.images, self._prefetch)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames in pixels."""
        return self.frames.size

    @property
    def frame_names(self) -> list[str]:
        """Numbers of the frames in the clip, in five digits."""
        return [f"{t:05d}" for t in range(len(self))]

    def mask(self, t: int) -> np.ndarray | None:
        """Label map `uint8 [H,W]`: the target's, or empty on a frame of another sequence; None without a mask."""
        if not 0 <= t < len(self):
            raise IndexError(f"frame {t} of {self.name} does not exist; it has frames 0 to {len(self) - 1}")
        sequence, there = self._at[t]
        return sequence.mask(there) if sequence is self.target else np.zeros(self.size, np.uint8)

    @property
    def annotated(self) -> list[int]:
        """Frames with truth."""
        return [t for t, (sequence, there) in enumerate(self._at) if sequence is not self.target or there in sequence.annotations]

    @cached_property
    def entries(self) -> dict[int, int]:
        """For each object, the first frame whose mask holds it."""
        found: dict[int, int] = {}
        looked: set[int] = set()
        for t, (sequence, there) in enumerate(self._at):
            if sequence is not self.target or there in looked:
                continue
            looked.add(there)
            mask = self.mask(t)
            for label in object_ids(mask) if mask is not None else ():
                found.setdefault(label, t)
        return dict(sorted(found.items()))

    @property
    def spans(self) -> dict[int, tuple[int, int]]:
        """For each object, the frames that are scored: all."""
        return dict.fromkeys(self.entries, (0, len(self)))

    @property
    def start(self) -> int:
        """First frame whose mask holds an object; raises InputError where there is none."""
        if not self.entries:
            raise InputError(f"no listed frame of {self.target.name} holds an object; list others in {self.name}.txt")
        return min(self.entries.values())

    @property
    def objects(self) -> list[int]:
        """Ids of the objects in the mask of frame `start`."""
        return [key for key, t in self.entries.items() if t == self.start]


class PlaylistFolder(Table[Playlist]):
    """All lists (`*.txt`) of a folder; a `lazyvos.datasets.base.Dataset`.

    Args:
        folder: holds the lists.
        root: holds the DAVIS-layout folders that they name; default: the folder above.
        prefetch: most frames that a clip reads ahead.

    Raises:
        InputError: there is no list, or one names something that is not there.
    """

    protocol = "davis"
    fps: float | None = None

    def __init__(self, folder: str | PathLike[str], root: str | PathLike[str] | None = None, *, prefetch: int = 8) -> None:
        self.root = Path(folder)
        self.name, self._where = self.root.name, str(self.root)
        lists = sorted(self.root.glob("*.txt")) if self.root.is_dir() else []
        if not lists:
            raise InputError(f"{folder} holds no lists of frames; give a folder with text files of <dataset>/<sequence>/<frame>")
        sets: dict[str, DavisFolder] = {}
        above = self.root.parent if root is None else Path(root)
        self._sequences = {file.stem: Playlist(file, sets, above, prefetch) for file in lists}

"""Folders laid out like DAVIS: `JPEGImages/`, `Annotations/`, `ImageSets/<split>.txt`.

The layout is that of Perazzi et al. (2016) and Pont-Tuset et al. (2017). A folder for the resolution between the two
top levels (`JPEGImages/480p/bear/`) and for the year among the splits (`ImageSets/2017/val.txt`) is understood too.
The scribbles of the interactive track (Caelles et al., 2018) lie in `Scribbles/<sequence>/001.json` and so on.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path

import numpy as np

from lazyvos.datasets.base import Table, folders, read_json, some
from lazyvos.images import image_files, image_size
from lazyvos.masks.labels import object_ids, read_mask
from lazyvos.types import InputError
from lazyvos.video import Source, open_source

_PNG = frozenset({".png"})
FULL = ("Full-Resolution", "1080p")
"""Names of the folder of full-size frames in DAVIS 2017 and 2016."""


class FolderSequence:
    """One video as a folder of frames and a folder of masks; a `lazyvos.datasets.base.Sequence`.

    Attributes:
        name: name of the folder.
        images: files of the frames in order.
        annotations: files of the masks by frame index; not every frame needs one.
        merge: all objects count as one, number 1 (DAVIS 2016).
    """

    def __init__(self, name: str, images: Path, annotations: Path, prefetch: int = 8, *, merge: bool = False) -> None:
        self.name = name
        self.merge = merge
        self._folder, self._prefetch = images, prefetch
        if not images.is_dir():
            raise InputError(f"sequence {name} has no frames: {images} does not exist")
        self.images = image_files(images)
        if not self.images:
            raise InputError(f"sequence {name} has no frames: {images} holds no JPEG or PNG images")
        at = {file.stem: t for t, file in enumerate(self.images)}
        masks = image_files(annotations, _PNG) if annotations.is_dir() else []
        strange = [file for file in masks if file.stem not in at]
        if strange:
            raise InputError(f"mask {strange[0]} belongs to no frame of {images}; masks are named like their frames")
        self.annotations = {at[file.stem]: file for file in masks}

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self)} frames, {len(self.annotations)} masks)"

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
        """Names of the frames' files without their endings; result files take them."""
        return [file.stem for file in self.images]

    @property
    def annotated(self) -> list[int]:
        """Frames with a mask, in order."""
        return sorted(self.annotations)

    @cached_property
    def start(self) -> int:
        """Index of the first frame whose mask holds an object; raises InputError where there is none."""
        if not self.annotations:
            raise InputError(f"sequence {self.name} has no masks; put them into Annotations/{self.name}/")
        for t in self.annotated:
            if object_ids(self._read(t)):
                return t
        raise InputError(f"no mask of sequence {self.name} holds an object "
                         f"(looked from {self.annotations[min(self.annotations)]} on)")

    def mask(self, t: int) -> np.ndarray | None:
        """Label map `uint8 [H,W]` of frame `t` with 255 for void, or None where that frame has no mask."""
        if not 0 <= t < len(self):
            raise IndexError(f"frame {t} of {self.name} does not exist; it has frames 0 to {len(self) - 1}")
        return self._read(t, self.size) if t in self.annotations else None

    def _read(self, t: int, size: tuple[int, int] | None = None) -> np.ndarray:
        labels = read_mask(self.annotations[t], size, white=self._white)
        if self.merge:
            labels[(labels > 0) & (labels < 255)] = 1
        return labels

    @cached_property
    def _white(self) -> int:
        """White in a black-and-white mask: the object, or void where other masks of the sequence use labels."""
        for t in self.annotated[:32]:
            if object_ids(read_mask(self.annotations[t], white=255)):
                return 255
        return 1

    @cached_property
    def objects(self) -> list[int]:
        """Labels of the objects in the mask of frame `start`, in order."""
        return object_ids(self._read(self.start, self.size))

    @cached_property
    def entries(self) -> dict[int, int]:
        """For each object, the first frame whose mask holds it. Looks through all masks, once."""
        found: dict[int, int] = {}
        for t in self.annotated:
            for label in object_ids(self._read(t)):
                found.setdefault(label, t)
        return dict(sorted(found.items()))

    @property
    def spans(self) -> dict[int, tuple[int, int]]:
        """For each object, the frames that are scored, `[first, end)`: the whole clip."""
        return dict.fromkeys(self.entries, (0, len(self)))

    def check(self) -> None:
        """Read the headers of all files; raises InputError naming the first whose size differs, or a missing part."""
        height, width = self.size
        for file in self.annotations.values():
            found = image_size(file)
            if found != (height, width):
                raise InputError(f"mask {file} is {found[1]}x{found[0]} but the frames are {width}x{height} "
                                 "(width x height); resize it without smoothing")
        _ = self.start


Sequence = FolderSequence


class DavisFolder(Table[FolderSequence]):
    """Sequences of a DAVIS-layout folder; a `lazyvos.datasets.base.Dataset`.

    Args:
        root: the folder that holds `JPEGImages/` and `Annotations/`.
        split: name of a list in `ImageSets/` (`val`, `2017/val`), or path of a text file with one sequence a line;
            without it, all sequences by name.
        resolution: name of the folder between `JPEGImages/` and the sequences, where there is one; by default `480p`,
            or the only one; `full` is the full size under either of its names.
        check: look at every file's size and for a first object before any work.
        prefetch: most frames that a sequence reads ahead.
        annotations: name of the folder of masks, for folders that carry several kinds.
        merge: all objects count as one, number 1 (DAVIS 2016).
        name: what the dataset is called; by default the name of the folder.

    Raises:
        InputError: a part is missing, a listed sequence does not exist, or a mask has another size than its frames.
    """

    protocol = "davis"
    fps: float | None = None

    def __init__(self, root: str | PathLike[str], split: str | PathLike[str] | None = None, *,
                 resolution: str | None = None, check: bool = True, prefetch: int = 8,
                 annotations: str = "Annotations", merge: bool = False, name: str | None = None) -> None:
        self.root = Path(root)
        self.name = name or self.root.name
        self.split = None if split is None else str(split)
        self._where = str(self.root)
        if not self.root.is_dir():
            raise InputError(f"{root} is not a folder; give the folder that holds JPEGImages/ and Annotations/")
        images = self._images(resolution)
        masks = self.root / annotations / images.relative_to(self.root / "JPEGImages")
        if not masks.is_dir():
            raise InputError(f"{masks} does not exist; put the masks there, one folder for each sequence")
        names = folders(images) if split is None else self._listed(Path(split))
        self._sequences = {
            name: FolderSequence(name, images / name, masks / name, prefetch, merge=merge) for name in names}
        if check:
            for sequence in self:
                sequence.check()

    def _images(self, resolution: str | None) -> Path:
        images = self.root / "JPEGImages"
        if not images.is_dir():
            raise InputError(f"{images} does not exist; give the folder that holds JPEGImages/ and Annotations/")
        if resolution is not None:
            wanted = FULL if resolution == "full" else (resolution,)
            for name in wanted:
                if (images / name).is_dir():
                    return images / name
            raise InputError(f"{images / wanted[0]} does not exist; there are {some(folders(images))}")
        inside = folders(images)
        if not inside:
            raise InputError(f"{images} holds no sequences; it needs one folder of frames for each")
        nested = [name for name in inside if folders(images / name) and not image_files(images / name)]
        if not nested:
            return images
        if "480p" not in nested and len(nested) > 1:
            raise InputError(f"{images} holds several resolutions ({some(nested)}); choose one of them")
        return images / ("480p" if "480p" in nested else nested[0])

    def _listed(self, split: Path) -> list[str]:
        return listed(self.root, split)


def listed(root: Path, split: Path) -> list[str]:
    """Names of the sequences of a split: a list in `root/ImageSets/` or a text file; raises InputError without one."""
    sets = root / "ImageSets"
    name = split if split.suffix == ".txt" else split.with_name(split.name + ".txt")
    places = [split, sets / name, sets / "2017" / name, sets / "2016" / name, sets / "480p" / name]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        lists = sorted(str(path.relative_to(sets).with_suffix("")) for path in sets.rglob("*.txt"))
        raise InputError(f"{root} has no split {split}; " + (f"it has {some(lists)}" if lists else
                         f"write the names of the sequences, one a line, into {sets / name}"))
    lines = [line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{file} is empty; write the names of the sequences into it, one a line")
    # the lists of 2016 name every frame: /JPEGImages/480p/bear/00000.jpg
    return list(dict.fromkeys(line.split("/")[-2] if "." in line and "/" in line else line for line in lines))


@dataclass(frozen=True, eq=False)
class Scribble:
    """One stroke: `points` `float64 [P,2]` of `(x / width, y / height)` in 0..1, and the object (0 is background)."""

    points: np.ndarray
    object: int


@dataclass(frozen=True, eq=False)
class Scribbles:
    """The strokes of one person on one frame of a sequence."""

    sequence: str
    frame: int
    strokes: tuple[Scribble, ...]


class InteractiveDavis(DavisFolder):
    """DAVIS 2017 with the first scribbles of the interactive track, by default its val split (Caelles et al., 2018).

    Arguments are those of `DavisFolder`. `samples` are what the benchmark goes through: every set of scribbles.
    """

    protocol = "interactive"

    def __init__(self, root: str | PathLike[str], split: str | PathLike[str] | None = "val", *,
                 resolution: str | None = None, check: bool = False, prefetch: int = 8, name: str | None = None) -> None:
        super().__init__(root, split, resolution=resolution, check=check, prefetch=prefetch, name=name)
        if not (self.root / "Scribbles").is_dir():
            raise InputError(f"{self.root / 'Scribbles'} does not exist; unpack the scribbles of the interactive track there")

    @property
    def samples(self) -> list[tuple[str, int]]:
        """Sequence and number (from 1) of every set of scribbles, in the order of the split."""
        return [(name, int(file.stem)) for name in self.names
                for file in sorted((self.root / "Scribbles" / name).glob("*.json")) if file.stem.isdigit()]

    def scribbles(self, name: str, n: int = 1) -> Scribbles:
        """Set `n` (from 1) of the first scribbles of a sequence; raises InputError where it is missing or damaged."""
        sequence = self[name]
        file = self.root / "Scribbles" / name / f"{n:03d}.json"
        stored = read_json(file)
        try:
            drawn = [(t, stroke) for t, strokes in enumerate(stored["scribbles"]) for stroke in strokes]
            strokes = tuple(Scribble(np.asarray(stroke["path"], np.float64).reshape(-1, 2), int(stroke["object_id"]))
                            for _, stroke in drawn)
            frame = int(stored.get("annotated_frame", drawn[0][0] if drawn else -1))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{file} is no file of scribbles (path and object_id for each stroke); copy it again") from error
        if not 0 <= frame < len(sequence):
            raise InputError(f"{file} is drawn on frame {frame} but {name} has frames 0 to {len(sequence) - 1}; copy it again")
        return Scribbles(name, frame, strokes)

"""What every dataset of videos with masks looks like, and the few things that all of them share.

A dataset is a table of sequences by name. Making one reads lists and headers; pixels are read when asked for.
"""
from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from lazyvos.images import natural
from lazyvos.types import InputError
from lazyvos.video import Source

PROTOCOLS = ("davis", "vos", "lvos", "vots", "interactive")
"""How results of a dataset are scored: names that `Dataset.protocol` may have."""


class Sequence(Protocol):
    """One video with masks. Frames are counted from 0; object ids are 1 to 254.

    Attributes:
        name: its name within the dataset.
        frames: the frames, `uint8 [H,W,3]` RGB, read when asked for.
        size: height and width of the frames in pixels.
        start: first frame whose mask holds an object.
        objects: ids of the objects in the mask of frame `start`, in order.
        frame_names: one for each frame; result files are called so (`NAME.png`).
        entries: for each object id, the first frame with a mask of it. Objects may enter after `start`.
        spans: for each object id, the frames that are scored, `[first, end)`; the whole clip unless the benchmark says
            otherwise. Frames that a protocol leaves out inside the span (the first, the last) are up to the protocol.
        annotated: frames with truth, in order.
    """

    @property
    def name(self) -> str: ...
    @property
    def frames(self) -> Source: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def start(self) -> int: ...
    @property
    def objects(self) -> list[int]: ...
    @property
    def frame_names(self) -> list[str]: ...
    @property
    def entries(self) -> dict[int, int]: ...
    @property
    def spans(self) -> dict[int, tuple[int, int]]: ...
    @property
    def annotated(self) -> list[int]: ...

    def __len__(self) -> int: ...

    def mask(self, t: int) -> np.ndarray | None:
        """Label map `uint8 [H,W]` of frame `t` with 255 for void, or None where that frame has no truth."""
        ...


S_co = TypeVar("S_co", bound=Sequence, covariant=True)
S = TypeVar("S", bound=Sequence)


class Dataset(Protocol[S_co]):
    """A table of sequences.

    Attributes:
        name: as in `open_dataset`, or the name of the folder.
        root: the folder it lies in, or None where it is drawn and not read.
        protocol: how results are scored, one of `PROTOCOLS`.
        fps: frames per second of the frames that are given, or None where it is not known.
        names: names of the sequences, in order.
    """

    @property
    def name(self) -> str: ...
    @property
    def root(self) -> Path | None: ...
    @property
    def protocol(self) -> str: ...
    @property
    def fps(self) -> float | None: ...
    @property
    def names(self) -> list[str]: ...

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[S_co]: ...
    def __getitem__(self, name: str | int) -> S_co: ...


class Table(Generic[S]):
    """Sequences by name, in order; `where` says in messages what they belong to."""

    _sequences: Mapping[str, S]
    _where: str

    @property
    def names(self) -> list[str]:
        """Names of the sequences, in order."""
        return list(self._sequences)

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[S]:
        return iter(self._sequences.values())

    def __getitem__(self, name: str | int) -> S:
        if isinstance(name, int):
            return list(self._sequences.values())[name]
        if name not in self._sequences:
            raise InputError(f"{self._where} has no sequence {name!r}; it has {some(self.names)}")
        return self._sequences[name]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._where!r}, {len(self)} sequences)"


def folders(folder: Path) -> list[str]:
    """Names of the folders inside a folder in natural order, hidden ones left out."""
    return [path.name for path in sorted((path for path in folder.iterdir()
                                          if path.is_dir() and not path.name.startswith(".")), key=natural)]


def some(names: list[str]) -> str:
    """The first eight names as text, and how many there are more."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def read_json(path: str | PathLike[str]) -> dict[str, Any]:
    """Read a JSON file that holds an object; raises InputError where it is missing or damaged."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; it comes with the dataset, unpack it there") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); copy it again from the dataset") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds a JSON {type(found).__name__}, not an object; copy it again from the dataset")
    return found


def meta_objects(path: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """Objects of each video from a `meta.json` as of YouTube-VOS and LVOS: `{video: {object id: its entry}}`.

    Raises:
        InputError: it is missing, damaged, or of another form.
    """
    try:
        videos = read_json(path)["videos"]
        return {str(video): {int(key): dict(entry) for key, entry in facts["objects"].items()}
                for video, facts in videos.items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f'{path} is not of the form {{"videos": {{NAME: {{"objects": {{ID: …}}}}}}}}; copy it again '
                         "from the dataset") from error

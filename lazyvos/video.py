"""Where frames come from: files, folders, arrays, iterables, cameras and streams, all alike.

Frames are decoded on demand by one thread that runs a bounded number of frames ahead, so a two-hour file
costs no more memory than a two-second one.
"""
from __future__ import annotations

import copy
import re
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sized
from itertools import chain, islice
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np

from lazyvos.decode import AvReader, CameraReader
from lazyvos.images import check_frame, common_size, image_files, read_image
from lazyvos.prefetch import Prefetch
from lazyvos.probe import probe
from lazyvos.types import InputError


class Source(ABC):
    """An iterable of `uint8 [H,W,3]` RGB frames.

    Attributes:
        name: what the frames are called in messages and file names.
        fps: frames per second, or None where it is not known.
        size: height and width of every frame in pixels.
        length: number of frames, or None where it is not known (a camera).
        prefetch: how many frames the reading thread runs ahead; 0 reads in the caller's thread.
        live: frames come at their own pace, and old ones are dropped where the consumer is slow.
    """

    def __init__(self, name: str, size: tuple[int, int], length: int | None, fps: float | None = None, *,
                 prefetch: int = 8, live: bool = False) -> None:
        self.name, self.size, self.length, self.fps = name, size, length, fps
        self.prefetch, self.live = prefetch, live
        self._limit: int | None = None
        self._running: weakref.WeakSet[Prefetch] = weakref.WeakSet()

    @abstractmethod
    def _frames(self) -> Iterator[np.ndarray]:
        """Frames from the beginning, in order."""

    def __iter__(self) -> Iterator[np.ndarray]:
        limit = self.length if self.length is not None else self._limit
        frames = islice(self._frames(), limit)
        if not self.prefetch:
            return frames
        ahead = Prefetch(_closing(frames, self), self.prefetch, self.live)
        self._running.add(ahead)
        return ahead

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError(f"the length of {self.name} is not known")
        return self.length

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        length = "unknown length" if self.length is None else f"{self.length} frames"
        return f"{type(self).__name__}({self.name!r}, {length}, {self.size[1]}x{self.size[0]}, fps={self.fps})"

    def frame(self, t: int) -> np.ndarray:
        """Return frame `t` (from 0), `uint8 [H,W,3]`.

        Raises:
            IndexError: there is no frame `t`.
            InputError: this source can only be read forward.
        """
        if self.length is not None and not 0 <= t < self.length:
            raise IndexError(f"frame {t} of {self.name} does not exist; it has frames 0 to {self.length - 1}")
        return self._frame(t)

    def _frame(self, t: int) -> np.ndarray:
        raise InputError(f"{self.name} can only be read forward; write it to a file first")

    def first(self, frames: int) -> Self:
        """The same source, ended after `frames` frames."""
        shorter = copy.copy(self)
        shorter._limit = frames if self._limit is None else min(frames, self._limit)
        shorter.length = None if self.length is None else min(self.length, frames)
        shorter._running = weakref.WeakSet()
        return shorter

    def close(self) -> None:
        """Stop the reading threads and free the decoders."""
        for ahead in list(self._running):
            ahead.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _closing(frames: Iterator[np.ndarray], owner: Source) -> Iterator[np.ndarray]:
    """Keep `owner` and what it holds open alive while a thread reads its frames."""
    yield from frames
    del owner


class FileSource(Source):
    """Frames of a video file; every iteration starts at its first frame."""

    def __init__(self, path: Path, prefetch: int = 8) -> None:
        self._file = probe(path)
        self._random: AvReader | None = None
        super().__init__(str(path), self._file.size, self._file.length, self._file.fps, prefetch=prefetch)

    def _frames(self) -> Iterator[np.ndarray]:
        reader = AvReader(self._file.path, self._file.length)
        count, promised = 0, self._file.length
        try:
            while (frame := reader.read()) is not None:
                yield check_frame(frame, self.size, count, self.name)
                count += 1
            if count < promised - max(2, 0.01 * promised):
                raise InputError(f"{self.name} ends at frame {count} but says it has {promised}; copy it again")
        finally:
            reader.close()

    def _frame(self, t: int) -> np.ndarray:
        if self._random is None:
            self._random = AvReader(self._file.path, self._file.length)
        return check_frame(self._random.frame(t), self.size, t, self.name)

    def first(self, frames: int) -> Self:
        shorter = super().first(frames)
        shorter._random = None
        return shorter

    def close(self) -> None:
        super().close()
        if self._random is not None:
            self._random.close()
            self._random = None


class FolderSource(Source):
    """Images of a folder in natural order (2 before 10); `files` lists them."""

    def __init__(self, folder: Path, prefetch: int = 8) -> None:
        self.files = image_files(folder)
        if not self.files:
            raise InputError(f"{folder} holds no JPEG or PNG images; give the folder that holds the frames themselves")
        super().__init__(str(folder), common_size(self.files), len(self.files), prefetch=prefetch)

    def _frames(self) -> Iterator[np.ndarray]:
        return (self._frame(t) for t in range(len(self.files)))

    def _frame(self, t: int) -> np.ndarray:
        return check_frame(read_image(self.files[t]), self.size, t, self.name)


class ArraySource(Source):
    """Frames of an array `uint8 [T,H,W,3]`; nothing is copied until a frame is asked for."""

    def __init__(self, frames: np.ndarray) -> None:
        if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
            raise InputError(f"an array of frames has shape [T,H,W,3], but this one has {list(frames.shape)}; "
                             "move its colour axis to the end, add the missing axis, or repeat a grey one")
        if frames.dtype != np.uint8:
            raise InputError(f"frames are uint8 with values 0 to 255, but this array is {frames.dtype}; "
                             "scale and convert it first, for example (255 * x).round().astype('uint8')")
        super().__init__("array", frames.shape[1:3], len(frames), prefetch=0)
        self._array = frames

    def _frames(self) -> Iterator[np.ndarray]:
        return (self._frame(t) for t in range(len(self._array)))

    def _frame(self, t: int) -> np.ndarray:
        return np.ascontiguousarray(self._array[t])


class IterableSource(Source):
    """Frames of any iterable; the first one is taken at once to learn the size.

    A generator can be read once; a list (or anything that starts anew at every `iter`) more often.
    """

    def __init__(self, frames: Iterable[np.ndarray], prefetch: int = 8) -> None:
        running = iter(frames)
        self._items, self._once = frames, running is frames
        first = next(running, None)
        if first is None:
            raise InputError("the iterable of frames is empty; give at least one uint8 [H,W,3] frame")
        self._first: np.ndarray | None = first
        length = len(frames) if isinstance(frames, Sized) else None
        size = np.shape(first)[:2]
        check_frame(first, size, 0, "iterable")
        super().__init__("iterable", size, length, prefetch=prefetch)

    def _frames(self) -> Iterator[np.ndarray]:
        items: Iterator[np.ndarray] = iter(self._items)
        if self._once:
            if self._first is None:
                raise InputError("the frames of this iterable were already used; give a list, or open it again")
            items, self._first = chain([self._first], items), None
        return (check_frame(frame, self.size, t, "iterable") for t, frame in enumerate(items))


class StreamSource(Source):
    """Frames of a camera (number) or a stream (URL); the length is not known."""

    def __init__(self, where: int | str, prefetch: int = 8, live: bool | None = None) -> None:
        self._where = where
        self._reader: AvReader | CameraReader | None = self._open()
        self._first = self._reader.read()
        if self._first is None:
            raise InputError(f"{self._label} gives no frames; check the camera or the address")
        if live is None:  # an http address may be a plain file, which has an end
            live = not isinstance(self._reader, AvReader) or self._reader.seconds is None
        size, ahead = self._first.shape[:2], max(prefetch, 1)
        super().__init__(self._label, size, None, self._reader.fps, prefetch=ahead, live=live)

    @property
    def _label(self) -> str:
        return f"camera {self._where}" if isinstance(self._where, int) else re.sub(r"//[^/@]*@", "//", self._where)

    def _open(self) -> AvReader | CameraReader:
        if isinstance(self._where, int):
            return CameraReader(self._where)
        try:
            return AvReader(self._where)
        except (OSError, ValueError, IndexError) as error:
            raise InputError(f"{self._label} cannot be opened; check the address and the network") from error

    def _frames(self) -> Iterator[np.ndarray]:
        reader, frame = self._reader, self._first
        self._reader = self._first = None
        if reader is None:
            reader = self._open()
            frame = reader.read()
        try:
            t = 0
            while frame is not None:
                yield check_frame(frame, self.size, t, self._label)
                frame, t = reader.read(), t + 1
        finally:
            reader.close()

    def close(self) -> None:
        super().close()
        if self._reader is not None:
            self._reader.close()
            self._reader = self._first = None


def open_source(what: Any, *, prefetch: int = 8, max_frames: int | None = None, live: bool | None = None) -> Source:
    """Open anything that gives frames.

    Args:
        what: a video file, a folder of JPEG or PNG images, an array `uint8 [T,H,W,3]`, an iterable of
            `uint8 [H,W,3]` RGB frames, a camera number, a stream URL (rtsp, http, ...), or a `Source`.
        prefetch: most frames decoded ahead of the consumer (at least 0; arrays need none).
        max_frames: stop after that many frames.
        live: drop old frames where the consumer is slow; by default only for cameras and endless streams.

    Raises:
        InputError: it is missing, empty, damaged, or not of these kinds; one sentence says which and what to do.
    """
    if prefetch < 0:
        raise InputError(f"prefetch is {prefetch}; give 0 or more frames")
    if max_frames is not None and max_frames < 1:
        raise InputError(f"max_frames is {max_frames}; give 1 or more, or nothing for all frames")
    source = _open(what, prefetch, live)
    return source if max_frames is None else source.first(max_frames)


def _open(what: Any, prefetch: int, live: bool | None) -> Source:
    if isinstance(what, Source):
        return what
    if isinstance(what, (int, np.integer)) and not isinstance(what, bool):
        return StreamSource(int(what), prefetch, live)
    if isinstance(what, str) and re.match(r"[a-z][a-z0-9+.-]+://", what, re.IGNORECASE):
        return StreamSource(what, prefetch, live)
    if isinstance(what, (str, PathLike)):
        path = Path(what).expanduser()
        if path.is_dir():
            return FolderSource(path, prefetch)
        if isinstance(what, str) and what.isdecimal() and not path.exists():
            return StreamSource(int(what), prefetch, live)
        return FileSource(path, prefetch)
    if hasattr(what, "__array__") and hasattr(what, "ndim"):
        return ArraySource(np.asarray(what))
    if isinstance(what, Iterable):
        return IterableSource(what, prefetch)
    raise InputError(f"{what!r} gives no frames; give a path, a folder, an array, an iterable, a camera number or a "
                     "stream URL")

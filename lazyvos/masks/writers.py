"""Writing masks and overlay video while the tracker goes on."""
from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from fractions import Fraction
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from lazyvos.masks.atomic import atomic_path
from lazyvos.masks.labels import write_mask
from lazyvos.types import InputError


class MaskWriter:
    """Write label maps as palette PNG from a few threads.

    Args:
        folder: where `00000.png`, `00001.png`, ... go; made when missing.
        workers: number of threads.
        pending: most masks that wait to be written; `write` holds the caller back beyond that.

    Use it as a context manager, or call `close`; an error of a thread is raised at the next `write` or at `close`.
    """

    def __init__(self, folder: str | PathLike[str], workers: int = 2, pending: int = 32) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{folder} is a file; give a folder for the masks")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="lazyvos-mask")
        self._room = threading.Semaphore(pending)
        self._error: BaseException | None = None

    def write(self, name: int | str, labels: np.ndarray) -> Path:
        """Queue a label map `uint8 [H,W]` for file `name` (a frame number, or a name without suffix)."""
        self._check()
        path = self.folder / (f"{name:05d}.png" if isinstance(name, int) else f"{name}.png")
        kept = np.array(labels)
        self._room.acquire()
        self._pool.submit(write_mask, path, kept).add_done_callback(self._done)
        return path

    def close(self) -> None:
        """Wait until everything is written."""
        self._pool.shutdown(wait=True)
        self._check()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._pool.shutdown(wait=True)

    def _done(self, future: Future[None]) -> None:
        self._error = self._error or future.exception()
        self._room.release()

    def _check(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error


class VideoWriter:
    """Write frames as an H.264 mp4 that plays in every browser.

    Args:
        path: the file; it appears, whole, at `close`. Leaving the `with` block by an exception leaves no file.
        fps: frames per second; None (not known) becomes 25.
        crf: quality, 0 (lossless) to 51 (worst).
        preset: x264's trade of time for size, from `ultrafast` to `veryslow`.

    The size is that of the first frame; an odd side grows by one repeated row or column, as yuv420p needs it.
    """

    def __init__(self, path: str | PathLike[str], fps: float | None = 25.0, *, crf: int = 23,
                 preset: str = "veryfast") -> None:
        if fps is not None and not fps > 0:
            raise InputError(f"fps is {fps}; give a number above 0")
        self.path = Path(path)
        if self.path.suffix.lower() not in (".mp4", ".mov", ".mkv"):
            raise InputError(f"{path} does not end in .mp4, .mov or .mkv; give such a name for the video")
        self.frames = 0
        self._rate = Fraction(fps or 25.0).limit_denominator(1001)
        self._options = {"crf": str(crf), "preset": preset}
        self._stack = ExitStack()
        self._container: Any = None
        self._stream: Any = None
        self._size = (0, 0)

    def write(self, frame: np.ndarray) -> None:
        """Add a frame `uint8 [H,W,3]` RGB; raises InputError where its size or type differs."""
        import av

        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise InputError(f"frame {self.frames} for {self.path} is {frame.dtype} {list(frame.shape)}; frames are "
                             "uint8 [H,W,3] in RGB")
        if self._container is None:
            self._open(frame.shape[0], frame.shape[1])
        if frame.shape[:2] != self._size:
            raise InputError(f"frame {self.frames} for {self.path} is {frame.shape[1]}x{frame.shape[0]} but the first "
                             f"was {self._size[1]}x{self._size[0]}; resize it")
        if frame.shape[0] % 2 or frame.shape[1] % 2:
            frame = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts, picture.time_base = self.frames, 1 / self._rate
        self._container.mux(self._stream.encode(picture))
        self.frames += 1

    def close(self) -> None:
        """Finish the file; without any frame there is none."""
        if self._container is not None:
            container, self._container = self._container, None
            with self._stack:  # closes the container, then moves the file to its place
                container.mux(self._stream.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self._container = None
            self._stack.__exit__(kind, error, trace)

    def _open(self, height: int, width: int) -> None:
        import av

        temporary = self._stack.enter_context(atomic_path(self.path))
        self._container = self._stack.enter_context(
            av.open(str(temporary), "w", options={"movflags": "faststart"} if self.path.suffix != ".mkv" else {}))
        self._stream = self._container.add_stream("libx264", rate=self._rate, options=self._options)
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.thread_count = 2
        self._size = (height, width)

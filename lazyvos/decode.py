"""Decoding the frames of one video, in order or at random, through PyAV and OpenCV.

Why not decord, which reads a little faster: it decodes ahead without bound where its consumer is slow (measured at
2.6 MB a frame for 640x480 with 10 ms between reads), counts the frames that an edit list cuts away, gives four
channels for some frames narrower than 64 pixels, and does not know AV1.
"""
from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import av
import cv2
import numpy as np

from lazyvos.types import InputError


class Reader(Protocol):
    """Anything that hands out decoded frames in order."""

    def read(self) -> np.ndarray | None:
        """Return the next frame, `uint8 [H,W,3]` RGB, or None at the end."""

    def close(self) -> None:
        """Free the decoder."""


class AvReader:
    """Frames of a file or a stream through PyAV: forward with `read`, anywhere (files) with `frame`."""

    def __init__(self, where: Path | str, length: int | None = None) -> None:
        self._where, self._length = where, length
        if isinstance(where, Path):
            self._container = av.open(str(where))
        else:
            options = {"rtsp_transport": "tcp"} if where.startswith("rtsp") else {}
            self._container = av.open(where, timeout=(10.0, 10.0), options=options)
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._frames: Iterator[Any] = self._container.decode(self._stream)
        self._times: array[int] | None = None
        self._at = 0
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.fps = float(rate) if rate else None

    @property
    def seconds(self) -> float | None:
        """Length in seconds, or None where it is not known (a live stream)."""
        duration = self._container.duration
        return duration / 1e6 if duration and duration > 0 else None

    def _next(self) -> Any | None:
        try:
            return next(self._frames, None)
        except (av.FFmpegError, OSError) as error:
            raise _broken(self._where, self._at, self._length) from error

    def read(self) -> np.ndarray | None:
        """Return the next frame or None at the end; raises InputError where the data are damaged."""
        frame = self._next()
        if frame is None:
            return None
        self._at += 1
        return _upright(frame)

    def frame(self, t: int) -> np.ndarray:
        """Return frame `t`: jump to the key frame before it and decode from there."""
        if t != self._at:
            if self._times is None:
                self._times = packet_times(Path(self._where))
            self._container.seek(self._times[t], stream=self._stream, backward=True)
            self._frames = self._container.decode(self._stream)
            while (frame := self._next()) is not None:
                if frame.pts is not None and frame.pts >= self._times[t]:
                    self._at = bisect_right(self._times, frame.pts)
                    return _upright(frame)
            raise _broken(self._where, t, self._length)
        found = self.read()
        if found is None:
            raise _broken(self._where, t, self._length)
        return found

    def close(self) -> None:
        """Free the decoder."""
        self._container.close()


class CameraReader:
    """Frames of a camera through OpenCV."""

    def __init__(self, index: int) -> None:
        log = cv2.utils.logging
        before = log.getLogLevel()
        log.setLogLevel(0)  # silent
        try:
            self._camera = cv2.VideoCapture(index)
        finally:
            log.setLogLevel(before)
        if not self._camera.isOpened():
            raise InputError(f"camera {index} cannot be opened; check that it is connected and free, or try "
                             "another number")
        self.fps = float(self._camera.get(cv2.CAP_PROP_FPS)) or None

    def read(self) -> np.ndarray | None:
        """Return the next frame or None when the camera is gone."""
        good, frame = self._camera.read()
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if good else None

    def close(self) -> None:
        """Free the camera."""
        self._camera.release()


def packet_times(path: Path) -> array[int]:
    """Presentation times of all frames in order, in units of the stream's time base (8 bytes a frame)."""
    times: array[int] = array("q")
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.video[0]):
            if packet.pts is not None and not packet.is_discard:
                times.append(packet.pts)
    return array("q", sorted(times))


def _upright(frame: Any) -> np.ndarray:
    turned = np.rot90(frame.to_ndarray(format="rgb24"), round(getattr(frame, "rotation", 0) / 90) % 4)
    return np.ascontiguousarray(turned)


def _broken(where: Path | str, frame: int, length: int | None) -> InputError:
    of = f" of {length}" if length else ""
    return InputError(f"{where} cannot be decoded at frame {frame}{of}: the data are damaged or cut off there; "
                      "copy it again or convert it with ffmpeg")

"""Looking at a video file before any work: is it one, is it whole, what does it hold?"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from lazyvos.decode import AvReader
from lazyvos.types import InputError


@dataclass(frozen=True)
class VideoFile:
    """What a video file holds, after it was checked.

    Attributes:
        path: the file.
        fps: mean frames per second, or None where the file does not say.
        size: height and width in pixels as shown (rotation applied).
        length: number of frames that are shown.
    """

    path: Path
    fps: float | None
    size: tuple[int, int]
    length: int


def probe(path: Path) -> VideoFile:
    """Check a video file and say what it holds; decodes one frame.

    Files with an index (mp4, mov) are judged by it; others (mkv, webm, avi) are read through once, undecoded.

    Raises:
        InputError: the file is missing, empty, not a video, without pictures, or shorter than it says.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; give the path of a video file or of a folder of images")
    bytes_there = path.stat().st_size
    if bytes_there == 0:
        raise InputError(f"{path} is empty (0 bytes); copy or record it again")
    try:
        with av.open(str(path)) as container:
            if container.format.name == "tty":
                raise InputError(f"{path} is a text file, not a video")
            if not container.streams.video:
                raise InputError(f"{path} holds no pictures, only sound or text; give a file with a video stream")
            length = _indexed(path, container, bytes_there) or _read_through(path, container)
    except (av.FFmpegError, OSError) as error:
        raise _no_video(path) from error
    reader = AvReader(path)
    try:
        first = reader.read()
        if first is None:
            raise InputError(f"{path} holds no frame that can be decoded; convert it with ffmpeg first")
        return VideoFile(path, reader.fps, (first.shape[0], first.shape[1]), length)
    finally:
        reader.close()


def _indexed(path: Path, container: Any, bytes_there: int) -> int | None:
    """Number of frames by the file's index, None where it has no full one."""
    stream = container.streams.video[0]
    entries = getattr(stream, "index_entries", ())
    if not stream.frames or len(entries) != stream.frames:
        return None
    shown, whole = 0, 0
    for entry in entries:
        shown += not entry.is_discard
        whole += entry.pos + entry.size <= bytes_there
    if whole < len(entries):
        raise _cut_off(path, whole, len(entries), "frames")
    return shown


def _read_through(path: Path, container: Any) -> int:
    """Number of frames by counting packets; raises InputError where the file ends before it says."""
    video = container.streams.video[0]
    promised, seconds = int(video.frames), (container.duration or 0) / 1e6
    shown, packets, end = 0, 0, 0.0
    try:
        for packet in container.demux():
            if packet.pts is None or packet.time_base is None:
                continue
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index == video.index:
                packets += 1
                shown += not packet.is_discard
    except (av.FFmpegError, OSError):
        pass  # the file breaks off here: what was counted is what it holds
    if packets < promised - max(2, 0.01 * promised):
        raise _cut_off(path, packets, promised, "frames")
    end = max(0.0, end - (container.start_time or 0) / 1e6)
    if end < seconds - max(0.3, 0.02 * seconds):
        raise _cut_off(path, round(end, 1), round(seconds, 1), "seconds")
    return shown


def _cut_off(path: Path, holds: float, says: float, unit: str) -> InputError:
    return InputError(f"{path} is cut off: it holds {holds} of the {says} {unit} that it says; copy or record it again")


def _no_video(path: Path) -> InputError:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] in (b"ftyp", b"moov", b"mdat"):
        return InputError(f"{path} is cut off: its index is missing, so the recording or the copy stopped early; "
                          "copy or record it again")
    return InputError(f"{path} is not a video that can be read; give mp4, mov, webm, mkv or avi, or a folder of images")

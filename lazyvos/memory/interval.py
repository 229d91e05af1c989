"""When a frame is considered for the memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """A sampling interval of ``every`` frames (thesis, s_r).

    ``flexible``: at least ``every`` frames after the newest stored one, so that a refused frame is tried again at once
    (QDMN; the starred rows of the thesis). Otherwise: the frames whose number is a multiple of ``every``.

    Raises ValueError for ``every`` below 1.
    """

    every: int = 5
    flexible: bool = True

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every is {self.every}; the sampling interval must be at least 1 frame")

    def admits(self, clock: int, newest: int | None) -> bool:
        """Is the frame at ``clock`` due, where the newest stored one came at ``newest`` (``None``: nothing stored)?"""
        if newest is None:
            return True
        return clock - newest >= self.every if self.flexible else clock % self.every == 0

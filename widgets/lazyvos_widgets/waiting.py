"""Clicks on one frame that wait for the next round."""

from __future__ import annotations

from typing import Any

from lazyvos.rounds import Rounds
from lazyvos.types import Click, InputError


class Waiting:
    """Clicks are added, taken back one by one or all at once, and come back in the same way.

    Attributes
    ----------
    frame: the one that was clicked on; ``None`` without clicks. clicks: in order. taken: those that :meth:`redo` brings back, newest last.
    """

    def __init__(self) -> None:
        self.frame: int | None = None
        self.clicks: list[Click] = []
        self.taken: list[Click] = []

    def add(self, rounds: Rounds, t: int, click: Click) -> str:
        """Add a click on frame ``t``; returns what has to be said if that cannot be now.

        Raises :class:`InputError` for a frame that does not exist, a click outside it, and where no refiner understands clicks.
        """
        rounds.frames.check(t)
        click.check_inside(rounds.frames.size)
        if rounds.refiner is None:
            raise InputError("clicks need a refiner; build the rounds with one, or give masks with rounds.interact(frame, mask=...)")
        if self.clicks and self.frame != t:
            return f"Clicks wait on frame {self.frame}: propagate or discard them before you click on another frame."
        self.frame, self.clicks, self.taken = t, [*self.clicks, click], []
        return ""

    def undo(self) -> None:
        """Take the newest click back."""
        if self.clicks:
            self.taken.append(self.clicks.pop())

    def redo(self) -> None:
        """Bring back the click that was taken back last."""
        if self.taken:
            self.clicks.append(self.taken.pop())

    def discard(self) -> None:
        """Take all clicks back."""
        self.taken, self.clicks = [*self.taken, *reversed(self.clicks)], []

    def clear(self) -> None:
        """The round is done."""
        self.frame, self.clicks, self.taken = None, [], []

    def data(self) -> dict[str, Any]:
        """For the page."""
        return {"frame": self.frame if self.clicks else None, "clicks": [plain(click) for click in self.clicks], "taken": len(self.taken)}


def plain(click: Click) -> list[Any]:
    """A click for JSON."""
    return [click.x, click.y, click.object, click.positive]

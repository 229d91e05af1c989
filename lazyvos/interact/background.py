"""A user who never holds up the video: asked in a thread of its own, heard when the answer is there."""

from __future__ import annotations

import queue
import threading
import time

import numpy as np

from lazyvos.interact.base import Answer, User
from lazyvos.types import Prediction, Request


class Background:
    """Asks ``user`` in a thread, one request after the other; the tracker goes on and takes the answer when it comes.

    An answer is given on the first frame after it was made, as a click of a person who watches a live picture. A request
    that was not answered ``patience`` seconds after it was made lapses. While an object's request is open, further ones
    for it are not passed on. An error in ``user`` is raised by the next :meth:`arrivals`.

    Raises ValueError for a negative patience.
    """

    def __init__(self, user: User, patience: float = 5.0) -> None:
        if not patience >= 0:
            raise ValueError(f"patience is {patience}; give a number of seconds, at least 0.")
        self.user, self.patience = user, patience
        self._asked: queue.SimpleQueue[tuple[Request, np.ndarray, Prediction, float] | None] = queue.SimpleQueue()
        self._given: queue.SimpleQueue[tuple[Request, Answer | Exception, float]] = queue.SimpleQueue()
        self._open: dict[int, float] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    def answer(self, request: Request, frame: np.ndarray, prediction: Prediction) -> Answer:
        """Passes the request on and returns ``None`` at once."""
        now = time.monotonic()
        if not self._closed and now > self._open.get(request.object, -np.inf):
            self._open[request.object] = now + self.patience
            self._asked.put((request, frame, prediction, now + self.patience))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="lazyvos-user", daemon=True)
                self._thread.start()
        return None

    def arrivals(self, t: int) -> list[tuple[Request, Answer]]:
        """Answers that are there, with their requests; ``t`` does not matter. Raises what ``user`` raised."""
        found: list[tuple[Request, Answer]] = []
        now = time.monotonic()
        while not self._given.empty():
            request, answer, until = self._given.get()
            self._open.pop(request.object, None)
            if isinstance(answer, Exception):
                raise answer
            if answer is not None and now <= until:
                found.append((request, answer))
        return found

    def close(self) -> None:
        """Ask nothing more. An answer that is being made is not waited for."""
        self._closed = True
        self._asked.put(None)

    def _work(self) -> None:
        while (job := self._asked.get()) is not None and not self._closed:
            request, frame, prediction, until = job
            answer: Answer | Exception = None
            if time.monotonic() <= until:
                try:
                    answer = self.user.answer(request, frame, prediction)
                except Exception as error:
                    answer = error
            self._given.put((request, answer, until))

"""One background thread per widget: work never runs on the kernel's own thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

Command = dict[str, Any]


class Worker:
    """Works off commands in order and, while ``playing``, takes a step whenever there is none.

    Clicks that wait right behind each other are handed over together. The thread starts with the first command.

    Args:
        obey: does one command, or several clicks.
        step: one step of playing; clears ``playing`` at the end.
        failed: is told of an exception of either and the commands it belongs to.
    """

    def __init__(self, obey: Callable[[list[Command]], None], step: Callable[[], None],
                 failed: Callable[[Exception, list[Command]], None]) -> None:
        self._obey, self._step, self._failed = obey, step, failed
        self.playing = False
        self.closed = False
        self.thread: threading.Thread | None = None
        self._idle = True
        self._commands: deque[Command] = deque()
        self._wake = threading.Condition()

    def put(self, command: Command) -> None:
        """Take a command; returns at once. ``pause`` also ends playing at once."""
        with self._wake:
            if self.closed:
                return
            if command.get("kind") == "pause":
                self.playing = False
            self._commands.append(command)
            self._idle = False
            if self.thread is None:
                self.thread = threading.Thread(target=self._work, name="lazyvos-widget", daemon=True)
                self.thread.start()
            self._wake.notify_all()

    def wait(self, seconds: float) -> None:
        """Return when nothing is left to do; raise ``TimeoutError`` after ``seconds``."""
        with self._wake:
            if not self._wake.wait_for(lambda: self._idle or self.closed, seconds):
                raise TimeoutError(f"the widget is still working after {seconds:g} s; pause it, or wait longer")

    def close(self) -> None:
        """End the thread after what it is doing."""
        with self._wake:
            self.closed = True
            self._wake.notify_all()

    def _work(self) -> None:
        while (commands := self._next()) is not None:
            try:
                if commands:
                    self._obey(commands)
                else:
                    self._step()
            except Exception as error:  # whatever happens has to be seen in the page
                self.playing = False
                self._failed(error, commands)

    def _next(self) -> list[Command] | None:
        """The next commands, none to play a step, ``None`` at the end."""
        with self._wake:
            while not (self._commands or self.playing or self.closed):
                self._idle = True
                self._wake.notify_all()
                self._wake.wait()
            if self.closed:
                return None
            taken = [self._commands.popleft()] if self._commands else []
            while taken and self._commands and taken[0].get("kind") == self._commands[0].get("kind") == "click":
                taken.append(self._commands.popleft())
            return taken

"""What all widgets have in common: the files of their page, and errors that are seen on both sides."""

from __future__ import annotations

import logging
import traceback
from collections import deque
from pathlib import Path
from typing import Any

import anywidget

from lazyvos.types import InputError

log = logging.getLogger(__name__)


def source(name: str) -> tuple[str, str]:
    """Script and style sheet of a widget, each one text behind what all share, as ``anywidget`` takes them."""
    here = Path(__file__).parent
    script, style = ((here / f"common.{kind}").read_text("utf-8") + (here / f"{name}.{kind}").read_text("utf-8") for kind in ("js", "css"))
    return script, style


class Page(anywidget.AnyWidget):
    """A widget whose errors, and those of its page, are logged, kept in ``errors`` (the newest hundred) and shown by :meth:`_push`."""

    _error = ""

    def __init__(self, **traits: Any) -> None:
        self.errors: deque[str] = deque(maxlen=100)
        super().__init__(**traits)

    def _push(self) -> None:
        raise NotImplementedError

    def _failed(self, error: Exception, commands: list[dict[str, Any]]) -> None:
        """Work that the page asked for went wrong."""
        known = isinstance(error, InputError)
        self._error = str(error) if known else f"{type(error).__name__}: {error}"
        self._note(self._error if known else f"{commands}: {''.join(traceback.format_exception(error))}")
        self._push()

    def _complained(self, content: dict[str, Any]) -> None:
        """The page reports an error of its own."""
        self._note(f"page: {content.get('message')}\n{content.get('stack', '')}".strip())

    def _note(self, text: str) -> None:
        self.errors.append(text)
        log.warning("%s", text)

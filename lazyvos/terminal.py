"""A person at a terminal answers requests: a picture to look at, one line to type."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np
from PIL import Image

from lazyvos.masks import atomic_path, overlay
from lazyvos.types import Click, InputError, Prediction, Request


class TerminalUser:
    """Writes the uncertain frame to ``picture`` (PNG) and reads clicks from ``stdin``.

    An answer is one line: ``x,y`` for a positive click, ``x,y-`` for a negative one, several apart by spaces, nothing to go
    on without. Clicks speak of the object asked about unless they say ``@other``. ``waited`` adds up the seconds spent
    waiting. The end of the input means no further answers.

    Raises :class:`InputError` where ``stdin`` is no terminal.
    """

    def __init__(self, picture: str | Path, stdin: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self.picture = Path(picture)
        self._in, self._err = stdin or sys.stdin, stderr or sys.stderr
        if not self._in.isatty():
            raise InputError("--user ask needs a terminal to answer on; use --user none or --user simulated in scripts")
        self.waited = 0.0
        self._gone = False

    def answer(self, request: Request, frame: np.ndarray, prediction: Prediction) -> Sequence[Click] | None:
        """Clicks for the request, or ``None``."""
        if self._gone:
            return None
        began = time.perf_counter()
        try:
            self._show(request, frame, prediction)
            jump = "" if request.delta is None else f", {request.delta:+.2f}"
            print(
                f"\nframe {request.t}: object {request.object} is uncertain ({request.score:.2f}{jump}); see {self.picture}",
                file=self._err,
            )
            return self._read(request, prediction.size)
        finally:
            self.waited += time.perf_counter() - began

    def _read(self, request: Request, size: tuple[int, int]) -> tuple[Click, ...] | None:
        while True:
            print("click x,y (x,y- for negative; empty line: go on): ", end="", file=self._err, flush=True)
            line = self._in.readline()
            if not line:
                self._gone = True
                return None
            if not line.strip():
                return None
            try:
                return tuple(self._click(word, request, size) for word in line.split())
            except InputError as error:
                print(error, file=self._err)

    @staticmethod
    def _click(word: str, request: Request, size: tuple[int, int]) -> Click:
        click = Click.parse(word)
        if "@" not in word:
            click = replace(click, object=request.object)
        click.check_inside(size)
        return click

    def _show(self, request: Request, frame: np.ndarray, prediction: Prediction) -> None:
        picture = overlay(frame, prediction.labels, alpha=0.25, contour=2, entropy=prediction.entropy)
        if request.at is not None:
            centre = round(request.at[0]), round(request.at[1])
            radius = max(12, min(prediction.size) // 12)
            for color, width in (((0, 0, 0), 4), ((255, 255, 255), 2)):
                cv2.circle(picture, centre, radius, color, width, cv2.LINE_AA)
        with atomic_path(self.picture) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")

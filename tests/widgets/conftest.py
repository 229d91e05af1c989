"""A small clip and a tracker that knows objects by their colour, so that sessions can be tested without a network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lazyvos.types import Action, Decision, Prediction

SIZE = 48, 64
COLORS = {1: (200, 30, 30), 2: (30, 60, 210)}


def frame_at(t: int) -> np.ndarray:
    """A red square that goes right and a blue one that goes left, on grey."""
    frame = np.full((*SIZE, 3), 120, np.uint8)
    frame[8:20, 4 + t:16 + t] = COLORS[1]
    frame[28:40, 50 - t:62 - t] = COLORS[2]
    return frame


class ColourTracker:
    """An object is whatever has the colours of its positive clicks, away from its negative ones."""

    def __init__(self, ask: dict[int, list[int]] | None = None, pseudo: dict[int, list[int]] | None = None) -> None:
        self.ask, self.pseudo = ask or {}, pseudo or {}
        self.t, self.committed = -1, -1
        self.colours: dict[int, list[tuple[int, ...]]] = {}
        self.calls: list[str] = []

    @property
    def objects(self):
        return tuple(self.colours)

    def predict(self, frame):
        if self.t != self.committed:
            raise RuntimeError("commit first")
        self.t += 1
        self.frame, self.draft, self.away, self.refined = frame, dict(self.colours), {}, ()
        return self._see()

    def _see(self):
        objects = tuple(self.draft)
        labels = np.zeros(self.frame.shape[:2], np.uint8)
        for name, colours in self.draft.items():
            for colour in colours:
                labels[np.abs(self.frame.astype(int) - colour).max(-1) < 30] = name
            for x, y in self.away.get(name, ()):
                labels[max(0, y - 4):y + 5, max(0, x - 4):x + 5] = 0
        hot = torch.stack([torch.from_numpy(labels == name) for name in (0, *objects)]).float()
        doubt = np.zeros(labels.shape, np.float32)
        asked = self.ask.get(self.t, [])
        for name in asked:
            doubt[labels == name] = 0.9
        scores = {name: 0.9 if name in asked else 0.1 for name in objects}
        deltas = {name: None if self.t < 2 else scores[name] - 0.1 for name in objects}
        return Prediction(self.t, labels, hot, objects, doubt, scores, deltas, self.refined)

    def correct(self, clicks=None, mask=None):
        self.calls.append("correct")
        for name in dict.fromkeys(click.object for click in clicks or ()):
            own = [click for click in clicks if click.object == name]
            points = [(int(c.x), int(c.y)) for c in own if c.positive]
            self.draft[name] = [tuple(int(v) for v in self.frame[y, x]) for x, y in points]
            self.draft[name] += self.colours.get(name, []) if not points else []
            self.away[name] = [(int(c.x), int(c.y)) for c in own if not c.positive]
            self.refined = (*self.refined, name)
        if mask is not None:
            for name in np.unique(mask[mask > 0]):
                self.draft[int(name)] = [tuple(int(v) for v in np.median(self.frame[mask == name], axis=0))]
        return self._see()

    def pseudo_correct(self, objects):
        self.calls.append("pseudo")
        self.refined = (*self.refined, *(name for name in objects if name in self.draft))
        return self._see()

    def revert(self):
        self.draft, self.away, self.refined = dict(self.colours), {}, ()
        return self._see()

    def wishes(self):
        wish = {**dict.fromkeys(self.pseudo.get(self.t, []), Action.PSEUDO),
                **dict.fromkeys(self.ask.get(self.t, []), Action.ASK)}
        return {name: wish.get(name, Action.ACCEPT) for name in self.draft}

    def commit(self):
        self.colours, self.committed = self.draft, self.t
        kept = self.t % 5 == 0
        return Decision(self.t, kept, "filled" if kept else "interval", slot=self.t // 5 if kept else None,
                        log_gram_after=-float(self.t))

    def state(self):
        return {"t": self.committed, "colours": {name: [list(c) for c in colours] for name, colours in self.colours.items()}}

    def load_state(self, state):
        self.t = self.committed = state["t"]
        self.colours = {name: [tuple(c) for c in colours] for name, colours in state["colours"].items()}


@pytest.fixture
def colour_tracker():
    return ColourTracker


@pytest.fixture
def clip():
    return [frame_at(t) for t in range(30)]

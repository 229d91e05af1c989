"""What a policy would say of scores that were recorded: its decisions anew, without running the network again."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lazyvos.curves import Mark
from lazyvos.interact.base import Policy
from lazyvos.types import Action, InputError
from lazyvos.uncertainty.entropy import score_changes


@dataclass(frozen=True)
class Replay:
    """Decisions on recorded scores, by frame and then by object.

    Attributes
    ----------
    requests, pseudo: where the policy asks, and where it corrects the mask by itself; ``score`` is S_R there.
    refused: frames that it does not admit to the memory (UDU), before any correction.
    """

    requests: tuple[Mark, ...] = ()
    pseudo: tuple[Mark, ...] = ()
    refused: tuple[int, ...] = ()

    def parts_from(self, other: Replay) -> int | None:
        """The first frame on which the two decide differently; ``None`` where they agree throughout.

        With ``other`` the decisions of the policy that the scores were recorded with, this replay is what would have happened up
        to and including that frame, and a guess after it.
        """
        frames = {t for mine, its in zip(self._events(), other._events(), strict=True) for t, _ in mine ^ its}
        return min(frames, default=None)

    def _events(self) -> tuple[set[tuple[int, int]], ...]:
        asked, pseudo = ({(mark.t, mark.object) for mark in marks} for marks in (self.requests, self.pseudo))
        return asked, pseudo, {(t, 0) for t in self.refused}


def replay(scores: Mapping[int, Mapping[int, float | None]], policy: Policy) -> Replay:
    """What ``policy`` decides on recorded scores; it is copied and keeps its own state.

    A replay cannot know what a decision leads to. A correction changes the mask, and what is stored changes all later predictions and
    so their scores; here the scores stay as they were recorded. :meth:`Replay.parts_from` says how far that is exact.

    Parameters
    ----------
    scores: frame number -> object id -> S_R of the uncorrected prediction, as in ``step.original.scores`` of a tracker's steps or
        ``scores`` of a journal's ``commit`` events. ``None`` as if the object were not there. The change of a score is known only
        where the frame before was recorded too; as in the tracker, frame 0 gives none.
    policy: one that looks at scores and their changes alone, as ``Lazy``, ``RandomBudget``, or ``Budgeted`` around them do.

    Raises :class:`InputError` for a score that is no finite number, a negative frame number, and for a policy that looks at more than
    scores (masks or probabilities, as ``Outside`` and ``Persistent`` do).
    """
    policy = copy.deepcopy(policy)
    requests: list[Mark] = []
    pseudo: list[Mark] = []
    refused: list[int] = []
    earlier: dict[int, float] = {}
    last = -1
    for t in sorted(scores):
        known = _checked(t, scores[t])
        if not known:
            continue
        seen: Any = _Scored(t, known, score_changes(known, earlier if last == t - 1 else {}), type(policy).__name__)
        wishes = policy.decide(seen)
        requests += [Mark(t, o, known[o]) for o in known if wishes.get(o) is Action.ASK]
        pseudo += [Mark(t, o, known[o]) for o in known if wishes.get(o) is Action.PSEUDO]
        if not policy.admits(seen):
            refused.append(t)
        earlier, last = ({}, -1) if t == 0 else (known, t)
    return Replay(tuple(requests), tuple(pseudo), tuple(refused))


class _Scored:
    """The part of a :class:`lazyvos.types.Prediction` that a record of scores holds."""

    def __init__(self, t: int, scores: Mapping[int, float], deltas: Mapping[int, float | None], policy: str) -> None:
        self.t, self.objects, self.scores, self.deltas = t, tuple(scores), scores, deltas
        self._policy = policy

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise InputError(
            f"{self._policy} looks at {name!r} of a frame, which recorded scores do not hold; replay a policy that looks at scores alone, "
            "or track the clip again"
        )


def _checked(t: int, given: Mapping[int, float | None]) -> dict[int, float]:
    if t < 0:
        raise InputError(f"frame {t} of the recorded scores is negative; frames are numbered from 0")
    known = {o: float(score) for o, score in sorted(given.items()) if score is not None}
    for o, score in known.items():
        if not math.isfinite(score):
            raise InputError(f"the score of object {o} on frame {t} is {score}; give a finite number, or None where there is none")
    return known

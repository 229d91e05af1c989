"""Settings of READMem."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lazyvos.memory.associate import AFFINITIES, EMPTY, TRANSITIONS

SIMILARITIES = ("cosine", "dot")
BOUNDS = ("annotated", "dynamic", "ensemble max", "ensemble mean", "last", "annotated+last", "annotated+max")
STARTS = ("every_t", "annotated_copies")
REFERENCES = ("query", "fixed")


@dataclass(frozen=True, kw_only=True)
class ReadMemConfig:
    """Settings of READMem; the defaults are the published ones (thesis, section 5.5, and the released code).

    slots: N, the diverse slots (the annotated frame has the first).
    every, flexible: the sampling interval s_r (:class:`lazyvos.memory.interval.Interval`).
    adjacent: one slot more that always holds the previous frame.
    lower_bound: l_sb; a frame must be more similar than this to the annotated one.
    lsb: what is compared with it: ``annotated``, or the largest, mean or last similarity to a stored entry
        (``ensemble max``, ``ensemble mean``, ``last``), or a mix ``annotated+last``, ``annotated+max`` with
        ``annotated_weight`` on the annotated frame. ``dynamic`` is ``annotated`` with a bound lowered by γ, one less the mean
        similarity of the ``short_term`` latest frames to one another: a video that changes fast admits more. With one such
        frame, as published, γ is 0.
    similarity: ``cosine`` of the flattened keys, rounded to 5 decimals (code), or ``dot`` (thesis, equation 5.5).
    transition: how a stored key is aligned to the query (:func:`lazyvos.memory.associate.associate`); ``None``: not at all.
    affinity, empty_column: of the transition.
    reference: ``query`` aligns the stored keys to each new frame, and Γ keeps what was measured then (published). ``fixed``
        aligns each new key once, to the first entry of its object, by the most similar query position of each of that entry's
        positions, and stores it so (thesis, section 5.7): Γ is then a true Gram matrix, without rounding. Of the transition only
        ``None`` (no alignment) still counts.
    initialisation: ``every_t`` fills the slots with the frames that come; ``annotated_copies`` starts with copies of the
        annotated frame, which are replaced first.
    rea_while_filling: align keys for the rows of Γ while slots are free, too (thesis; the code does not).
    last_object_affinity: one association for all objects, the last object's (code); only for keys per object.

    Raises ValueError for a setting that is not among these.
    """

    slots: int = 20
    every: int = 10
    flexible: bool = False
    adjacent: bool = True
    lower_bound: float = 0.5
    lsb: str = "annotated"
    annotated_weight: float = 0.5
    short_term: int = 1
    similarity: str = "cosine"
    transition: str | None = "column argmax"
    affinity: str = "W"
    empty_column: str = "first"
    reference: str = "query"
    initialisation: str = "every_t"
    rea_while_filling: bool = False
    last_object_affinity: bool = False

    def __post_init__(self) -> None:
        choices: tuple[tuple[str, tuple[str | None, ...]], ...] = (
            ("lsb", BOUNDS),
            ("similarity", SIMILARITIES),
            ("transition", (*TRANSITIONS, None)),
            ("affinity", AFFINITIES),
            ("empty_column", EMPTY),
            ("reference", REFERENCES),
            ("initialisation", STARTS),
        )
        for name, allowed in choices:
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(map(repr, allowed))}")
        if self.slots < 2:
            raise ValueError(f"slots is {self.slots}; READMem needs at least 2, the first is the annotated frame's")
        if self.short_term < 1:
            raise ValueError(f"short_term is {self.short_term}; give at least 1, the frame itself")
        if not np.isfinite(self.lower_bound):
            raise ValueError(f"lower_bound is {self.lower_bound}; give a number, -1 admits every frame")

    @property
    def fixed(self) -> bool:
        """Is every key aligned once, to a frame of reference that never changes?"""
        return self.reference == "fixed"

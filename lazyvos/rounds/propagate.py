"""One pass of a round: from the annotated frame outwards, up to the nearest frames that were annotated before."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lazyvos.backbones.layers import aggregate
from lazyvos.memory.base import Memory, Want
from lazyvos.rounds.clip import Encoder
from lazyvos.rounds.difference import Change, Fusion
from lazyvos.rounds.state import Annotation, State


@dataclass(frozen=True)
class Leg:
    """One direction of a round.

    ``bounds``: for each object the annotated frame that ends its way, ``None`` where it goes on to the end of the clip. Frames are
    ``start + step, start + 2·step, …``, as long as some object is on its way; :attr:`frames` counts them.
    """

    start: int
    step: int
    bounds: dict[int, int | None]
    length: int

    @staticmethod
    def of(state: State, start: int, step: int, objects: Sequence[int], length: int) -> Leg:
        """The leg from ``start`` where the frames of ``state.annotations`` are in the way.

        An object is stopped only by frames on which a mask of *it* was given: with all objects there from the first round these
        are all annotated frames (thesis, equations 4.2 and 4.3); one that was introduced later passes through the frames
        annotated before it existed.
        """
        bounds: dict[int, int | None] = {}
        for identity in objects:
            beyond = [t for t in state.annotated_for(identity) if (t - start) * step > 0]
            bounds[identity] = min(beyond, key=lambda t: abs(t - start)) if beyond else None
        return Leg(start, step, bounds, length)

    def end(self, identity: int) -> int:
        """First frame that the object does not reach."""
        bound = self.bounds[identity]
        return bound if bound is not None else self.length if self.step > 0 else -1

    @property
    def frames(self) -> range:
        """Frames of the leg in order."""
        ends = [self.end(o) for o in self.bounds]
        return range(self.start + self.step, max(ends) if self.step > 0 else min(ends), self.step)


class Watch:
    """Seconds by name."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the time inside under ``name``."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - began  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Frame:
    """A propagated frame: fused probabilities ``[O, h, w]`` of the ``objects`` that came by."""

    t: int
    objects: tuple[int, ...]
    planes: Tensor


def pins(annotations: Sequence[Annotation], history: str) -> list[Annotation]:
    """The given masks that a pass starts with; the last of ``annotations`` is that of the round.

    ``"code"``: all of them in the order they were given, a frame that was annotated twice with both masks (MiVOS's released code).
    ``"latest"``: the newest mask of every frame. ``"restart"``: that of the round alone (thesis, section 4.4.3).
    """
    if history == "restart":
        return [annotations[-1]]
    if history == "latest":
        newest = {a.frame: a for a in annotations}
        return [a for a in annotations if newest[a.frame] is a]
    return list(annotations)


def propagate(
    encoder: Encoder, memory: Memory, leg: Leg, given: Sequence[Annotation], start: Tensor | None, change: Change,
    fusion: Fusion, state: State, watch: Watch,
) -> Iterator[Frame]:  # fmt: skip
    """Walk a leg, frame by frame.

    The memory starts with the masks ``given`` (frames get running numbers, since a leg may run backwards), then takes
    what its own rule wants; the last frame of a leg is not memorised, and what is memorised is not fused. The recurrent state begins
    as ``start``, that of the annotated frame.

    Parameters
    ----------
    memory: a fresh one. given: see :func:`pins`. state: before the round, for the results to fuse with.
    """
    net = encoder.net
    for number, annotation in enumerate(given):
        memory.pin(replace(encoder.entry(annotation), t=number), 0)
    active, recurrent = change.objects, start
    for clock, t in enumerate(leg.frames, 1):
        staying = [row for row, o in enumerate(active) if leg.end(o) * leg.step > t * leg.step]
        if len(staying) < len(active):
            for row, identity in enumerate(active):
                if row not in staying:
                    memory.drop(identity)
            active = tuple(active[row] for row in staying)
            recurrent = None if recurrent is None else recurrent[staying]
        with watch("frames"):
            image = encoder.image(t)
        with watch("encode"):
            query = encoder.query(t, image, recurrent)
        with watch("propagate"):
            readout = memory.read(query, active, net.top_k)
            with encoder.autocast():
                logits, moved = net.decode(query, readout.value, recurrent)
            new = aggregate(torch.sigmoid(logits.float()), 0)[1][1:]
            if t != leg.frames[-1]:
                want = memory.wants(clock)
                if want is not Want.NO:
                    deep = want is Want.REGULAR
                    with encoder.autocast():
                        entry, deepened = net.memorise(len(given) - 1 + clock, query, image, new, active, recurrent, deep)
                    memory.offer(replace(entry, masks=new), clock)
                    moved = deepened if deep else moved
        with watch("fuse"):
            planes = new
            if fusion.kind != "none" and any(leg.bounds[o] is not None for o in active):
                old = state.at_network(t, active).to(new.device)
                with encoder.autocast():
                    planes = fusion(t, image, query, active, new, old, change, leg.bounds)
        recurrent = moved
        yield Frame(t, active, planes)

"""One round from its clicks to the masks of all frames; holds the parts of the pipeline and nothing of the rounds before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lazyvos.memory.base import Memory
from lazyvos.refine.base import Refiner
from lazyvos.rounds.clip import Encoder
from lazyvos.rounds.difference import Change, Fusion
from lazyvos.rounds.interaction import combine, masks_at
from lazyvos.rounds.parts import Progress, reporting
from lazyvos.rounds.propagate import Leg, Watch, pins, propagate
from lazyvos.rounds.request import Ask
from lazyvos.rounds.result import ObjectRound, RoundResult
from lazyvos.rounds.state import Annotation, Cell, Packer, State


@dataclass(frozen=True, eq=False)
class Engine:
    """The parts; ``memory`` makes a fresh one, ``history`` and ``combination`` are as in :class:`lazyvos.rounds.Rounds`."""

    encoder: Encoder
    refiner: Refiner | None
    memory: Callable[[], Memory]
    fusion: Fusion
    packer: Packer
    history: str
    combination: str

    def run(self, ask: Ask, before: State, number: int, progress: Progress) -> RoundResult:
        """Round ``number`` after the state ``before``, which stays as it is."""
        if ask.empty:
            return RoundResult(number, ask.frame, (), {}, (), {}, before, before)
        watch, length = Watch(), len(before.cells)
        known = (*before.objects, *ask.new)
        with watch("interaction"):
            previous = dict(zip(before.objects, before.planes(ask.frame, before.objects), strict=True))
            stack, sources = masks_at(self.encoder.frames[ask.frame], known, ask.clicks, ask.masks, previous, self.refiner)
            planes = combine(stack, self.combination)[1:]
        with watch("keep"), torch.inference_mode():
            cell = self.packer.pack(planes, known, at_frame=True)
        annotation = Annotation(ask.frame, known, cell)
        annotations = (*before.annotations, annotation)
        with watch("propagate"), torch.inference_mode():
            annotation.entry, start = self.encoder.start(annotation)
            assert annotation.entry.masks is not None
            old = before.at_network(ask.frame, known).to(self.encoder.device)
            change = Change.of(ask.frame, known, annotation.entry, annotation.entry.masks, old)
        cells: dict[int, Cell] = {ask.frame: cell}
        legs = [Leg.of(before, ask.frame, step, known, length) for step in (1, -1)]
        given = pins(annotations, self.history)
        total = sum(len(leg.frames) for leg in legs)
        with reporting(progress, total, f"round {number}") as tell, torch.inference_mode():
            for leg in legs:
                for done in propagate(self.encoder, self.memory(), leg, given, start, change, self.fusion, before, watch):
                    with watch("keep"):
                        cells[done.t] = self._kept(before, done.t, known, done.objects, done.planes)
                    tell()
        merged = tuple(cells.get(t, earlier) for t, earlier in enumerate(before.cells))
        after = State(before.geometry, merged, known, annotations)
        labels = after.labels(ask.frame)
        rows = {
            o: ObjectRound(
                o, ask.clicks.get(o, ()), sources[o], o in ask.new,
                sum(abs(leg.end(o) - ask.frame) - 1 for leg in legs), int((labels == o).sum()),
            )
            for o in known
        }  # fmt: skip
        return RoundResult(number, ask.frame, ask.flat, rows, tuple(sorted(cells)), dict(watch.seconds), after, before)

    def _kept(self, before: State, t: int, known: tuple[int, ...], moved: tuple[int, ...], planes: Tensor) -> Cell:
        """The cell of a propagated frame. Objects that did not come by keep their masks to the bit; the others share what these leave."""
        old = before.cells[t]
        if moved == known or old is None:
            return self.packer.pack(planes, moved)
        staying = tuple(o for o in old.objects if o not in moved)
        at_frame = old.size == before.geometry.frame
        if at_frame:
            planes = before.geometry.probabilities(planes)
        held = (before.planes if at_frame else before.at_network)(t, staying).to(planes.device)
        planes = planes * (1 - held.sum(0, keepdim=True)).clamp(min=0)
        order = tuple(o for o in known if o in staying or o in moved)
        joined = [held[staying.index(o)] if o in staying else planes[moved.index(o)] for o in order]
        return self.packer.pack(torch.stack(joined), order, at_frame=at_frame)

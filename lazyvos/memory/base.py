"""The joint between the tracker and a memory strategy."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from lazyvos.backbones.base import Entry, Query
from lazyvos.types import Decision


class Want(enum.Enum):
    """Whether a memory wants the frame at hand encoded.

    ``ADJACENT``: only as the previous frame of the next read. ``REGULAR``: for its slots.
    """

    NO = 0
    ADJACENT = 1
    REGULAR = 2


@dataclass(frozen=True, eq=False)
class Readout:
    """What a read gives: ``value [O, C_v, h, w]`` for ``objects`` in order."""

    value: Tensor
    objects: tuple[int, ...]


@runtime_checkable
class Memory(Protocol):
    """Stored frames, which of them to keep, and how they are read.

    ``clock`` counts frames that were not refused (see ``lazyvos.tracker``); it equals the frame number where
    nothing is refused.
    """

    def wants(self, clock: int) -> Want:
        """Does the strategy's sampling rule admit this frame?"""
        ...

    def offer(self, entry: Entry, clock: int, *, force: bool = False) -> Decision:
        """Offer a frame; ``force`` stores it whatever the sampling rule says (a corrected frame)."""
        ...

    def pin(self, entry: Entry, clock: int) -> Decision:
        """Store a frame with a mask that was given; it stays as long as an object depends on it."""
        ...

    def read(self, query: Query, objects: tuple[int, ...], top_k: int | None) -> Readout:
        """Read the memory for ``objects`` at every position of ``query``."""
        ...

    def drop(self, object_id: int) -> None:
        """Forget one object."""
        ...

    def frames(self) -> tuple[int, ...]:
        """Frame numbers that a read would use, in reading order."""
        ...

    def state(self) -> dict[str, object]:
        """Everything needed to go on from here: tensors and plain values (safe to ``torch.save``)."""
        ...

    def load_state(self, state: dict[str, object]) -> None:
        """Go back to what :meth:`state` returned."""
        ...


@runtime_checkable
class Peeks(Protocol):
    """A memory that can also be read without a trace, as Monte-Carlo dropout does many times a frame. All of ours can."""

    def peek(self, address: Tensor, objects: tuple[int, ...], top_k: int | None) -> Tensor:
        """What ``address [C_a, Q]`` (query side of the similarity, any Q positions) reads: ``float32 [O, Q, C_v]``.

        Nothing is counted as usage, and what the strategy remembers of its last :meth:`Memory.read` stays.
        """
        ...

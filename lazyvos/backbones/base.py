"""The joint between the tracker and a segmentation network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Query:
    """An encoded frame, ready to read the memory.

    ``key [C_k, h, w]``; ``address [C_a, h·w]`` is the query side of the similarity as an inner product;
    ``features`` belongs to the backbone alone.
    """

    key: Tensor
    address: Tensor
    features: Any
    shrinkage: Tensor | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """``(h, w)`` at the backbone's stride."""
        return self.key.shape[-2], self.key.shape[-1]


@dataclass(frozen=True, eq=False)
class Entry:
    """One frame as it is stored: index ``t``, key, value, and the objects that the value speaks of.

    ``key [G, C_k, h, w]`` and ``address [G, C_a, h·w]`` (memory side of the similarity) with G = 1 where all objects share a key
    (XMem, STCN) and G = O where every object has its own (MiVOS, QDMN); ``value [O, C_v, h, w]``;
    ``quality [O]`` where the backbone predicts one. For strategies that compare stored positions with one another:
    ``shrinkage [G, 1, h, w]`` is the factor by which ``address`` grows (``None``: 1), ``query_address [G, C_a, h·w]`` the query side
    of the similarity at the same positions (``None``: the key itself). For strategies that judge the masks:
    ``masks [O, H, W]`` are the soft masks that the value was made from (the tracker fills them in), ``alternatives [O, A, H, W]``
    other soft masks for the same objects where a network gives several. Neither is stored.
    """

    t: int
    key: Tensor
    address: Tensor
    value: Tensor
    objects: tuple[int, ...]
    quality: Tensor | None = None
    shrinkage: Tensor | None = None
    query_address: Tensor | None = None
    masks: Tensor | None = None
    alternatives: Tensor | None = None


@runtime_checkable
class Backbone(Protocol):
    """A segmentation network without memory of its own.

    Images are ``float32 [3, H, W]``, ImageNet-normalised, H and W multiples of ``stride``. The recurrent
    state is a tensor ``[O, ...]`` with one row per object, or ``None`` for networks without one. A network whose
    state is the frame's own mask (QDMN) says ``state_is_mask = True``: a correction then changes its state at once. What it predicts
    besides masks it names in ``gives``, a frozenset: ``"quality"`` (then every entry has one), ``"evidence"`` (:class:`Evidences`).
    """

    stride: int
    top_k: int | None

    def encode(self, image: Tensor, state: Tensor | None = None) -> Query:
        """Encode a frame once, whatever the number of objects."""
        ...

    def initial_state(self, objects: int, grid: tuple[int, int]) -> Tensor | None:
        """State of ``objects`` new objects."""
        ...

    def decode(self, query: Query, readout: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """``readout [O, C_v, h, w]`` gives object logits ``[O, H, W]`` and the state of an ordinary frame."""
        ...

    def memorise(
        self, t: int, query: Query, image: Tensor, prob: Tensor, objects: tuple[int, ...], state: Tensor | None, deep: bool
    ) -> tuple[Entry, Tensor | None]:
        """Encode the soft masks ``prob [O, H, W]`` into an entry; ``deep`` also updates the state from it."""
        ...


@runtime_checkable
class Weighs(Protocol):
    """A network whose similarity is a sum over key channels, so that these can be weighted from the query's side."""

    def weighted_address(self, query: Query, weights: Tensor) -> Tensor:
        """``weights [M, C_k]`` give M times the query side of the similarity, ``[C_a, M·h·w]``, pass after pass; in pass m channel
        c counts ``weights[m, c]`` times. With weights of 1 each is ``query.address``."""
        ...


@runtime_checkable
class Evidences(Protocol):
    """A network that predicts evidence (``lazyvos.uncertainty.evidential``)."""

    def decode_evidence(self, query: Query, readout: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """As :meth:`Backbone.decode`, with evidence ``[O, 2, H, W]`` for and against each object in place of logits."""
        ...

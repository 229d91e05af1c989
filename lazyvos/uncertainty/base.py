"""The joint between the tracker and uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from lazyvos.backbones.base import Backbone, Query

if TYPE_CHECKING:
    from lazyvos.memory.base import Memory
    from lazyvos.uncertainty.ensemble import Decomposition

NEEDS = ("members", "parts", "quality", "evidence")


@dataclass(frozen=True, eq=False)
class Doubt:
    """An uncertainty map ``float32 [H, W]`` and one score per object id; ``parts`` where the map is one of several."""

    map: np.ndarray
    scores: dict[int, float]
    parts: Decomposition | None = None


@runtime_checkable
class Uncertainty(Protocol):
    """Turns probabilities into a map and one score per object.

    An estimator that needs more says so in a class attribute ``needs``, a frozenset of words of :data:`NEEDS`, and gets
    a keyword argument of the same name:

    - ``members``: probabilities ``[M, 1 + O, H, W]`` of the members of an ensemble, or of the passes of an estimator that
      draws its own (:class:`Sampler`);
    - ``parts``: their :class:`~lazyvos.uncertainty.ensemble.Decomposition`, without keeping them all;
    - ``quality``: relative quality of each object's predicted mask, 1 = as good as its annotated frame (QDMN);
    - ``evidence``: ``[O, 2, H, W]``, for and against each object (evidential networks).

    The other estimators cost nothing more than what they compute. Before the first object no estimator is called.
    """

    def __call__(self, probabilities: Tensor, labels: np.ndarray, objects: tuple[int, ...]) -> Doubt:
        """``probabilities [1 + O, H, W]``; ``labels uint8 [H, W]`` of ids; ``objects`` in channel order."""
        ...


@dataclass(frozen=True, eq=False)
class Scene:
    """The frame at hand, for an estimator that makes predictions of its own.

    ``state`` is the recurrent state that the frame began with; ``autocast()`` the precision in which encoders and decoder
    run. Nothing in it may be changed.
    """

    t: int
    query: Query
    objects: tuple[int, ...]
    state: Tensor | None
    backbone: Backbone
    memory: Memory
    autocast: Callable[[], AbstractContextManager[Any]]


@runtime_checkable
class Sampler(Protocol):
    """An estimator that predicts a frame several times; the mean of its predictions becomes the tracker's."""

    def sample(self, scene: Scene) -> Iterator[Tensor]:
        """Probabilities ``[1 + O, h, w]`` at network size, one pass after another."""
        ...

    def check(self, backbone: Any, memory: Any) -> None:
        """Raises :class:`~lazyvos.types.InputError` where these cannot be sampled."""
        ...

"""One encoder pass of a frame for several trackers that differ only in what comes after it."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn

from lazyvos.backbones.base import Backbone, Query
from lazyvos.backbones.mivos import MiVOS
from lazyvos.backbones.stcn import STCN
from lazyvos.backbones.xmem import XMem


def shareable(net: Any) -> bool:
    """Whether ``net.encode`` depends on the image alone, so that its result may be used more than once.

    True of XMem, STCN and MiVOS (subclasses with an ``encode`` of their own apart), and of a network that says
    ``encode_ignores_state = True``; not of QDMN, which looks at the previous mask, and not of a network with any part in
    training mode (MC dropout), which draws at random.
    """
    if isinstance(net, nn.Module) and any(part.training for part in net.modules()):
        return False
    known = getattr(type(net), "encode", None) in (XMem.encode, STCN.encode, MiVOS.encode)
    return known or bool(getattr(net, "encode_ignores_state", False))


class SharedEncoder:
    """Keeps the encoding of the frame at hand, and of no other.

    Where ``share`` is false, or sharing would not be exact, every call is a pass of its own. ``passes`` counts encoder passes
    that were made, ``saved`` those that were not needed.
    """

    def __init__(self, net: Any, share: bool = True) -> None:
        self.net, self.exact = net, share and shareable(net)
        self.passes = self.saved = 0
        self._image: Tensor | None = None
        self._query: Query | None = None
        self._seconds = 0.0

    def view(self) -> SharedView:
        """The network for one tracker."""
        return SharedView(self)

    def forget(self) -> None:
        """The next image is another one."""
        self._image = self._query = None

    def encode(self, image: Tensor, state: Tensor | None) -> tuple[Query, float]:
        """The encoding, and the seconds that this caller would have spent on it had it been alone (0 if it did)."""
        if self.exact and self._query is not None and self._image is not None and torch.equal(image, self._image):
            self.saved += 1
            return self._query, self._seconds
        began = time.perf_counter()
        query = self.net.encode(image, state)
        self.passes += 1
        if self.exact:
            if image.is_cuda:
                torch.cuda.synchronize(image.device)
            self._image, self._query, self._seconds = image, query, time.perf_counter() - began
        return query, 0.0


class SharedView:
    """A backbone as one tracker sees it; ``owed`` adds up the seconds of the passes that others made for it."""

    def __init__(self, shared: SharedEncoder) -> None:
        self._shared = shared
        self.stride: int = shared.net.stride
        self.top_k: int | None = shared.net.top_k
        self.owed = 0.0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._shared.net, name)

    def encode(self, image: Tensor, state: Tensor | None = None) -> Query:
        """See :class:`lazyvos.backbones.base.Backbone`."""
        query, seconds = self._shared.encode(image, state)
        self.owed += seconds
        return query

    def initial_state(self, objects: int, grid: tuple[int, int]) -> Tensor | None:
        """See :class:`lazyvos.backbones.base.Backbone`."""
        return self._net.initial_state(objects, grid)

    def decode(self, query: Query, readout: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """See :class:`lazyvos.backbones.base.Backbone`."""
        return self._net.decode(query, readout, state)

    def memorise(
        self, t: int, query: Query, image: Tensor, prob: Tensor, objects: tuple[int, ...], state: Tensor | None, deep: bool
    ) -> tuple[Any, Tensor | None]:
        """See :class:`lazyvos.backbones.base.Backbone`."""
        return self._net.memorise(t, query, image, prob, objects, state, deep)

    @property
    def _net(self) -> Backbone:
        return self._shared.net

"""An entry for some of its objects."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from torch import Tensor

from lazyvos.backbones.base import Entry


def only(entry: Entry, objects: Collection[int]) -> Entry:
    """``entry`` with the values (and keys, where every object has its own) of ``objects`` alone, in the entry's order.

    Raises ValueError where it holds none of them.
    """
    rows = [i for i, o in enumerate(entry.objects) if o in objects]
    if not rows:
        raise ValueError(f"entry of frame {entry.t} holds {entry.objects}, none of {tuple(objects)}")

    def pick(part: Tensor | None, own: bool = True) -> Tensor | None:
        return part if part is None or not own else part[rows]

    own = entry.key.shape[0] == len(entry.objects) > 1
    return replace(
        entry, objects=tuple(entry.objects[i] for i in rows), value=entry.value[rows],
        key=entry.key[rows] if own else entry.key, address=entry.address[rows] if own else entry.address,
        shrinkage=pick(entry.shrinkage, own), query_address=pick(entry.query_address, own),
        quality=pick(entry.quality), masks=pick(entry.masks), alternatives=pick(entry.alternatives),
    )  # fmt: skip

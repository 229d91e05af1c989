"""XMem's working and long-term memory as one list of positions (Cheng & Schwing, ECCV 2022, section 3.3).

The long-term positions come first, then the working ones, frame by frame. Keys are shared by all objects. Objects that
came on the same frame form a group; a later group has values at fewer positions, which are aligned to the *end* of each of
the two parts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lazyvos.backbones.base import Entry
from lazyvos.memory.read import block_top_k, pad_length, score_tiles

_FRESH = 1e-7  # life of a position that was never read, so that its normalised usage is 0


@dataclass(frozen=True)
class Limits:
    """When positions move to the long-term memory and how many stay; the defaults are the published ones.

    max_mid_term_frames: as soon as the working memory holds this many frames, its middle is condensed.
    min_mid_term_frames: frames that stay: the first one and the latest ones.
    prototypes: positions that one condensation adds to the long-term memory.
    max_long_term: positions in the long-term memory; the least used make room.

    Raises ValueError for limits that contradict one another.
    """

    max_mid_term_frames: int = 10
    min_mid_term_frames: int = 5
    prototypes: int = 128
    max_long_term: int = 10000

    def __post_init__(self) -> None:
        if self.min_mid_term_frames < 2:
            raise ValueError(
                f"min_mid_term_frames is {self.min_mid_term_frames}; the first and the latest frame stay, so give at least 2"
            )
        if self.max_mid_term_frames < self.min_mid_term_frames:
            raise ValueError(
                f"max_mid_term_frames is {self.max_mid_term_frames}, below min_mid_term_frames {self.min_mid_term_frames}; "
                "give at least as many"
            )
        if self.prototypes < 1:
            raise ValueError(f"prototypes is {self.prototypes}; give at least 1")
        if self.max_long_term < self.prototypes:
            raise ValueError(
                f"max_long_term is {self.max_long_term}, but one condensation adds {self.prototypes} prototypes; give at least as many"
            )


@dataclass(eq=False)
class Group:
    """Objects that came together: ``value [n, long + work, C_v]``, of which the first ``long`` positions are long-term."""

    objects: tuple[int, ...]
    value: Tensor
    long: int = 0

    @property
    def work(self) -> int:
        """Positions in the working memory."""
        return self.value.shape[1] - self.long


class Store:
    """Positions under one set of keys.

    Per position (``L + N`` of them, L = ``long``): ``key [·, C_k]``, ``address [·, C_a]``, ``shrinkage [·]``, ``frame [·]`` (where it
    came from), ``use`` and ``life`` (counts of section 3.3). ``ask [N, C_a]``: query side of the working positions.
    """

    def __init__(self) -> None:
        self.long = 0
        self.area = 0
        self.groups: list[Group] = []
        self.key = self.address = self.shrinkage = self.ask = torch.empty(0)
        self.frame = self.use = self.life = torch.empty(0)

    _POSITIONS = ("key", "address", "shrinkage", "frame", "use", "life")

    @property
    def work(self) -> int:
        """N: positions in the working memory."""
        return self.key.shape[0] - self.long

    @property
    def objects(self) -> tuple[int, ...]:
        """Stored objects, group by group."""
        return tuple(o for group in self.groups for o in group.objects)

    @property
    def usage(self) -> Tensor:
        """Normalised usage ``[L + N]``: reads weighted by affinity, over the number of reads."""
        return self.use / self.life

    def append(self, entry: Entry, row: int, members: Iterable[int]) -> None:
        """Store the ``members`` (positions in ``entry.objects``) of a frame under key ``row``.

        Unknown objects form a new group; a value of every known object must be among the members. Raises ValueError when the
        entry does not say how its positions are compared with one another.
        """
        chosen = {entry.objects[i]: i for i in members}
        key = entry.key[row].detach().flatten(1).T.float().contiguous()
        address = entry.address[row].detach().T.float().contiguous()
        ask = key if entry.query_address is None else entry.query_address[row].detach().T.float().contiguous()
        if ask.shape != address.shape:
            raise ValueError(
                f"frame {entry.t} has addresses of {address.shape[1]} channels but keys of {ask.shape[1]}; "
                "its backbone must fill Entry.query_address for a long-term memory"
            )
        area = len(key)
        scale = key.new_ones(area) if entry.shrinkage is None else entry.shrinkage[row].detach().flatten().float()
        new = {
            "key": key, "address": address, "shrinkage": scale, "use": key.new_zeros(area), "life": key.new_full((area,), _FRESH),
            "frame": torch.full((area,), entry.t, device=key.device), "ask": ask,
        }  # fmt: skip
        for name, more in new.items():
            setattr(self, name, torch.cat([getattr(self, name), more]) if self.area else more)
        self.area = area
        value = entry.value.detach().flatten(2).transpose(1, 2)
        for group in self.groups:
            group.value = torch.cat([group.value, value[[chosen[o] for o in group.objects]].to(group.value)], 1)
        known = self.objects
        fresh = tuple(o for o in chosen if o not in known)
        if fresh:
            self.groups.append(Group(fresh, value[[chosen[o] for o in fresh]].contiguous()))

    def pop(self) -> None:
        """Take back the frame stored last."""
        for name in (*self._POSITIONS, "ask"):
            setattr(self, name, getattr(self, name)[: -self.area])
        for group in self.groups:
            group.value = group.value[:, : -self.area]
        self.groups = [group for group in self.groups if group.value.shape[1]]

    def drop(self, object_id: int) -> bool:
        """Forget an object; positions that no group reads any more go too. True when nothing is left."""
        for group in self.groups:
            if object_id in group.objects:
                rest = [i for i, o in enumerate(group.objects) if o != object_id]
                group.objects, group.value = tuple(group.objects[i] for i in rest), group.value[rest]
        self.groups = [group for group in self.groups if group.objects]
        if not self.groups:
            return True
        self.ask = self.ask[self.work - self.groups[0].work :]
        mine = self._columns(self.groups[0])
        for name in self._POSITIONS:
            setattr(self, name, getattr(self, name)[mine])
        self.long = self.groups[0].long
        return False

    def _columns(self, group: Group) -> Tensor:
        """Positions that a group reads: the last ones of both parts."""
        total, device = self.key.shape[0], self.key.device
        long = torch.arange(self.long - group.long, self.long, device=device)
        return torch.cat([long, torch.arange(total - group.work, total, device=device)])

    @torch.no_grad()
    def read(self, query: Tensor, top_k: int | None, objects: Iterable[int]) -> tuple[dict[int, Tensor], Tensor]:
        """Softmax over the (``top_k`` most similar) positions of each group, times its values.

        ``query [C_a, Q]``. Gives ``float32 [Q, C_v]`` of each object, and the sums ``[L + N]`` of the first group's affinity over
        all queries.
        """
        wanted, total = set(objects), self.key.shape[0]
        usage = self.address.new_zeros(total)
        out = {o: query.new_empty(query.shape[1], g.value.shape[2]) for g in self.groups for o in g.objects if o in wanted}
        readers = [(g, self._columns(g), [i for i, o in enumerate(g.objects) if o in wanted]) for g in self.groups]
        with torch.autocast(self.address.device.type, enabled=False):
            for part, scores in score_tiles(self.address, query):
                for n, (group, columns, rows) in enumerate(readers):
                    length, mine = len(columns), scores
                    if length < total:
                        mine = F.pad(scores[:, columns], (0, pad_length(length) - length), value=-torch.inf)
                    best, index = block_top_k(mine, min(top_k, length)) if top_k is not None else (mine[:, :length], None)
                    weights = best.softmax(1)
                    if n == 0:
                        usage = usage + weights.sum(0) if index is None else usage.index_add(0, index.flatten(), weights.flatten())
                    for i in rows:
                        value, share = group.value[i], weights.to(group.value.dtype)
                        got = share @ value if index is None else F.embedding_bag(index, value, per_sample_weights=share, mode="sum")
                        out[group.objects[i]][part] = got.to(query.dtype)
        return out, usage

    def count(self, usage: Tensor, long: bool) -> None:
        """Add one read to the counts, of the long-term positions only where ``long``."""
        counted = torch.ones_like(usage)
        if not long:
            counted[: self.long] = 0
        self.use, self.life = self.use + usage * counted, self.life + counted

    def evict(self, limit: int) -> None:
        """Shrink the long-term memory to at most ``limit`` positions; the least used go.

        All positions at or below the threshold go, so ties may leave fewer. With several groups (not in the published code) the
        same positions go, and every group loses its values there.
        """
        excess = self.long - limit
        if excess <= 0:
            return
        usage = self.usage[: self.long]
        keep = usage > usage.kthvalue(excess).values
        for group in self.groups:
            mine = torch.cat([keep[self.long - group.long :], keep.new_ones(group.work)])
            group.long = int(keep[self.long - group.long :].sum())
            group.value = group.value[:, mine]
        everything = torch.cat([keep, keep.new_ones(self.work)])
        self.long = int(keep.sum())
        for name in self._POSITIONS:
            setattr(self, name, getattr(self, name)[everything])

    def condense(self, stay: int, prototypes: int) -> None:
        """Replace the middle of the working memory by its most used positions, as prototypes of the long-term memory.

        ``stay`` frames remain in the working memory: the first and the latest. A prototype keeps its key; its value and shrinkage
        are those of all candidates, weighted by their full softmax similarity to it ("potentiation").
        """
        area, long = self.area, self.long
        low, high = long + area, long + area + self.work - stay * area  # candidates
        chosen = self.usage[low:high].topk(min(prototypes, high - low)).indices
        ask = self.ask[area : area + high - low][chosen]
        with torch.autocast(self.key.device.type, enabled=False):
            similar = self.address[low:high] @ ask.T  # [candidates, prototypes]
            shrinkage = similar.softmax(0).T @ self.shrinkage[low:high]
            for group in self.groups:
                self._condense_group(group, similar, chosen, stay)
        grown = (shrinkage / self.shrinkage[low:high][chosen]).unsqueeze(1)
        fresh = shrinkage.new_zeros(len(chosen))
        new = {
            "key": self.key[low:high][chosen], "address": self.address[low:high][chosen] * grown, "shrinkage": shrinkage,
            "frame": self.frame[low:high][chosen], "use": fresh, "life": fresh + _FRESH,
        }  # fmt: skip
        for name, more in new.items():
            old = getattr(self, name)
            setattr(self, name, torch.cat([old[:long], more, old[long:low], old[high:]]))
        self.ask = torch.cat([self.ask[:area], self.ask[area + high - low :]])
        self.long = long + len(chosen)

    def _condense_group(self, group: Group, similar: Tensor, chosen: Tensor, stay: int) -> None:
        """The candidates of a group are the middle of its *own* frames, paired with the last candidate keys."""
        if group is not self.groups[0] and group.work < (stay + 1) * self.area:
            return
        count = group.work - stay * self.area
        low, high = group.long + self.area, group.long + self.area + count
        value, more = group.value, []
        if group is self.groups[0] or count > self.area:
            offset = len(similar) - count
            weights = similar[offset:, chosen >= offset].softmax(0)
            more = [(weights.T @ value[:, low:high].float()).to(value.dtype)]
        group.value = torch.cat([value[:, : group.long], *more, value[:, group.long : low], value[:, high:]], 1)
        group.long += more[0].shape[1] if more else 0

    def state(self) -> dict[str, Any]:
        """Tensors and plain values that :meth:`load_state` takes."""
        names = (*self._POSITIONS, "ask")
        groups = [{"objects": list(g.objects), "value": g.value, "long": g.long} for g in self.groups]
        return {"long": self.long, "area": self.area, "groups": groups, **{name: getattr(self, name) for name in names}}

    @staticmethod
    def of(state: dict[str, Any]) -> Store:
        """The store whose :meth:`state` this is."""
        store = Store()
        store.long, store.area = int(state["long"]), int(state["area"])
        for name in (*Store._POSITIONS, "ask"):
            setattr(store, name, state[name])
        store.groups = [Group(tuple(g["objects"]), g["value"], int(g["long"])) for g in state["groups"]]
        return store

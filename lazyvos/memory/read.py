"""Reading stored frames: affinity, exact top-k, softmax, readout (XMem, section 3.2; thesis, section 3.2.2).

Every read is an inner product of addresses (``lazyvos.backbones.base``): one matrix product over all stored
positions, tiled over the query positions so that the scores never take more than ``TILE_BYTES``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TILE_BYTES = 16 * 2**20
_BLOCK = 64
_GROUP = 8


@dataclass(frozen=True)
class Part:
    """Objects that may read the same entries: rows of the value store, and which of the entries in turn."""

    rows: tuple[int, ...]
    entries: tuple[int, ...]


def pad_length(positions: int) -> int:
    """``positions`` rounded up to what :func:`block_top_k` takes without copying."""
    return -(-positions // _BLOCK) * _BLOCK


def block_top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` largest of each row and where they are, largest first; exact, and quicker than ``torch.topk`` on a CPU.

    Each of the k largest lies in one of the k blocks with the largest maxima (were it in another, k blocks would each
    hold something larger), so only those blocks are searched, twice over.

    Parameters
    ----------
    scores: ``float32 [Q, M]``, contiguous; fastest where M is a multiple of 64 (pad with −inf).
    k: clamped to M.

    Returns
    -------
    values ``[Q, k]`` and indices ``int64 [Q, k]``. Equal scores may come in any order.
    """
    count, length = scores.shape
    k = min(k, length)
    blocks = -(-length // _BLOCK)
    if scores.is_cuda or blocks <= 2 * k or k < 1:
        return scores.topk(k, 1)
    if length % _BLOCK:
        scores = F.pad(scores, (0, blocks * _BLOCK - length), value=-torch.inf)
    rows = scores.reshape(count * blocks, _BLOCK)
    best = rows.amax(1).view(count, blocks).topk(k, 1, sorted=False).indices
    start = torch.arange(count, device=scores.device).unsqueeze(1) * blocks
    found = rows.index_select(0, (best + start).flatten()).view(count, k * _BLOCK)
    # Again, in groups of every (k * _BLOCK / _GROUP)-th of the candidates.
    stride = k * _BLOCK // _GROUP
    groups = found.view(count, _GROUP, stride).amax(1).topk(k, 1, sorted=False).indices
    offset = torch.arange(_GROUP, device=scores.device).view(1, _GROUP, 1) * stride
    candidates = (groups.unsqueeze(1) + offset).flatten(1)
    values, at = found.gather(1, candidates).topk(k, 1)
    at = candidates.gather(1, at)
    block = best.gather(1, torch.div(at, _BLOCK, rounding_mode="floor"))
    return values, block * _BLOCK + at % _BLOCK


def score_tiles(address: Tensor, query: Tensor, tile_bytes: int = TILE_BYTES) -> Iterator[tuple[slice, Tensor]]:
    """Similarity of stored and query positions, a few query positions at a time.

    ``address [M, C_a]`` and ``query [C_a, Q]``, both float32, give pairs of a slice of the Q columns and the scores
    ``float32 [q, M']`` with M' = ``pad_length(M)``, padded with −inf. The next pair overwrites the scores of the last.
    """
    positions, columns = address.shape[0], query.shape[1]
    padded = pad_length(positions)
    tiles = max(1, -(-columns * padded * 4 // tile_bytes))
    width = -(-columns // min(tiles, columns))
    scores = torch.empty(width, padded, device=address.device, dtype=torch.float32)
    scores[:, positions:] = -torch.inf
    for start in range(0, columns, width):
        part = slice(start, min(start + width, columns))
        view = scores[: part.stop - part.start]
        torch.mm(query[:, part].T, address.T, out=view[:, :positions])
        yield part, view


@torch.no_grad()
def read_values(
    address: Tensor,
    query: Tensor,
    values: Tensor,
    slots: Sequence[int],
    parts: Sequence[Part],
    top_k: int | None,
    out: Tensor,
    tile_bytes: int = TILE_BYTES,
    keep: bool = False,
    mass: Tensor | None = None,
) -> Tensor | None:
    """Softmax over the stored positions (over the ``top_k`` most similar ones of each query position), times values.

    Parameters
    ----------
    address: ``float32 [n·hw, C_a]``, the n entries read, in the order of ``slots``.
    query: ``float32 [C_a, Q]``.
    values: the whole store, ``[rows, capacity, hw, C_v]``, contiguous.
    slots: where in the store the n entries lie.
    parts: who reads which of them (positions in ``slots``); one affinity serves all objects of a part.
    out: ``[rows, Q, C_v]``, filled in the rows named by ``parts``.
    keep: also return ``int64 [Q, k]``: the positions (0 … n·hw) most similar to each query position over *all* n
        entries, best first. ``None`` without ``top_k``.
    mass: zeros ``[rows, Q, n]``; filled with the softmax weights of each entry, summed over its positions.
    """
    rows, capacity, area, channels = values.shape
    flat = values.view(rows * capacity * area, channels)
    everything = tuple(range(len(slots)))
    place = torch.as_tensor(slots, device=address.device) * area
    kept: list[Tensor] = []
    dense = {part: _dense_values(values, slots, part) for part in parts} if top_k is None else {}
    with torch.autocast(address.device.type, enabled=False):
        for columns, scores in score_tiles(address, query, tile_bytes):
            count = scores.shape[0]
            full: Tensor | None = None
            for part in parts:
                mine = scores if part.entries == everything else _select(scores, part.entries, area)
                if top_k is None:
                    weights = mine[:, : len(part.entries) * area].softmax(1)
                    if mass is not None:
                        _add_mass(mass, part, columns, weights.unflatten(1, (-1, area)).sum(2))
                    out[list(part.rows), columns] = torch.matmul(weights.to(values.dtype), dense[part]).to(out.dtype)
                    continue
                best, index = block_top_k(mine, min(top_k, len(part.entries) * area))
                if part.entries == everything:
                    full = index
                entry = torch.div(index, area, rounding_mode="floor")
                where = place[list(part.entries)][entry] + index % area
                row = torch.as_tensor(part.rows, device=address.device).view(-1, 1, 1) * (capacity * area)
                bags = (where + row).flatten(0, 1)
                weights = best.softmax(1)
                if mass is not None:
                    _add_mass(mass, part, columns, weights.new_zeros(count, len(part.entries)).scatter_add_(1, entry, weights))
                weights = weights.to(values.dtype).repeat(len(part.rows), 1)
                got = F.embedding_bag(bags, flat, per_sample_weights=weights, mode="sum")
                out[list(part.rows), columns] = got.view(len(part.rows), count, channels).to(out.dtype)
            if keep and top_k is not None:
                kept.append(full if full is not None else block_top_k(scores, min(top_k, address.shape[0]))[1])
    return torch.cat(kept) if kept else None


def _add_mass(mass: Tensor, part: Part, columns: slice, share: Tensor) -> None:
    """Write ``share [q, entries of the part]`` for all objects of the part."""
    every = torch.zeros(share.shape[0], mass.shape[2], device=share.device)
    every[:, list(part.entries)] = share
    mass[list(part.rows), columns] = every


def _select(scores: Tensor, entries: tuple[int, ...], area: int) -> Tensor:
    """Columns of some entries, padded with −inf as ``scores`` is."""
    chosen = [scores[:, entry * area : (entry + 1) * area] for entry in entries]
    length = len(entries) * area
    fill = scores.new_full((scores.shape[0], pad_length(length) - length), -torch.inf)
    return torch.cat([*chosen, fill], 1)


def _dense_values(values: Tensor, slots: Sequence[int], part: Part) -> Tensor:
    """``[objects of the part, entries·hw, C_v]``."""
    chosen = [slots[entry] for entry in part.entries]
    return torch.stack([values[row, chosen].flatten(0, 1) for row in part.rows])

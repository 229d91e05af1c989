"""Which memory position answers to which query position: READMem's association (thesis, section 5.4).

The transition matrix T_i of entry i has a single one in each column, so K̂_i = K_i T_i is a gather: an index of
memory positions, one for each query position. −1 stands for a column of zeros.
Only :data:`SUM` scatters: it has a single one in each *row*, and several memory positions may meet in one column.
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from lazyvos.memory.read import block_top_k, score_tiles

SUM = "row argmax sum"
TRANSITIONS = ("column argmax", "row argmax", SUM, "hungarian")
AFFINITIES = ("W", "A")
EMPTY = ("first", "zero", "affinity")


def from_top_k(index: Tensor, entries: int, area: int) -> Tensor:
    """Column argmax of W from the kept positions of a top-k read.

    ``index int64 [Q, k]``: positions 0 … entries·area, most similar first. Gives ``int64 [entries, Q]``, −1 where none of
    an entry's positions is kept (an all-zero column of W).
    """
    columns, k = index.shape
    rank = torch.arange(k, device=index.device).expand(columns, -1)
    entry = torch.div(index, area, rounding_mode="floor")
    first = torch.full((columns, entries), k, dtype=torch.int64, device=index.device)
    first = first.scatter_reduce(1, entry, rank, "amin")
    position = index.gather(1, first.clamp(max=k - 1)) % area
    return torch.where(first < k, position, -1).T


@torch.no_grad()
def associate(
    address: Tensor, query: Tensor, entries: int, top_k: int | None, transition: str, affinity: str, empty: str
) -> Tensor:
    """The index ``int64 [entries, Q]`` of every entry, from addresses ``[entries·Q, C_a]`` and ``[C_a, Q]``.

    ``transition`` ``"column argmax"``: for each query position the most similar position of the entry;
    ``"row argmax"``: for memory position j the most similar *query* position (index roles as in the released code);
    ``"row argmax sum"``: the same index, to be read as where memory position i goes (to nowhere if its row of W is zero);
    ``"hungarian"``: the bijection of largest total (O(Q³); dense in memory). ``affinity`` ``"W"`` or ``"A"``: after or before
    the softmax. ``empty``: what an all-zero column (row) of W becomes: index 0, zeros, or the answer of A. Without ``top_k``
    no column is empty and the column argmax of W is that of A.
    """
    area = query.shape[1]
    on_scores = affinity == "A" or (top_k is None and transition == "column argmax")
    kind = "row argmax" if transition == SUM else transition
    best = _row_or_column(address, query, entries, area, None if on_scores else top_k, kind, on_scores)
    if not on_scores and empty == "affinity" and bool((best < 0).any()):
        fallback = _row_or_column(address, query, entries, area, None, kind, True)
        best = torch.where(best < 0, fallback, best)
    return best.clamp(min=0) if empty == "first" and transition != SUM else best


def _row_or_column(
    address: Tensor, query: Tensor, entries: int, area: int, top_k: int | None, transition: str, on_scores: bool
) -> Tensor:
    columns: list[Tensor] = []
    dense: list[Tensor] = []
    best = address.new_full((entries * area,), -torch.inf if on_scores else 0.0)
    where = torch.full((entries * area,), -1, dtype=torch.int64, device=address.device)
    with torch.autocast(address.device.type, enabled=False):
        for part, scores in score_tiles(address, query):
            matrix = scores[:, : entries * area]
            if not on_scores and top_k is not None and transition == "column argmax":
                index = block_top_k(scores, min(top_k, entries * area))[1]
                columns.append(from_top_k(index, entries, area))
                continue
            if not on_scores:
                matrix = _weights(scores, entries * area, top_k)
            if transition == "column argmax":
                columns.append(matrix.unflatten(1, (entries, area)).argmax(2).T)
            elif transition == "row argmax":
                value, at = matrix.max(0)
                where = torch.where(value > best, at + part.start, where)
                best = torch.maximum(best, value)
            else:
                dense.append(matrix.clone())
    if columns:
        return torch.cat(columns, 1)
    if transition == "row argmax":
        return where.view(entries, area)
    blocks = torch.cat(dense).unflatten(1, (entries, area)).permute(1, 0, 2).cpu().numpy()  # entry, query, memory
    found = [linear_sum_assignment(block, maximize=True)[1] for block in blocks]
    return torch.stack([torch.as_tensor(f, dtype=torch.int64) for f in found]).to(address.device)


def _weights(scores: Tensor, length: int, top_k: int | None) -> Tensor:
    """Dense W ``[q, length]`` of a tile."""
    if top_k is None:
        return scores[:, :length].softmax(1)
    value, index = block_top_k(scores, min(top_k, length))
    return torch.zeros_like(scores).scatter_(1, index, value.softmax(1))[:, :length]

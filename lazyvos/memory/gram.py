"""Gram matrices of stored keys: how diverse a memory is, and what a replacement would make of it (thesis, section 5.3).

Everything is float64. With keys aligned to the query a Gram matrix may be indefinite, so determinants are taken by
LU (``slogdet``) and in absolute value.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def aligned_similarity(
    store: Tensor,
    slots: Sequence[int],
    key: Tensor,
    index: Tensor | None,
    cosine: bool,
    *,
    add: bool = False,
    zero: bool = False,
    decimals: int | None = 5,
) -> np.ndarray:
    """Cosine (or inner product) of flattened keys: ``float64 [n]``, products summed in float64 over the positions.

    Parameters
    ----------
    store: keys ``[S, hw, C_k]``; slots: which n of them.
    key: ``float32 [hw, C_k]``.
    index: ``int64 [n, hw]``: position of the stored key that stands at each position of ``key`` (``None``: its own).
    zero: −1 in ``index`` stands for a zero key (otherwise for position 0).
    add: ``index`` is read the other way round: position i of the stored key goes to ``index[i]``, several add up, −1 goes nowhere.
    decimals: to round to, as in the released code; ``None``: not at all.
    """
    device = key.device
    chunk = len(slots) if device.type != "cpu" else 4  # small enough for the cache, few enough parallel regions
    room = torch.empty(chunk, *key.shape, device=device) if index is not None else None
    dots, norms = [], []
    for start in range(0, len(slots), chunk):
        part = torch.as_tensor(slots[start : start + chunk], device=device)
        if room is None or index is None:
            moved = store[part] if len(part) > 1 else store[slots[start]].unsqueeze(0)
        else:
            moved = _moved(store, part, index[start : start + chunk], room[: len(part)], add, zero)
        moved = moved.float()
        dots.append(torch.linalg.vecdot(moved, key).sum(1, dtype=torch.float64))
        if cosine:
            norms.append(torch.linalg.vecdot(moved, moved).sum(1, dtype=torch.float64))
    dot = torch.cat(dots)
    if cosine:
        own = torch.linalg.vecdot(key, key).sum(dtype=torch.float64)
        dot = dot / (torch.cat(norms) * own).sqrt().clamp(min=1e-8)
    found = dot.cpu().numpy()
    return found if decimals is None else np.round(found, decimals)


def _moved(store: Tensor, part: Tensor, index: Tensor, out: Tensor, add: bool, zero: bool) -> Tensor:
    """Keys ``[m, hw, C_k]`` of the slots ``part``, their positions moved as ``index [m, hw]`` says."""
    area = store.shape[1]
    rows = store.flatten(0, 1)
    if add:
        out.zero_()
        for i, (slot, to) in enumerate(zip(part.tolist(), index, strict=True)):
            held = to >= 0
            out[i].index_add_(0, to[held], store[slot][held].float())
        return out
    where = (index.clamp(min=0) + part.unsqueeze(1) * area).flatten()
    if store.dtype == out.dtype:
        torch.index_select(rows, 0, where, out=out.view(-1, out.shape[2]))
    else:
        out = rows.index_select(0, where).float().view_as(out)
    return out.mul_((index >= 0).unsqueeze(2)) if zero else out


def log_abs_det(gram: np.ndarray) -> float:
    """log10|Γ| of a square matrix ``[N, N]``; −inf where it is singular."""
    return float(np.linalg.slogdet(np.asarray(gram, np.float64))[1] / np.log(10))


def replaced(gram: np.ndarray, n: int, similarities: np.ndarray, own: float) -> np.ndarray:
    """``gram`` with row and column ``n`` replaced by the new frame's ``similarities`` ``[N]`` and ``own`` with itself."""
    new = np.array(gram, np.float64)
    new[n, :] = new[:, n] = similarities
    new[n, n] = own
    return new


def bordered(gram: np.ndarray, similarities: np.ndarray, own: float) -> np.ndarray:
    """``gram [N, N]`` extended to ``[N + 1, N + 1]`` by a new frame at the end."""
    return np.block([[gram, np.reshape(similarities, (-1, 1))], [np.reshape(similarities, (1, -1)), np.full((1, 1), own)]])


def replacement_log_dets(gram: np.ndarray, similarities: np.ndarray, own: float) -> np.ndarray:
    """log10|Γ⁽ⁿ⁾| ``[N]`` for every n: the Gram matrix after the new frame took the place of entry n.

    From one factorisation: with P = Γ⁻¹, u = P s and q = s·u, det Γ⁽ⁿ⁾ = det Γ · (P_nn (c − q) + u_n²). The similarity of
    the new frame to the one it replaces cancels. Where the inverse is unreliable (singular or nearly so) or the terms
    cancel, the determinant is computed by itself.

    Parameters
    ----------
    gram: ``[N, N]`` symmetric; similarities: s ``[N]``; own: c.
    """
    gram, s = np.asarray(gram, np.float64), np.asarray(similarities, np.float64)
    size = len(s)
    out = np.empty(size)
    try:
        inverse = np.linalg.inv(gram)
        error = np.abs(gram @ inverse - np.eye(size)).max()
    except np.linalg.LinAlgError:
        inverse, error = gram, np.inf
    doubtful = np.ones(size, bool)
    if error < 1e-6:
        u = inverse @ s
        schur, diagonal = own - s @ u, np.diag(inverse)
        factor = diagonal * schur + u**2
        scale = np.abs(diagonal) * (abs(own) + np.abs(s) @ np.abs(u)) + u**2
        doubtful = np.abs(factor) <= max(error, 1e-12) * 1e3 * scale
        with np.errstate(divide="ignore"):
            out = log_abs_det(gram) + np.log10(np.abs(factor))
    if doubtful.any():
        stack = np.stack([replaced(gram, n, s, own) for n in map(int, np.flatnonzero(doubtful))])
        out[doubtful] = np.linalg.slogdet(stack)[1] / np.log(10)
    return out

"""Gram matrices of stored keys: how diverse a memory is, and what a replacement would make of it (thesis, section 5.3).

Everything is float64. With keys aligned to the query a Gram matrix may be indefinite, so determinants are taken by
LU (``slogdet``) and in absolute value.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def similarity(stored: Tensor, key: Tensor, cosine: bool) -> np.ndarray:
    """Cosine (or inner product) of flattened keys: ``stored [n, hw, C_k]`` with ``key [hw, C_k]`` gives ``float64 [n]``.

    Rounded to 5 decimals, as in the released code.
    """
    dot = (stored * key).sum((1, 2), dtype=torch.float64)
    if cosine:
        norms = stored.pow(2).sum((1, 2), dtype=torch.float64) * key.pow(2).sum(dtype=torch.float64)
        dot = dot / norms.sqrt().clamp(min=1e-8)
    return np.round(dot.cpu().numpy(), 5)


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

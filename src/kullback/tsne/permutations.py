"""Permutations of points, and of P with them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .._checks.graphs import SparseParts
from .._kernels import attraction


def inverse(order: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Return the inverse of a permutation."""
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order), dtype=order.dtype)
    return rank


def permute(P: SparseParts, order: npt.NDArray[np.int32], rank: npt.NDArray[np.int32], n_threads: int) -> SparseParts:
    """Return P with its rows and columns in another order. ``rank`` is the inverse of ``order``."""
    values, columns, row_starts = P
    permuted = np.empty_like(values), np.empty_like(columns), np.empty_like(row_starts)
    attraction.permute_rows(*P, order, rank, *permuted, n_threads)
    return permuted

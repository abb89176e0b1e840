"""Finding rows that are equal to rows of the data, by a 64-bit key of each row.

The key of a row is the sum of the bits of its values, each times an odd number of its column. Zeros add nothing, so a
sparse row has the key of the same dense row. Rows with the same key are compared in full.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .._arrays import FloatArray

BLOCK_ELEMENTS = 2**20
"""Elements of dense rows whose keys are computed at a time: 8 MB."""


class EqualRows:
    """The rows of the data, sorted by their keys.

    Parameters
    ----------
    X : ndarray or scipy.sparse.csr_array of shape (n_points, n_features)
        Data. They are kept, not copied.
    """

    def __init__(self, X: Any) -> None:
        self._X = X
        keys = row_keys(X)
        self._order = np.argsort(keys, kind="stable")
        self._sorted_keys = keys[self._order]

    def find(self, rows: Any) -> npt.NDArray[np.int64]:
        """Return, for each row, the index of the first row of the data that is equal to it, or -1.

        Parameters
        ----------
        rows : ndarray or scipy.sparse.csr_array of shape (n_rows, n_features)
            Rows of the dtype and the form, dense or sparse, of the data.
        """
        keys = row_keys(rows)
        slots = np.minimum(np.searchsorted(self._sorted_keys, keys), len(self._order) - 1)
        found = np.where(self._sorted_keys[slots] == keys, self._order[slots], -1)
        candidates = np.flatnonzero(found >= 0)
        differs = self._X[found[candidates]] != rows[candidates]
        found[candidates[np.asarray(differs.sum(axis=1)).reshape(-1) > 0]] = -1
        return found


def row_keys(rows: Any) -> npt.NDArray[np.uint64]:
    """Return the key of each row."""
    if not sparse.issparse(rows):
        n_rows, n_features = rows.shape
        factors, step = _odd_numbers(np.arange(n_features)), max(1, BLOCK_ELEMENTS // n_features)
        keys = [(_mixed_bits(rows[i : i + step]) * factors).sum(axis=1) for i in range(0, n_rows, step)]
        return np.concatenate(keys)
    products = _mixed_bits(rows.data) * _odd_numbers(rows.indices)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(products)])
    return np.asarray(sums[rows.indptr[1:]] - sums[rows.indptr[:-1]])


def _mixed_bits(values: FloatArray) -> npt.NDArray[np.uint64]:
    """Return the bits of numbers, mixed so that the lower halves of round numbers differ. -0 has the bits of 0."""
    bits = (values + values.dtype.type(0)).view(f"u{values.dtype.itemsize}").astype(np.uint64)
    bits ^= bits >> np.uint64(32)
    return np.asarray(bits)


def _odd_numbers(columns: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return a pseudo-random odd number for each column, by SplitMix64 (Steele et al. 2014)."""
    x = (columns.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((x ^ (x >> np.uint64(31))) | np.uint64(1))

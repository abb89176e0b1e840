"""Checks of sparse matrices, whose indices SciPy does not look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def is_sparse(value: Any) -> bool:
    """Return whether a value is a sparse matrix or array of SciPy, which is not imported to find out."""
    return type(value) is not np.ndarray and hasattr(value, "tocsr") and hasattr(value, "nnz")


def check_sparse(matrix: Any, name: str) -> Any:
    """Return a sparse matrix as CSR whose indices all lie inside of it. SciPy lets others pass and reads them.

    Neighbour searches give -1 for "none", which is such an index.
    """
    from scipy import sparse

    if matrix.format in ("csr", "csc", "bsr"):
        starts, indices = np.asarray(matrix.indptr), np.asarray(matrix.indices)
        n_major, n_minor = matrix.shape[::-1] if matrix.format == "csc" else matrix.shape
        if matrix.format == "bsr":
            n_major, n_minor = n_major // matrix.blocksize[0], n_minor // matrix.blocksize[1]
        n_values = len(matrix.data)
        grow = len(starts) == n_major + 1 and starts[0] == 0 and not (starts[1:] < starts[:-1]).any()
        if not grow or starts[-1] > n_values or len(indices) != n_values:
            raise ValueError(
                f"{name} must have an indptr of {n_major + 1} numbers that grow from 0, up to its {n_values} values"
            )
        if starts[-1] < n_values:  # there is room for more values
            matrix = matrix.copy()
            matrix.prune()
            indices = np.asarray(matrix.indices)
        _check_indices(indices, n_minor, name)
    elif matrix.format == "coo":
        # SciPy has the coordinates of all axes since 1.13.
        coords = matrix.coords if hasattr(matrix, "coords") else (matrix.row, matrix.col)
        for axis, indices in enumerate(coords):
            _check_indices(indices, matrix.shape[axis], name)
    return sparse.csr_array(matrix)


def _check_indices(indices: npt.NDArray[Any], n: int, name: str) -> None:
    """Raise unless all indices of a sparse matrix lie in [0, n)."""
    if len(indices) and (indices.min() < 0 or indices.max() >= n):
        raise ValueError(f"{name} must have indices in [0, {n}), got {indices.min()} to {indices.max()}")


def as_sorted_rows(matrix: Any, name: str) -> Any:
    """Return a sparse matrix, or vector as one row, as CSR with ascending columns in each row, no column twice.

    Elements that stand at one place are added up. What was given is not changed.
    """
    from scipy import sparse

    if matrix.ndim > 2:
        raise ValueError(f"{name} must have at most two axes where it is sparse, got shape {matrix.shape}")
    if matrix.ndim == 1:
        vector = matrix.tocoo()
        starts = np.array([0, len(vector.data)])
        matrix = sparse.csr_array((vector.data, vector.coords[0], starts), shape=(1, matrix.shape[0]))
    csr = check_sparse(matrix, name)
    ascend = np.ones(len(csr.indices), dtype=bool)
    ascend[1:] = csr.indices[1:] > csr.indices[:-1]
    ascend[csr.indptr[:-1][csr.indptr[:-1] < len(ascend)]] = True  # the first element of each row
    # A matrix says of itself that its indices ascend, and is wrong where they were changed in place since.
    csr = sparse.csr_array((csr.data, csr.indices, csr.indptr), shape=csr.shape, copy=not ascend.all())
    if not ascend.all():
        csr.sum_duplicates()
    return csr

"""Checks of graphs between points: lists of neighbours, neighbour graphs, and affinities."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays import FloatArray
from .arrays import check_dtype, check_finite_values
from .data import check_distances, shares_memory
from .sparse import as_sorted_rows

SparseParts = tuple[FloatArray, npt.NDArray[np.int32], npt.NDArray[np.int64]]
"""The parts of a CSR matrix: values, columns and row starts."""

ASYMMETRY = 1e-3
"""Largest norm of P - P^T, beside that of P, of a P that counts as symmetric. The gradient errs by no more."""


def check_neighbor_lists(lists: tuple[Any, ...], name: str) -> Any:
    """Return lists of neighbours, which are (indices, distances), as a CSR matrix of distances."""
    from scipy import sparse

    if len(lists) != 2:
        raise ValueError(f"{name} must be (indices, distances), got a tuple of {len(lists)}")
    indices, distances = np.asarray(lists[0]), np.asarray(lists[1])
    check_dtype(indices, name, "iu", "have integer indices")
    if indices.ndim != 2 or indices.shape != distances.shape or 0 in indices.shape:
        raise ValueError(
            f"{name} must be (indices, distances), both of shape (n_points, k), "
            f"got {indices.shape} and {distances.shape}"
        )
    n_points, k = indices.shape
    if indices.min() < 0 or indices.max() >= n_points:
        raise ValueError(f"{name} must have indices in [0, {n_points}), got {indices.min()} to {indices.max()}")
    starts = np.arange(n_points + 1) * k
    values = distances.reshape(-1)
    return check_distances(sparse.csr_array((values, indices.reshape(-1), starts), shape=(n_points, n_points)), name)


def check_graph(
    columns: Any, distances: Any, row_starts: Any, name: str
) -> tuple[npt.NDArray[np.int32], FloatArray, npt.NDArray[np.int64]]:
    """Return the columns, distances and row starts of a neighbour graph in CSR, whose rows are sorted by distance."""
    columns, distances, row_starts = np.asarray(columns), np.asarray(distances), np.asarray(row_starts)
    if columns.dtype.kind not in "iu" or row_starts.dtype.kind not in "iu" or distances.dtype.kind not in "fiu":
        raise TypeError(
            f"{name} must have integer columns and row starts and real distances, "
            f"got {columns.dtype}, {row_starts.dtype} and {distances.dtype}"
        )
    if columns.ndim != 1 or distances.shape != columns.shape or row_starts.ndim != 1 or len(row_starts) < 3:
        raise ValueError(
            f"{name} must have columns and distances of one shape (n,) and at least 3 row starts, "
            f"got {columns.shape}, {distances.shape} and {row_starts.shape}"
        )
    n_points = len(row_starts) - 1
    if row_starts[0] != 0 or row_starts[-1] != len(columns) or (row_starts[1:] <= row_starts[:-1]).any():
        raise ValueError(f"{name} must have rows of at least 1 neighbour, one after the other, up to {len(columns)}")
    if columns.min() < 0 or columns.max() >= n_points:
        raise ValueError(f"{name} must have columns in [0, {n_points}), got {columns.min()} to {columns.max()}")
    check_finite_values(distances, f"{name}'s distances")
    if distances.min() < 0:
        raise ValueError(f"{name} must have distances of at least 0, got {distances.min()}")
    falls = np.flatnonzero(distances[1:] < distances[:-1]) + 1
    if not np.isin(falls, row_starts).all():
        raise ValueError(f"{name} must have rows that are sorted by distance")
    dtype = np.float32 if distances.dtype == np.float32 else np.float64
    return (
        np.ascontiguousarray(columns, np.int32),
        np.ascontiguousarray(distances, dtype),
        np.ascontiguousarray(row_starts, np.int64),
    )


def check_affinities(
    affinities: Any, name: str, n_points: int, dtype: npt.DTypeLike, *, copy: bool = False, symmetric: bool = False,
    masses: npt.NDArray[np.float64] | None = None,
) -> SparseParts:  # fmt: skip
    """Return the CSR parts of a joint distribution P of pairs of points.

    P is square and not negative, has an empty diagonal, and sums to 1 within sqrt(eps) of float32. With ``copy``, the
    parts share no memory with what was given. With ``symmetric``, P has to be its own transpose. With ``masses``, the
    diagonal may have the pairs of rows of those points that are more than one row.
    """
    from scipy import sparse

    matrix = affinities if sparse.issparse(affinities) else np.asarray(affinities)
    check_dtype(matrix, name, "fiu")
    if matrix.shape != (n_points, n_points):
        raise ValueError(f"{name} must have shape ({n_points}, {n_points}), got {matrix.shape}")
    if matrix.dtype not in (np.float32, np.float64):  # SciPy has no functions for float16
        matrix = matrix.astype(np.float64)
    matrix = as_sorted_rows(matrix, name) if sparse.issparse(matrix) else sparse.csr_array(matrix)
    if not (np.isfinite(matrix.data).all() and (matrix.data >= 0).all()):
        raise ValueError(
            f"{name} must hold finite, non-negative probabilities, got {matrix.data.min()} as its smallest"
        )
    diagonal = matrix.diagonal() if masses is None else matrix.diagonal() * (masses <= 1)
    if diagonal.any():
        where = "" if masses is None else " where a mass is at most 1"
        raise ValueError(f"{name} must be 0 on its diagonal{where}, got {diagonal.max()}")
    total = float(matrix.data.sum(dtype=np.float64))
    if not abs(total - 1) <= np.finfo(np.float32).eps ** 0.5:
        raise ValueError(f"{name} must sum to 1, got {total}")
    if symmetric:
        _refuse_asymmetric(matrix, name)
    if copy and shares_memory(matrix, affinities):
        matrix = matrix.copy()
    return (
        np.ascontiguousarray(matrix.data, dtype=dtype),
        np.ascontiguousarray(matrix.indices, dtype=np.int32),
        np.ascontiguousarray(matrix.indptr, dtype=np.int64),
    )


def _refuse_asymmetric(matrix: Any, name: str) -> None:
    """Raise where a CSR matrix P is farther from its transpose than `ASYMMETRY`.

    A vector s of random signs spares the transpose: the expected square of P s - P^T s is that of P - P^T.
    """
    signs = np.random.default_rng(0).choice(np.array([-1, 1], matrix.dtype), matrix.shape[0])
    if np.linalg.norm(matrix @ signs - matrix.T @ signs) <= ASYMMETRY * np.linalg.norm(matrix.data):
        return
    differences = abs(matrix - matrix.T).tocoo()
    i, j = (int(places[differences.data.argmax()]) for places in (differences.row, differences.col))
    raise ValueError(
        f"{name} must be symmetric, got {matrix[i, j]} at ({i}, {j}) and {matrix[j, i]} at ({j}, {i}); "
        "kullback.affinities.given makes any matrix a joint distribution"
    )

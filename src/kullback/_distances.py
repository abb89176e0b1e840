"""Euclidean distances in float64 of rows in float32 or float64: of some pairs, and of rows to all points.

Differences are taken before anything is squared. So rows that are close to each other keep their distance, however far
they are from the origin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from ._arrays import FloatArray
from ._threads import SPARE_BYTES, startable_threads

Found = tuple[npt.NDArray[Any], FloatArray]
"""Indices of neighbours and the distances to them, both of shape (n_rows, k)."""

Indices = npt.NDArray[Any]

MEASURED_ELEMENTS = 2**18
"""Differences that are taken at a time when pairs are measured: 2 MB, which stay in the cache. Blocks of 2^22 elements
took three times as long for 95 neighbours of 60,000 rows of 50 features."""

SHARED_ELEMENTS = 2**22
"""Differences that a thread takes at a time. Fewer are not worth a thread."""

COMPARED_ELEMENTS = 2**22
"""Distances of rows to all points that are in memory at a time: 32 MB."""

SAFE_SMALL, SAFE_LARGE = 1e-140, 1e140
"""Distances between these have squares that neither underflow nor overflow, with room for lost bits."""


def measure_pairs(points: FloatArray, rows: FloatArray, columns: Indices) -> npt.NDArray[np.float64]:
    """Return the distances of each row to some of the points.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_features), float32 or float64
        Finite points.
    rows : ndarray of shape (n_rows, n_features), float32 or float64
        Finite rows.
    columns : integer ndarray of shape (n_rows, k)
        The points to which the distances of each row are wanted.

    Returns
    -------
    ndarray of shape (n_rows, k), float64
        Distances to the rounding of float64, at any scale. They are infinite where they are out of its range.
    """
    distances = np.empty(columns.shape)
    for block in row_blocks(len(rows), MEASURED_ELEMENTS, columns.shape[1] * rows.shape[1]):
        others, asking = columns[block], rows[block]
        with np.errstate(over="ignore", under="ignore"):
            between = np.subtract(points[others], asking[:, None], dtype=np.float64)
            measured = np.sqrt(np.einsum("ijk,ijk->ij", between, between))
        hard, places = _hard_to_square(measured)
        measured[hard, places] = _measure_scaled(points[others[hard, places]], asking[hard])
        distances[block] = measured
    return distances


def measure_all(points: FloatArray, rows: FloatArray) -> npt.NDArray[np.float64]:
    """Return the distances of each row to all points, as `measure_pairs` does."""
    from scipy.spatial.distance import cdist

    with np.errstate(over="ignore"):
        distances: npt.NDArray[np.float64] = cdist(rows, points)
    hard, places = _hard_to_square(distances)
    for block in row_blocks(len(hard), MEASURED_ELEMENTS, rows.shape[1]):
        distances[hard[block], places[block]] = _measure_scaled(points[places[block]], rows[hard[block]])
    return distances


def _hard_to_square(distances: FloatArray) -> tuple[Indices, ...]:
    """Return the places of distances whose squares may have left the range of float64 or lost bits, and of zeros."""
    return np.nonzero(~((distances > SAFE_SMALL) & (distances < SAFE_LARGE)))


def _measure_scaled(points: FloatArray, rows: FloatArray) -> npt.NDArray[np.float64]:
    """Return the distance of each row to the point in its place, by squares of differences that are scaled."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        between = np.subtract(points, rows, dtype=np.float64)
        largest = np.abs(between).max(axis=1)
        scaled = np.divide(between, largest[:, None], out=np.zeros_like(between), where=largest[:, None] > 0)
        lengths = largest * np.sqrt(np.einsum("ij,ij->i", scaled, scaled))
        return np.where(largest < np.inf, lengths, np.inf)


def nearest_of(points: FloatArray, rows: FloatArray, columns: Indices, own: Indices, k: int, n_threads: int) -> Found:
    """Return the k nearest of the points that are candidates for each row, sorted by distance and then by index.

    Parameters
    ----------
    points, rows, columns
        As in `measure_pairs`. No point is twice a candidate of a row, and at least k of them are other points.
    own : integer ndarray of shape (n_rows,)
        The point that each row is itself, which is not its neighbour; -1 for none.
    k : int
        Neighbours of a row.
    n_threads : int
        Number of threads. Each row is treated on its own, so no bit depends on it.
    """

    def find(block: slice) -> Found:
        candidates = np.sort(columns[block], axis=1)
        return nearest_candidates(candidates, measure_pairs(points, rows[block], candidates), own[block], k)

    blocks = row_blocks(len(rows), SHARED_ELEMENTS, columns.shape[1] * rows.shape[1])
    return find_in_blocks(find, len(rows), k, blocks, n_threads)


def nearest_candidates(candidates: Indices, distances: FloatArray, own: Indices, k: int) -> Found:
    """Return the k nearest candidates of each row, sorted by distance and then by index.

    Parameters
    ----------
    candidates, distances : ndarray of shape (n_rows, n_candidates)
        Points, sorted by index, and the distances to them.
    own, k
        As in `nearest_of`.
    """
    distances = np.where(candidates == own[:, None], np.nan, distances)  # NaN is last, even after infinity
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(candidates, order, axis=1), np.take_along_axis(distances, order, axis=1)


def nearest_in_rows(distances: FloatArray, k: int, own: Indices) -> Found:
    """Return the k nearest points of each row of distances, sorted by distance and then by index.

    Parameters
    ----------
    distances : ndarray of shape (n_rows, n_points)
        Distances of rows to points.
    k : int
        Neighbours of a row.
    own : integer ndarray of shape (n_rows,)
        As in `nearest_of`.
    """
    indices = np.empty((len(distances), k), dtype=np.int64)
    found = np.empty((len(distances), k), dtype=distances.dtype)
    for i, row in enumerate(distances):
        # All candidates at the distance of the last one that is kept take part, so that ties are broken by index.
        limit = np.partition(row, k)[k] if k < len(row) else np.inf
        candidates = np.flatnonzero(row <= limit)
        candidates = candidates[candidates != own[i]]
        indices[i] = candidates[np.argsort(row[candidates], kind="stable")][:k]
        found[i] = row[indices[i]]
    return indices, found


def search_all(points: FloatArray, rows: FloatArray, own: Indices, k: int, n_threads: int) -> Found:
    """Return the k nearest points of each row among all, sorted by distance and then by index.

    Parameters
    ----------
    points, rows, own, k
        As in `nearest_of`.
    n_threads : int
        Number of threads. Each row is treated on its own, so no bit depends on it.
    """

    def find(block: slice) -> Found:
        return nearest_in_rows(measure_all(points, rows[block]), k, own[block])

    return find_in_blocks(find, len(rows), k, row_blocks(len(rows), COMPARED_ELEMENTS, len(points)), n_threads)


def find_in_blocks(
    find: Callable[[slice], Found], n_rows: int, k: int, blocks: Iterable[slice], n_threads: int
) -> Found:
    """Return what ``find`` returns for blocks of rows, which are shared among threads."""
    indices, distances = np.empty((n_rows, k), dtype=np.int64), np.empty((n_rows, k))

    def work(block: slice) -> None:
        indices[block], distances[block] = find(block)

    blocks = list(blocks)
    n_workers = startable_threads(1 + min(n_threads, len(blocks)), SPARE_BYTES) - 1
    if n_workers <= 1:
        for block in blocks:
            work(block)
    else:
        with ThreadPoolExecutor(n_workers) as pool:
            list(pool.map(work, blocks))
    return indices, distances


def row_blocks(n_rows: int, elements: int, elements_per_row: int) -> Iterator[slice]:
    """Yield blocks of rows that have so many elements together, or of one row."""
    step = max(1, elements // max(1, elements_per_row))
    for start in range(0, n_rows, step):
        yield slice(start, start + step)

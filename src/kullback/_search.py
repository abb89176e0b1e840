"""Nearest neighbours by Euclidean distance: the search that both wings use.

The search goes through faiss, and works around two of its habits. First, the flat index of faiss hands large blocks
to a BLAS, whose rounding depends on the number of threads and on the other rows of the block. Here faiss always sums
squared differences directly, which measured only a fifth slower and which keeps small distances exact between rows far
from the origin. Second, faiss computes in float32. Rows are therefore centred and scaled first, so that data with a
large offset, or data of the order of 1e30 or 1e-40, lose nothing.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from ._arrays import FloatArray

Found = tuple[npt.NDArray[Any], FloatArray]
"""Indices of neighbours and the distances to them, both of shape (n_rows, k)."""

SERIAL_WORK = 1e7
"""Below so many differences of coordinates, which take 1 ms, one thread serves as well, and a busy machine better."""

N_PROBES = 16
"""How many lists of the inverted file are searched for a row. With about n^0.75 / 16 lists, the recall of 90
neighbours measured 0.986 to 0.995 on images of digits (4,000 to 63,000 rows of 50)."""

POINTS_PER_LIST = 64
"""How many rows per list k-means sees; 256 made the recall 0.002 higher and training four times as long."""

FAR = 1e16
"""A row so many times farther from the median than the typical row is searched for in float64, because its squares
would overflow float32."""

DEFAULT_SEED = 1234
"""The seed of the inverted file's k-means where the user gives none."""

_faiss_lock = threading.Lock()


class EuclideanSearch:
    """A search for the nearest of ``points``, exact or by an inverted file.

    The result for a row depends on that row and the points alone: neither the rows that it comes with nor the number
    of threads changes a bit of it.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_features), float32 or float64
        Finite rows. They are kept, not copied.
    exact : bool
        Whether to compare each row with all points; otherwise with those of a few lists of an inverted file.
    seed : int
        Seed of the lists.
    n_threads : int
        Threads that build the index.
    """

    def __init__(self, points: FloatArray, *, exact: bool, seed: int = DEFAULT_SEED, n_threads: int) -> None:
        self.points, self.exact = points, exact
        self.largest = max(float(np.abs(points).max()), np.finfo(np.float64).tiny)
        self.centre, self.scale = _centre_and_scale(points)
        rows, far = self._scaled(points)
        self.near = np.delete(np.arange(len(points)), far) if len(far) else None
        self.index = self._build(rows if self.near is None else rows[self.near], seed, n_threads)

    def among_themselves(self, k: int, n_threads: int, *, asking: FloatArray | None = None) -> Found:
        """Return the k nearest other points of every point.

        ``asking`` holds the rows that ask in the points' place, in the same order, where these are not equal to the
        points.
        """
        return self._search(self.points if asking is None else asking, k, n_threads, own_rows=True)

    def of_new_rows(self, rows: FloatArray, k: int, n_threads: int) -> Found:
        """Return the k nearest points of every new row."""
        return self._search(rows, k, n_threads, own_rows=False)

    def _scaled(self, rows: FloatArray) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
        """Return rows centred and scaled in float32, and which of them are too far for that; those become zeros."""
        with np.errstate(over="ignore"):
            rows = rows - self.centre
            far = np.flatnonzero(~(_largest_values(rows) / self.scale <= FAR))
            rows[far] = 0
            rows /= self.scale  # where the scale is subnormal, NumPy 1.26 warns although no quotient overflows
        return np.ascontiguousarray(rows, dtype=np.float32), far

    def _build(self, rows: npt.NDArray[np.float32], seed: int, n_threads: int) -> Any:
        """Return the index of faiss that holds the rows."""
        n_points, n_features = rows.shape
        with faiss_settings(n_threads) as faiss:
            index = flat = faiss.IndexFlatL2(n_features)
            if not self.exact:
                n_lists = 2 ** max(0, round(0.75 * math.log2(n_points) - 4))
                index = faiss.IndexIVFFlat(flat, n_features, n_lists)
                index.cp.seed = seed
                index.cp.min_points_per_centroid = 1
                index.cp.max_points_per_centroid = POINTS_PER_LIST
                index.train(rows)
            index.add(rows)
        return index

    def _search(self, asking: FloatArray, k: int, n_threads: int, *, own_rows: bool) -> Found:
        """Return the k nearest points of every row; with ``own_rows``, row i is not its own neighbour."""
        rows, far = self._scaled(asking)
        if self.index.ntotal < k + own_rows:
            far = np.arange(len(rows))
        indices = np.empty((len(rows), k), dtype=np.int64)
        distances = np.empty((len(rows), k), dtype=asking.dtype)
        if len(far) < len(rows):
            near = np.delete(np.arange(len(rows)), far) if len(far) else slice(None)
            found, squared = self._ask(rows[near], k + own_rows, n_threads)
            found = found if self.near is None else self.near[found]
            if own_rows:
                found, squared = _without_own(np.arange(len(rows))[near], found, squared)
            _sort_ties(found, squared)
            indices[near] = found
            distances[near] = np.sqrt(squared, dtype=asking.dtype) * self.scale
        if len(far):
            indices[far], distances[far] = self._search_far(asking, far, k, own_rows)
        return indices, distances

    def _ask(self, rows: npt.NDArray[np.float32], k: int, n_threads: int) -> Found:
        """Return the k nearest rows of the index and their squared distances, both in its scale."""
        index, n_points = self.index, self.index.ntotal
        if len(rows) * n_points * rows.shape[1] < SERIAL_WORK:
            n_threads = 1
        with faiss_settings(n_threads):
            if not self.exact:
                index.nprobe = min(index.nlist, max(N_PROBES, math.ceil(2 * k * index.nlist / n_points)))
            squared, indices = index.search(rows, k)
            incomplete = np.flatnonzero(indices[:, -1] < 0)
            if len(incomplete):  # the lists that were probed hold fewer than k rows together
                index.nprobe = index.nlist
                squared[incomplete], indices[incomplete] = index.search(rows[incomplete], k)
        return indices, squared

    def _search_far(self, asking: FloatArray, far: npt.NDArray[Any], k: int, own_rows: bool) -> Found:
        """Search for the few rows whose squares overflow float32: in float64, scaled by the largest value."""
        from scipy.spatial.distance import cdist

        indices = np.empty((len(far), k), dtype=np.int64)
        distances = np.empty((len(far), k))
        rows = self.points.astype(np.float64) / self.largest
        reach = np.abs(asking[far]).max(axis=1)
        beyond = np.flatnonzero(reach > self.largest)  # new rows farther out than any point: each has its own scale
        within = np.flatnonzero(reach <= self.largest)
        blocks = [within[start : start + 64] for start in range(0, len(within), 64)]
        blocks += [beyond[i : i + 1] for i in range(len(beyond))]
        for block in blocks:
            scale = max(self.largest, float(reach[block[0]]))
            points = rows if scale == self.largest else self.points / scale
            between = cdist(asking[far[block]].astype(np.float64) / scale, points)
            if own_rows:
                between[np.arange(len(block)), far[block]] = np.inf
            order = np.argsort(between, axis=1, kind="stable")[:, :k]
            indices[block] = order
            with np.errstate(over="ignore"):
                distances[block] = np.take_along_axis(between, order, axis=1) * scale
        return indices, np.minimum(distances, np.finfo(asking.dtype).max).astype(asking.dtype)


@contextmanager
def faiss_settings(n_threads: int) -> Iterator[Any]:
    """Give faiss so many threads and keep it off its BLAS; restore both at the end, as they belong to the process."""
    import faiss

    with _faiss_lock:
        threads, threshold = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold
        faiss.omp_set_num_threads(n_threads)
        faiss.cvar.distance_compute_blas_threshold = 2**31 - 1
        try:
            yield faiss
        finally:
            faiss.omp_set_num_threads(threads)
            faiss.cvar.distance_compute_blas_threshold = threshold


def _centre_and_scale(points: FloatArray) -> tuple[FloatArray, Any]:
    """Return a median row, and a scale at which the typical row is at a distance of about 1 from it.

    The median is that of up to 1,024 rows spread evenly: any robust centre serves, and a mean would not be robust. The
    centre consists of values of the data and the scale is a power of 2, so that whole numbers stay exact and ties stay
    ties.
    """
    sample = points[:: -(-len(points) // 1024)]
    centre = np.partition(sample, len(sample) // 2, axis=0)[len(sample) // 2]
    with np.errstate(over="ignore"):
        reach = _largest_values(points - centre)
    positive = reach[reach > 0]
    typical = np.partition(positive, len(positive) // 2)[len(positive) // 2] if len(positive) else points.dtype.type(1)
    return centre, np.ldexp(points.dtype.type(1), np.frexp(min(typical, np.finfo(points.dtype).max))[1] - 1)


def _largest_values(rows: FloatArray) -> FloatArray:
    """Return the largest absolute value of each row."""
    return np.asarray(np.maximum(rows.max(axis=1), -rows.min(axis=1)))


def _sort_ties(indices: npt.NDArray[Any], distances: FloatArray) -> None:
    """Order columns by index within equal distances, in place; the distances are sorted already."""
    new = distances[:, 1:] != distances[:, :-1]
    rows = np.flatnonzero(~new.all(axis=1))
    # Each column gets one number, and those of a group of equal distances lie between those of the groups beside it.
    groups = np.cumsum(new[rows], axis=1, dtype=np.int64) * (indices.max(initial=0) + 1)
    keys = indices[rows]
    keys[:, 1:] += groups
    keys.sort(axis=1)
    keys[:, 1:] -= groups
    indices[rows] = keys


def _without_own(own: npt.NDArray[Any], indices: npt.NDArray[Any], distances: FloatArray) -> Found:
    """Drop from each row its own index, or its last column where so many duplicates came first."""
    drop = indices == own[:, None]
    drop[~drop.any(axis=1), -1] = True
    shape = (len(indices), indices.shape[1] - 1)
    return indices[~drop].reshape(shape), distances[~drop].reshape(shape)

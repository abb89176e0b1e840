"""Nearest neighbours by Euclidean distance: the search that both wings use.

The search goes through faiss, and works around two of its habits. First, the flat index of faiss hands large blocks
to a BLAS, whose rounding depends on the number of threads and on the other rows of the block. Here faiss always sums
squared differences directly, which measured only a fifth slower. Second, faiss computes in float32. Rows are therefore
centred and scaled first, so that data with a large offset, or data of the order of 1e30 or 1e-40, lose nothing. A few
more neighbours than are wanted are asked for, and all of them are measured again in float64.

What float32 cannot tell apart is searched for again. The rounding of a row is a share of its distance from the centre.
So it may be larger than the distances between neighbours where the data consist of groups that are far apart. Then the
data are cut into cells, each of which is searched about a centre of its own, or all points are measured in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._arrays import FloatArray
from ._distances import Found, Indices, measure_all, nearest_of, row_blocks, search_all
from ._threads import SPARE_BYTES, ProcessLock, check_memory, startable_threads

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

SPARE = 4
"""How many neighbours beyond those that are wanted are measured again in float64."""

WIDER = 4
"""How many times more neighbours are measured where these do not suffice."""

ROUNDING = 2.0**-24
"""The relative error of a number that is rounded to float32."""

LOST = 2.0**-63
"""Square root of the smallest normal number of float32. Smaller squares may be lost."""

MEASURED = 2.0**-36
"""A bound of the relative error of a distance that is measured in float64."""

SAME = 2.0**-20
"""Distances whose relative difference is less than this may be taken for equal."""

CANDIDATES = 2**22
"""Candidates that are in memory at a time: 32 MB for their indices, and as much for their distances."""

BLOCK_WORK, UNEVEN = 2**30, 4
"""Differences of coordinates in one call of faiss, which nothing interrupts: 0.1 s, and 0.5 s of one slow core where
the points do not fit into its cache. A call has at least a row for each thread. The lists of an inverted file that are
searched may be so many times longer than the others."""

MOST_CELLS = 64
"""How many cells points are cut into, at most."""

EXACT_MEMBERS = 10_000
"""Cells of no more points are always searched exactly: that costs less than an inverted file of their own."""

CLEAR_GAP = 2.0**10
"""If one more cell makes the radius of the cells so many times smaller, they are groups that are far apart."""

_faiss_lock = ProcessLock()


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
        self.points, self.exact, self.seed = points, exact, seed
        self.centre, self.scale = _centre_and_scale(points)
        rows, far = self._scaled(points)
        self.near = np.delete(np.arange(len(points)), far) if len(far) else None
        self.index = self._build(rows if self.near is None else rows[self.near], n_threads)
        self._cells: Cells | None = None

    def among_themselves(self, k: int, n_threads: int, *, asking: FloatArray | None = None) -> Found:
        """Return the k nearest other points of every point.

        ``asking`` holds the rows that ask in the points' place, in the same order, where these are not equal to the
        points.
        """
        return self._search(self.points if asking is None else asking, np.arange(len(self.points)), k, n_threads)

    def of_new_rows(self, rows: FloatArray, k: int, n_threads: int) -> Found:
        """Return the k nearest points of every new row."""
        return self._search(rows, np.full(len(rows), -1), k, n_threads)

    def _search(self, asking: FloatArray, own: Indices, k: int, n_threads: int) -> Found:
        """Return the k nearest points of every row, where ``own`` is the point that a row is itself, or -1."""
        indices, distances = self.find(asking, own, k, n_threads)
        return indices, np.minimum(distances, np.finfo(asking.dtype).max).astype(asking.dtype)

    def find(self, asking: FloatArray, own: Indices, k: int, n_threads: int) -> Found:
        """Return what a search returns, with distances in float64, which may be infinite."""
        if 2 * (k + 1 + SPARE) >= self.index.ntotal:
            return search_all(self.points, asking, own, k, n_threads)
        indices, distances = np.empty((len(asking), k), dtype=np.int64), np.empty((len(asking), k))
        resolved = np.empty(len(asking), dtype=np.bool_)
        share = 1.0 if self.exact else min(1.0, UNEVEN * self._n_probes(k + 1 + SPARE) / self.index.nlist)
        rows_of_block = rows_of_call(n_threads, share * self.index.ntotal * asking.shape[1])
        for block in row_blocks(len(asking), min(CANDIDATES, rows_of_block * (k + 1 + SPARE)), k + 1 + SPARE):
            found = self._find_block(asking[block], own[block], k, n_threads)
            indices[block], distances[block], resolved[block] = found
        if not resolved.all():
            again = np.flatnonzero(~resolved)
            before = indices[again], distances[again]
            indices[again], distances[again] = self._find_again(asking[again], own[again], before, n_threads)
        return indices, distances

    def _find_block(
        self, asking: FloatArray, own: Indices, k: int, n_threads: int
    ) -> tuple[Indices, FloatArray, npt.NDArray[np.bool_]]:
        """Return the nearest among the points that float32 ranks first, and for which rows they are the nearest."""
        rows, far = self._scaled(asking)
        indices, distances = np.empty((len(rows), k), dtype=np.int64), np.full((len(rows), k), np.inf)
        resolved = np.zeros(len(rows), dtype=np.bool_)
        left = np.delete(np.arange(len(rows)), far)
        for factor in (1, WIDER):
            if len(left):
                found, squared = self._ask(rows[left], min(factor * (k + 1 + SPARE), self.index.ntotal), n_threads)
                found = found if self.near is None else self.near[found]
                indices[left], distances[left] = nearest_of(self.points, asking[left], found, own[left], k, n_threads)
                resolved[left] = distances[left, -1] <= self._nearest_others(rows[left], squared[:, -1])
                left = left[~resolved[left]]
        return indices, distances, resolved

    def _nearest_others(self, rows: npt.NDArray[np.float32], last_squared: npt.NDArray[Any]) -> FloatArray:
        """Return a distance below which there is none but the candidates, of which the last one is given, to rounding.

        Let r be the length of a scaled row and D the distance of a point that is no candidate. That point has a length
        of at most r + D. Both are rounded by u times their lengths, so the last candidate is at a distance of at most
        (1 + sums) (D + u (2 r + D)). Equal distances are told apart by nothing, so as much again as the sums may err
        is allowed.
        """
        sums = ROUNDING * (rows.shape[1] + 2) / 2
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
        last = np.sqrt(last_squared, dtype=np.float64)
        others = (last / (1 + sums) - 2 * ROUNDING * lengths - LOST * rows.shape[1] ** 0.5) / (1 + ROUNDING)
        if self.near is not None:  # other points are too far for float32
            others = np.minimum(others, FAR - lengths)
        with np.errstate(over="ignore"):
            return np.asarray(np.maximum(others, 0) * (1 + SAME + 2 * sums) * np.float64(self.scale))

    def _find_again(self, asking: FloatArray, own: Indices, before: Found, n_threads: int) -> Found:
        """Return the nearest points of rows that float32 does not resolve: in their cells, or among all points.

        ``before`` is what was found without. An approximate search keeps it where a cell does not have nearer points,
        so that its time stays within bounds.
        """
        (indices, distances), k = before, before[0].shape[1]
        resolved = np.zeros(len(asking), dtype=np.bool_)
        if self._cells is None:
            self._cells = Cells(self, n_threads)
        for cell, rows, apart in self._cells.of_rows(asking):
            if len(cell.members) > k:
                places = np.searchsorted(cell.members, own[rows])
                places[cell.members[np.minimum(places, len(cell.members) - 1)] != own[rows]] = -1
                found, measured = cell.search.find(asking[rows], places, k, n_threads)
                resolved[rows] = measured[:, -1] < apart
                better = resolved[rows] | (measured[:, -1] < distances[rows, -1])
                indices[rows[better]], distances[rows[better]] = cell.members[found[better]], measured[better]
        left = np.flatnonzero(~resolved if self.exact else distances[:, -1] == np.inf)
        if len(left):
            indices[left], distances[left] = search_all(self.points, asking[left], own[left], k, n_threads)
        return indices, distances

    def _scaled(self, rows: FloatArray) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
        """Return rows centred and scaled in float32, and which of them are too far for that; those become zeros."""
        with np.errstate(over="ignore"):
            rows = rows - self.centre
            far = np.flatnonzero(~(_largest_values(rows) / self.scale <= FAR))
            rows[far] = 0
            rows /= self.scale  # where the scale is subnormal, NumPy 1.26 warns although no quotient overflows
        return np.ascontiguousarray(rows, dtype=np.float32), far

    def _build(self, rows: npt.NDArray[np.float32], n_threads: int) -> Any:
        """Return the index of faiss that holds the rows."""
        n_points, n_features = rows.shape
        if n_points**2 * n_features < SERIAL_WORK:
            n_threads = 1
        with faiss_settings(n_threads) as faiss:
            index = flat = faiss.IndexFlatL2(n_features)
            if not self.exact:
                n_lists = 2 ** max(0, round(0.75 * math.log2(n_points) - 4))
                index = faiss.IndexIVFFlat(flat, n_features, n_lists)
                index.cp.seed = self.seed
                index.cp.min_points_per_centroid = 1
                index.cp.max_points_per_centroid = POINTS_PER_LIST
                index.train(rows)
            step = n_points if self.exact else rows_of_call(n_threads, index.nlist * n_features)
            for start in range(0, n_points, step):
                index.add(rows[start : start + step])
        return index

    def _n_probes(self, k: int) -> int:
        """Return how many lists of the inverted file are searched for k neighbours."""
        n_lists = self.index.nlist
        return int(min(n_lists, max(N_PROBES, math.ceil(2 * k * n_lists / self.index.ntotal))))

    def _ask(self, rows: npt.NDArray[np.float32], k: int, n_threads: int) -> Found:
        """Return the k nearest rows of the index and their squared distances, both in its scale."""
        index, n_points = self.index, self.index.ntotal
        if len(rows) * n_points * rows.shape[1] < SERIAL_WORK:
            n_threads = 1
        with faiss_settings(n_threads):
            if not self.exact:
                index.nprobe = self._n_probes(k)
            squared, indices = index.search(rows, k)
            incomplete = np.flatnonzero(indices[:, -1] < 0)
            if len(incomplete):  # the lists that were probed hold fewer than k rows together
                index.nprobe = index.nlist
                squared[incomplete], indices[incomplete] = index.search(rows[incomplete], k)
        return indices, squared


def rows_of_call(n_threads: int, work_of_row: float) -> int:
    """Return how many rows one call of faiss takes, so that Ctrl-C is soon noticed: as many for each thread."""
    return n_threads * max(1, int(BLOCK_WORK / max(1.0, work_of_row)) // n_threads)


class Cell(NamedTuple):
    """Points that are near each other."""

    members: Indices
    """Which points these are, in their order."""
    radius: float
    """The largest distance of one of them from the pivot."""
    search: EuclideanSearch
    """A search among them, about a centre of their own."""


class Cells:
    """The points of a search, cut into cells: those nearest to each of some pivots, which are points themselves.

    Parameters
    ----------
    whole : EuclideanSearch
        The search whose points are cut.
    n_threads : int
        Number of threads that build searches.
    """

    def __init__(self, whole: EuclideanSearch, n_threads: int) -> None:
        points = whole.points
        self.pivots = points[_choose_pivots(points, whole.centre)]
        places, radii = np.empty(len(points), dtype=np.int64), np.zeros(len(self.pivots))
        for block in row_blocks(len(points), CANDIDATES, len(self.pivots)):
            between = measure_all(self.pivots, points[block])
            places[block] = np.argmin(between, axis=1)
            np.maximum.at(radii, places[block], between.min(axis=1))
        self.cells = []
        for place, radius in enumerate(radii if len(radii) > 1 else ()):
            members = np.flatnonzero(places == place)
            exact = whole.exact or len(members) <= EXACT_MEMBERS
            search = EuclideanSearch(points[members], exact=exact, seed=whole.seed, n_threads=n_threads)
            self.cells.append(Cell(members, float(radius), search))

    def of_rows(self, rows: FloatArray) -> Iterator[tuple[Cell, Indices, FloatArray]]:
        """Yield each cell with the rows that lie in it and their least distances to the points of other cells."""
        if not self.cells:
            return
        between = measure_all(self.pivots, rows)
        places = np.argmin(between, axis=1)
        with np.errstate(invalid="ignore"):
            apart = between * (1 - MEASURED) - [cell.radius for cell in self.cells]
        apart[np.arange(len(rows)), places] = np.inf
        for place, cell in enumerate(self.cells):
            inside = np.flatnonzero(places == place)
            if len(inside):
                yield cell, inside, apart[inside].min(axis=1)


def _choose_pivots(points: FloatArray, centre: FloatArray) -> list[int]:
    """Return points of which each is farthest from those before it, so that groups far apart get one each first.

    There is only one if cells would not be much smaller than the whole.
    """
    nearest = measure_all(points, centre[None])[0]
    pivots: list[int] = []
    radii = [np.inf]
    while len(pivots) < MOST_CELLS and (len(pivots) < 2 or radii[-1] * CLEAR_GAP > radii[-2]) and radii[-1] > 0:
        pivots.append(int(np.argmax(nearest)))
        from_pivot = measure_all(points, points[pivots[-1:]])[0]
        nearest = np.minimum(nearest, from_pivot) if len(pivots) > 1 else from_pivot
        radii.append(float(nearest.max()))
    return pivots if radii[-1] <= radii[1] / 2 else pivots[:1]


@contextmanager
def faiss_settings(n_threads: int) -> Iterator[Any]:
    """Give faiss so many threads and keep it off its BLAS; restore both at the end, as they belong to the process."""
    import faiss

    check_memory(SPARE_BYTES)
    with _faiss_lock:
        threads, threshold = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold
        faiss.omp_set_num_threads(startable_threads(n_threads, SPARE_BYTES))
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

"""Nearest neighbours by Euclidean distance: the search that both wings use.

The search goes through faiss, and works around two of its habits. First, the flat index of faiss hands large blocks
to a BLAS, whose rounding depends on the number of threads and on the other rows of the block. Here faiss always sums
squared differences directly, which measured only a fifth slower. Second, faiss computes in float32. Rows are therefore
centred and scaled first, so that data with a large offset, or data of the order of 1e30 or 1e-40, lose nothing. A few
more neighbours than are wanted are asked for, and all of them are measured again in float64.

An approximate search looks into a few lists of an inverted file. How many it takes to reach the recall that is wanted
depends on the data, so it is measured on a sample of rows before the first search (see `kullback._recall`).

What float32 cannot tell apart is searched for again. The rounding of a row is a share of its distance from the centre.
So it may be larger than the distances between neighbours where the data consist of groups that are far apart. Then the
data are cut into cells, each of which is searched about a centre of its own, or all points are measured in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._arrays import FloatArray
from ._distances import Found, Indices, measure_all, nearest_of, row_blocks, search_all
from ._faiss import SERIAL_WORK, ask_by_products, ask_flat, ask_lists, build_flat, build_lists, rows_of_call
from ._recall import (
    EXACT,
    SAME,
    TARGET,
    WORTH_LISTS,
    WORTH_OF_PRODUCTS,
    Recall,
    measure_recall,
    rising_efforts,
    sample_rows,
)

FAR = 1e16
"""A row so many times farther from the median than the typical row is searched for in float64, because its squares
would overflow float32."""

DEFAULT_SEED = 1234
"""The seed of the inverted file's k-means where the user gives none."""

SPARE = 4
"""How many neighbours beyond those that are wanted are measured again in float64."""

ALL_LISTS, BY_PRODUCTS = 0, -1
"""The numbers of lists that stand for a search among all points, and for one by matrix products."""

WIDER = 4
"""How many times more neighbours are measured where these do not suffice."""

ROUNDING = 2.0**-24
"""The relative error of a number that is rounded to float32."""

LOST = 2.0**-63
"""Square root of the smallest normal number of float32. Smaller squares may be lost."""

MEASURED = 2.0**-36
"""A bound of the relative error of a distance that is measured in float64."""

CANDIDATES = 2**22
"""Candidates that are in memory at a time: 32 MB for their indices, and as much for their distances."""

UNEVEN = 4
"""The lists of an inverted file that are searched may be so many times longer than the others."""

PRODUCT_WORK, FASTER_PRODUCTS = 5e9, 4
"""From so many differences of coordinates on, points that are all compared with each other are so by matrix products.
These are at least so many times as fast."""

MOST_CELLS = 64
"""How many cells points are cut into, at most."""

EXACT_MEMBERS = 10_000
"""Cells of no more points are always searched exactly: that costs less than an inverted file of their own."""

CLEAR_GAP = 2.0**10
"""If one more cell makes the radius of the cells so many times smaller, they are groups that are far apart."""


class EuclideanSearch:
    """A search for the nearest of ``points``, exact or by an inverted file.

    The result for a row depends on that row and the points alone: neither the rows that it comes with nor the number
    of threads changes a bit of it.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_features), float32 or float64
        Finite rows. They are kept, not copied.
    exact : bool
        Whether to compare each row with all points; otherwise with those of so many lists of an inverted file as it
        takes to reach the recall.
    recall : float in (0, 1]
        The share of the true neighbours that an approximate search finds at least.
    seed : int
        Seed of the lists, and of the sample on which the recall is measured.
    n_threads : int
        Threads that build the index.
    sample : tuple of ndarray, optional
        The rows on which the recall is measured, as `kullback._recall.sample_rows` returns them, and what these points
        are when they ask, where they differ from the points.
    """

    def __init__(
        self,
        points: FloatArray,
        *,
        exact: bool,
        recall: float = TARGET,
        seed: int = DEFAULT_SEED,
        n_threads: int,
        sample: tuple[Indices, FloatArray] | None = None,
    ) -> None:
        self.points, self.exact, self.recall, self.seed = points, exact or recall == 1, recall, seed
        self.centre, self.scale = _centre_and_scale(points)
        rows, far = self._scaled(points)
        self.near = np.delete(np.arange(len(points)), far) if len(far) else None
        rows = rows if self.near is None else rows[self.near]
        self.n_near = len(rows)
        self.takes_products = bool(rows.size * len(rows) >= PRODUCT_WORK)
        self.flat: Any = build_flat(rows) if self.exact else None
        self.lists: Any = None if self.exact else build_lists(rows, seed, n_threads)
        self._sample = sample
        self._efforts: dict[int, tuple[int, Recall]] = {}
        self._cells: Cells | None = None

    def among_themselves(self, k: int, n_threads: int, *, asking: FloatArray | None = None) -> Found:
        """Return the k nearest other points of every point.

        ``asking`` holds the rows that ask in the points' place, in the same order, where these are not equal to the
        points.
        """
        asking, own = self.points if asking is None else asking, np.arange(len(self.points))
        return self._search(asking, own, k, n_threads, together=self.takes_products)

    def of_new_rows(self, rows: FloatArray, k: int, n_threads: int) -> Found:
        """Return the k nearest points of every new row."""
        return self._search(rows, np.full(len(rows), -1), k, n_threads)

    def _search(self, asking: FloatArray, own: Indices, k: int, n_threads: int, *, together: bool = False) -> Found:
        """Return the k nearest points of every row, where ``own`` is the point that a row is itself, or -1.

        ``together`` says that the same rows always come in the same order.
        """
        indices, distances = self.find(asking, own, k, n_threads, together=together)
        return indices, np.minimum(distances, np.finfo(asking.dtype).max).astype(asking.dtype)

    def find(
        self, asking: FloatArray, own: Indices, k: int, n_threads: int, *, exact: bool = False, together: bool = False
    ) -> Found:
        """Return what a search returns, with distances in float64, which may be infinite."""
        n_probes = ALL_LISTS if exact else self.choose_effort(k, n_threads)[0]
        if n_probes == ALL_LISTS and self.flat is None:
            rows, _ = self._scaled(self.points)
            self.flat = build_flat(rows if self.near is None else rows[self.near])
        return self._find(asking, own, k, BY_PRODUCTS if together and not n_probes else n_probes, n_threads)

    def choose_effort(self, k: int, n_threads: int) -> tuple[int, Recall]:
        """Return how many lists are searched for k neighbours of a row, or ``ALL_LISTS``, and the recall of that.

        The least number is taken that reaches the recall on a sample of the points, each with its true neighbours.
        What the sample finds is what the whole search will find for these rows, so nothing is searched twice.
        """
        if self.exact or not self._is_divided(k):
            return ALL_LISTS, EXACT
        if k not in self._efforts:
            self._efforts[k] = self._measure_efforts(k, n_threads)
        return self._efforts[k]

    def _measure_efforts(self, k: int, n_threads: int) -> tuple[int, Recall]:
        """Return the least effort whose recall, less its standard error, is what is wanted."""
        if self._sample is None:
            rows = sample_rows(len(self.points), self.seed)
            self._sample = rows, self.points[rows]
        (own, asking), true = self._sample, None
        least = math.ceil(2 * (k + 1 + SPARE) * self.lists.nlist / self.n_near)
        worth = WORTH_OF_PRODUCTS if self.takes_products else WORTH_LISTS
        for n_probes in rising_efforts(self.lists.nlist, least, worth):
            if true is None:
                _, true = self._find(asking, own, k, ALL_LISTS, n_threads)
            _, found = self._find(asking, own, k, n_probes, n_threads)
            recall = measure_recall(found, true)
            if recall.value - recall.error >= self.recall:
                return n_probes, recall
        return ALL_LISTS, EXACT

    def _is_divided(self, k: int) -> bool:
        """Return whether there are so many points that lists of them are worth it for k neighbours."""
        return 2 * (k + 1 + SPARE) < self.n_near

    def _find(self, asking: FloatArray, own: Indices, k: int, n_probes: int, n_threads: int) -> Found:
        """Return what `find` returns, from so many lists or from all points."""
        if not self._is_divided(k):
            return search_all(self.points, asking, own, k, n_threads)
        indices, distances = np.empty((len(asking), k), dtype=np.int64), np.empty((len(asking), k))
        resolved = np.empty(len(asking), dtype=np.bool_)
        compared = self.n_near / (FASTER_PRODUCTS if n_probes == BY_PRODUCTS else 1)
        if n_probes > 0:
            compared = self.lists.nlist + self.n_near * min(1.0, UNEVEN * n_probes / self.lists.nlist)
        rows_of_block = rows_of_call(n_threads, compared * asking.shape[1])
        for block in row_blocks(len(asking), min(CANDIDATES, rows_of_block * (k + 1 + SPARE)), k + 1 + SPARE):
            found = self._find_block(asking[block], own[block], k, n_probes, n_threads)
            indices[block], distances[block], resolved[block] = found
        if not resolved.all():
            again = np.flatnonzero(~resolved)
            before = indices[again], distances[again]
            nearer = self._find_again(asking[again], own[again], before, n_threads, exact=n_probes <= 0)
            indices[again], distances[again] = nearer
        return indices, distances

    def _find_block(
        self, asking: FloatArray, own: Indices, k: int, n_probes: int, n_threads: int
    ) -> tuple[Indices, FloatArray, npt.NDArray[np.bool_]]:
        """Return the nearest among the points that float32 ranks first, and for which rows they are the nearest."""
        rows, far = self._scaled(asking)
        indices, distances = np.empty((len(rows), k), dtype=np.int64), np.full((len(rows), k), np.inf)
        resolved = np.zeros(len(rows), dtype=np.bool_)
        left = np.delete(np.arange(len(rows)), far)
        ways = (BY_PRODUCTS, ALL_LISTS) if n_probes == BY_PRODUCTS else (n_probes,)
        for way, factor in product(ways, (1, WIDER)):
            if len(left):
                found, squared = self._ask(rows[left], min(factor * (k + 1 + SPARE), self.n_near), way, n_threads)
                found = found if self.near is None else self.near[found]
                indices[left], distances[left] = nearest_of(self.points, asking[left], found, own[left], k, n_threads)
                others = self._nearest_others(rows[left], squared[:, -1], by_products=way == BY_PRODUCTS)
                resolved[left] = distances[left, -1] <= others
                left = left[~resolved[left]]
        return indices, distances, resolved

    def _nearest_others(
        self, rows: npt.NDArray[np.float32], last_squared: npt.NDArray[Any], *, by_products: bool
    ) -> FloatArray:
        """Return a distance below which there is none but the candidates, of which the last one is given, to rounding.

        Let r be the length of a scaled row and D the distance of a point that is no candidate. That point has a length
        of at most r + D. Both are rounded by u times their lengths, so the last candidate is at a distance of at most
        (1 + sums) (D + u (2 r + D)). Equal distances are told apart by nothing, so as much again as the sums may err
        is allowed.

        By products, the square of a scaled distance d has an error of at most g (2 r + d)^2 <= g (8 r^2 + 2 d^2), where
        g is u times the number of sums and products that an element of a product and two squares take.
        """
        sums = ROUNDING * (rows.shape[1] + 2) / 2
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
        if by_products:
            error = ROUNDING * (rows.shape[1] + 3)
            last = np.sqrt(np.maximum(last_squared - 8 * error * lengths**2, 0) / (1 + 2 * error))
        else:
            last = np.sqrt(last_squared, dtype=np.float64) / (1 + sums)
        others = (last - 2 * ROUNDING * lengths - LOST * rows.shape[1] ** 0.5) / (1 + ROUNDING)
        if self.near is not None:  # other points are too far for float32
            others = np.minimum(others, FAR - lengths)
        with np.errstate(over="ignore"):
            return np.asarray(np.maximum(others, 0) * (1 + SAME + 2 * sums) * np.float64(self.scale))

    def _find_again(self, asking: FloatArray, own: Indices, before: Found, n_threads: int, *, exact: bool) -> Found:
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
                found, measured = cell.search.find(asking[rows], places, k, n_threads, exact=exact)
                resolved[rows] = measured[:, -1] < apart
                better = resolved[rows] | (measured[:, -1] < distances[rows, -1])
                indices[rows[better]], distances[rows[better]] = cell.members[found[better]], measured[better]
        left = np.flatnonzero(~resolved if exact else distances[:, -1] == np.inf)
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

    def _ask(self, rows: npt.NDArray[np.float32], k: int, n_probes: int, n_threads: int) -> Found:
        """Return the k nearest rows of the index and their squared distances, both in its scale.

        Among all points, both indexes find the same, bit for bit.
        """
        if len(rows) * self.n_near * rows.shape[1] < SERIAL_WORK:
            n_threads = 1
        if n_probes == BY_PRODUCTS:
            return ask_by_products(self.flat, rows, k, n_threads)
        if n_probes == ALL_LISTS and self.flat is not None:
            return ask_flat(self.flat, rows, k, n_threads)
        least = math.ceil(2 * k * self.lists.nlist / self.n_near)
        n_probes = self.lists.nlist if n_probes == ALL_LISTS else min(self.lists.nlist, max(n_probes, least))
        return ask_lists(self.lists, rows, k, n_probes, n_threads)


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
            options: dict[str, Any] = {"recall": whole.recall, "seed": whole.seed, "n_threads": n_threads}
            search = EuclideanSearch(points[members], exact=exact, **options)
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

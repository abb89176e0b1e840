"""What the accumulators of rows hold: arrays of statistics, the labels of groups, and buckets for quantiles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._kernels import exact_sum as exact_sum_kernel
from ._buckets import BucketCounts
from ._exact import N_CHUNKS_PRODUCTS
from ._labels import Labels
from ._row_sums import FINITE, INFINITE, N_COUNTS, N_SUMS, N_WEIGHTED_SUMS, NONFINITE, with_weights


class RowContents:
    """Statistics of measures and groups, of which measure m of group g is row g * n_measures + m of the arrays.

    The arrays have room for more groups than there are. They change in two ways only, each in one step of a kernel:
    rows are added, or all sums are carried, which changes no value. All else makes new contents.

    Attributes
    ----------
    sums, counts, extremes
        As the kernel ``exact_sum.accumulate_rows`` fills them.
    sizes
        How many groups there are, and how many keys wait in the buffer of the buckets.
    labels
        Labels of the groups; None for a single group without a label.
    buckets
        None where there are no quantiles.
    pending
        Additions since the sums were carried, or more.
    """

    __slots__ = ("buckets", "counts", "extremes", "labels", "n_measures", "pending", "sizes", "sums")

    def __init__(self, n_measures: int, labels: Labels | None, buckets: BucketCounts | None) -> None:
        self.n_measures = n_measures
        self.labels = labels
        self.buckets = buckets
        self.pending = 0
        self.sizes = np.array([labels is None, 0], np.int64)
        self._allocate(int(self.sizes[0]), N_SUMS)

    def _allocate(self, n_groups: int, n_sums: int) -> None:
        """Make empty arrays."""
        n = n_groups * self.n_measures
        self.sums = np.zeros((n, n_sums, N_CHUNKS_PRODUCTS), np.int64)
        self.counts = np.zeros((n, N_COUNTS), np.int64)
        self.extremes = np.empty((n, 2))
        self.extremes[:, 0], self.extremes[:, 1] = math.inf, -math.inf

    @property
    def n_groups(self) -> int:
        """How many groups there are."""
        return int(self.sizes[0])

    @property
    def n_statistics(self) -> int:
        """How many rows of the arrays are in use."""
        return self.n_groups * self.n_measures

    @property
    def is_weighted(self) -> bool:
        """Whether sums of weights are kept."""
        return self.sums.shape[1] == N_WEIGHTED_SUMS

    @property
    def n_rows(self) -> int:
        """How many rows were counted: NaN is included, rows of weight 0 are not."""
        return int(self.counts[:: self.n_measures, [FINITE, INFINITE, NONFINITE]].sum())

    def carry(self) -> None:
        """Bring all sums into canonical form."""
        exact_sum_kernel.carry(self.sums.reshape(-1, N_CHUNKS_PRODUCTS))
        self.pending = 0

    # -- contents that are made from these

    def _share(self) -> RowContents:
        """Return contents that share all arrays but the sizes."""
        twin = object.__new__(RowContents)
        twin.n_measures, twin.labels, twin.buckets, twin.pending = (
            self.n_measures, self.labels, self.buckets, self.pending,
        )  # fmt: skip
        twin.sizes = self.sizes.copy()
        twin.sums, twin.counts, twin.extremes = self.sums, self.counts, self.extremes
        return twin

    def resize(self, n_groups: int, *, weighted: bool = False) -> RowContents:
        """Return contents with arrays of their own, which have room for so many groups, and for weights if asked."""
        self.carry()
        twin, n = self._share(), self.n_statistics
        is_new = weighted and not self.is_weighted
        twin._allocate(n_groups, N_WEIGHTED_SUMS if weighted or self.is_weighted else N_SUMS)
        twin.sums[:n] = with_weights(self.sums[:n], self.counts[:n]) if is_new else self.sums[:n]
        twin.counts[:n], twin.extremes[:n] = self.counts[:n], self.extremes[:n]
        return twin

    def copy(self) -> RowContents:
        """Return contents that share nothing that changes, and in which all is carried and no key waits."""
        twin = self.flush().resize(self.n_groups)
        if self.labels is not None:
            twin.labels = self.labels.copy(self.n_groups)
        if twin.buckets is not None and twin.buckets is self.buckets:  # the room for keys is its own
            twin.buckets = twin.buckets.widen(len(twin.buckets.buffer))
        return twin

    def flush(self, n_keys: int = 0) -> RowContents:
        """Return contents in which no key waits, and in which there is room for ``n_keys``."""
        if self.buckets is None or (self.sizes[1] == 0 and n_keys <= len(self.buckets.buffer)):
            return self
        twin = self._share()
        twin.buckets = self.buckets.flush(int(self.sizes[1])) if self.sizes[1] else self.buckets
        if n_keys > len(twin.buckets.buffer):
            twin.buckets = twin.buckets.widen(n_keys)
        twin.sizes[1] = 0
        return twin

    def fold(self, other: RowContents) -> RowContents:
        """Return contents with those of ``other`` added, of which this one may keep arrays."""
        groups, n_groups = None, self.n_groups
        if self.labels is not None and other.labels is not None:
            groups = self.labels.fold(other.labels, n_groups)
            n_groups = len(self.labels.names)
        is_weighted = self.is_weighted or other.is_weighted
        if is_weighted and not other.is_weighted:
            other = other.resize(other.n_groups, weighted=True)
        twin = self.flush().resize(n_groups, weighted=is_weighted)
        rows = twin.statistics_of(groups)
        twin.sums[rows] += other.sums
        twin.counts[rows] += other.counts
        twin.extremes[rows, 0] = np.minimum(twin.extremes[rows, 0], other.extremes[:, 0])
        twin.extremes[rows, 1] = np.maximum(twin.extremes[rows, 1], other.extremes[:, 1])
        twin.carry()
        if twin.buckets is not None and other.buckets is not None:
            twin.buckets = twin.buckets.fold(other.buckets, np.arange(len(twin.counts))[rows])
        twin.sizes[0] = n_groups
        return twin

    def statistics_of(self, groups: NDArray[np.int64] | None) -> Any:
        """Return the index of the arrays' rows that belong to these groups, in their order; None asks for all rows."""
        if groups is None:
            return slice(None)
        return (groups[:, None] * self.n_measures + np.arange(self.n_measures)).reshape(-1)

    def order(self) -> Any:
        """Return the index of the arrays' rows in the order of their labels."""
        return self.statistics_of(None if self.labels is None else self.labels.order(self.n_groups))

    def make_room_for_keys(self, n_rows: int) -> RowContents:
        """Return equal contents whose buckets can take so many rows: these ones, where they can."""
        n_keys = n_rows * self.n_measures
        if self.buckets is None or self.sizes[1] + n_keys <= len(self.buckets.buffer):
            return self
        return self.flush(n_keys)

    def grow(self, n_groups: int, *, weighted: bool) -> RowContents:
        """Return contents with room for so many groups, or for twice as many as before."""
        n_room = len(self.counts) // self.n_measures
        if n_groups <= n_room and (self.is_weighted or not weighted):
            return self
        return self.resize(n_room if n_groups <= n_room else max(2 * n_room, n_groups), weighted=weighted)

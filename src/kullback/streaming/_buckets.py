"""Quantiles that merge exactly: counts of values in buckets that divide the float64 numbers."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .._kernels import exact_sum as exact_sum_kernel

PRECISION = 10
"""Bits of the mantissa that tell buckets apart. A bucket is at most 2^-10 of its values wide."""

_SHIFT = 52 - PRECISION
_SPAN = 1 << (12 + PRECISION)
"""Keys of each statistic, more than there are buckets: statistic s has the keys from s * _SPAN on."""

_MIDDLE = _SPAN // 2  # the key of the bucket of zero, among those of its statistic
_BUFFER_SIZE = 1 << 12


class BucketCounts:
    """How many values of each statistic fell into each bucket.

    A bucket holds the values whose sign, exponent and first ``PRECISION`` bits of mantissa are equal.
    Its counts are integers, which merge exactly, and its middle is within a relative 2^-11 of each of
    its values. Only buckets with values are kept, sorted by key. New keys wait in a buffer until it is
    full, because sorting many at once costs less.
    """

    def __init__(self) -> None:
        self.keys = np.empty(0, np.int64)  # statistic * _SPAN + key + _MIDDLE, sorted
        self.counts = np.empty(0, np.int64)
        self._buffer = np.empty(_BUFFER_SIZE, np.int64)
        self._filled = 0

    def add(self, values: NDArray[np.float64], statistics: NDArray[np.int64] | int) -> None:
        """Count values, none of which is NaN, each for its statistic."""
        n = len(values)
        if self._filled + n > len(self._buffer):
            self.flush()
            if n > len(self._buffer):
                keys = np.empty(n, np.int64)
                exact_sum_kernel.order_keys(values, _SHIFT, keys)
                keys += np.asarray(statistics) * _SPAN + _MIDDLE
                self._absorb(*np.unique(keys, return_counts=True))
                return
        free = self._buffer[self._filled : self._filled + n]
        exact_sum_kernel.order_keys(values, _SHIFT, free)
        free += statistics * _SPAN + _MIDDLE
        self._filled += n

    def _absorb(self, keys: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        """Add counts to the table."""
        merged, places = np.unique(np.concatenate([self.keys, keys]), return_inverse=True)
        totals = np.zeros(len(merged), np.int64)
        np.add.at(totals, places, np.concatenate([self.counts, counts]))
        self.keys, self.counts = merged, totals

    def flush(self) -> None:
        """Move what waits in the buffer into the table."""
        if self._filled:
            self._absorb(*np.unique(self._buffer[: self._filled], return_counts=True))
            self._filled = 0

    def fold(self, other: BucketCounts, renumber: NDArray[np.int64]) -> None:
        """Add the counts of ``other``, whose statistic ``s`` has the number ``renumber[s]`` here."""
        self.flush()
        other.flush()
        statistics, keys = np.divmod(other.keys, _SPAN)
        self._absorb(renumber[statistics] * _SPAN + keys, other.counts)

    def export(self, order: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return sorted keys and their counts, in which statistic ``order[i]`` has the number ``i``."""
        self.flush()
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        statistics, keys = np.divmod(self.keys, _SPAN)
        keys += rank[statistics] * _SPAN
        sorting = np.argsort(keys)
        return keys[sorting], self.counts[sorting]

    def adopt(self, keys: NDArray[np.int64], counts: NDArray[np.int64], totals: NDArray[np.int64]) -> None:
        """Check and take over the arrays of a state; the counts of each statistic must add up to ``totals``."""
        statistics = keys // _SPAN
        if not (np.diff(keys) > 0).all() or not (counts > 0).all():
            raise ValueError("the state's quantile buckets must be sorted and distinct, with positive counts")
        if len(keys) and not (statistics[0] >= 0 and statistics[-1] < len(totals)):
            raise ValueError("the state's quantile buckets belong to statistics that it does not have")
        sums = np.zeros(len(totals), np.int64)
        np.add.at(sums, statistics, counts)
        if not np.array_equal(sums, totals):
            raise ValueError("the state's quantile counts do not add up to its rows")
        self.keys, self.counts = keys, counts

    def quantiles(self, statistics: list[int], probabilities: tuple[float, ...]) -> dict[float, float]:
        """Return the values of rank ``max(1, ceil(p * n))`` of these statistics together, within a relative 2^-11."""
        self.flush()
        parts = [np.searchsorted(self.keys, [s * _SPAN, (s + 1) * _SPAN]) for s in statistics]
        keys = np.concatenate([self.keys[low:high] & (_SPAN - 1) for low, high in parts] or [self.keys[:0]])
        counts = np.concatenate([self.counts[low:high] for low, high in parts] or [self.counts[:0]])
        if not len(keys):
            return dict.fromkeys(probabilities, math.nan)
        order = np.argsort(keys, kind="stable")
        cumulative = np.cumsum(counts[order])
        ranks = [max(1, math.ceil(p * int(cumulative[-1]))) for p in probabilities]
        places = order[np.searchsorted(cumulative, ranks)]
        return {p: _middle_of(int(keys[i]) - _MIDDLE) for p, i in zip(probabilities, places, strict=True)}


def _middle_of(key: int) -> float:
    """Return the middle of a bucket; the buckets of zero and of infinity are represented by these two values."""
    edges = np.array([abs(key) << _SHIFT, (abs(key) + 1) << _SHIFT], np.int64).view(np.float64)
    has_middle = key != 0 and np.isfinite(edges[1])  # the bucket of the largest finite values ends at infinity
    middle = float(edges[0] + (edges[1] - edges[0]) / 2) if has_middle else float(edges[0])
    return middle if key >= 0 else -middle

"""Quantiles that merge exactly: counts of values in buckets that divide the float64 numbers."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .._kernels import exact_sum as exact_sum_kernel

_SHIFT = 52 - exact_sum_kernel.PRECISION
_SPAN = 1 << (12 + exact_sum_kernel.PRECISION)
"""Keys of each statistic, more than there are buckets: statistic s has the keys from s * _SPAN on."""

_MIDDLE = _SPAN // 2  # the key of the bucket of zero, among those of its statistic
_BUFFER_SIZE = 1 << 12


class BucketCounts:
    """How many values of each statistic fell into each bucket.

    A bucket holds the values whose sign, exponent and first ``PRECISION`` bits of mantissa are equal.
    Its counts are integers, which merge exactly, and its middle is within a relative 2^-11 of each of
    its values. Only buckets with values are kept, sorted by key. New keys wait in a buffer until it is
    full, because sorting many at once costs less. The kernel ``exact_sum`` writes them there, and the owner of the
    buffer knows how many wait.

    Attributes
    ----------
    keys, counts
        ``statistic * _SPAN + key + _MIDDLE`` of each bucket, sorted, and its count. Neither array is written to.
    buffer
        Room for keys that wait.
    """

    def __init__(
        self,
        keys: NDArray[np.int64] | None = None,
        counts: NDArray[np.int64] | None = None,
        buffer: NDArray[np.int64] | None = None,
    ) -> None:
        self.keys = np.empty(0, np.int64) if keys is None else keys
        self.counts = np.empty(0, np.int64) if counts is None else counts
        self.buffer = np.empty(_BUFFER_SIZE, np.int64) if buffer is None else buffer

    def absorb(self, keys: NDArray[np.int64], counts: NDArray[np.int64]) -> BucketCounts:
        """Return buckets with these counts added, none of which waits."""
        merged, places = np.unique(np.concatenate([self.keys, keys]), return_inverse=True)
        totals = np.zeros(len(merged), np.int64)
        np.add.at(totals, places, np.concatenate([self.counts, counts]))
        return BucketCounts(merged, totals)

    def flush(self, n_waiting: int) -> BucketCounts:
        """Return buckets that count what waits here."""
        return self.absorb(*np.unique(self.buffer[:n_waiting], return_counts=True))

    def widen(self, n: int) -> BucketCounts:
        """Return buckets with room for ``n`` keys, where none waits."""
        return BucketCounts(self.keys, self.counts, np.empty(n, np.int64))

    def fold(self, other: BucketCounts, renumber: NDArray[np.int64]) -> BucketCounts:
        """Return buckets with those of ``other``, whose statistic ``s`` has the number ``renumber[s]`` here."""
        statistics, keys = np.divmod(other.keys, _SPAN)
        return self.absorb(renumber[statistics] * _SPAN + keys, other.counts)

    def export(self, order: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return sorted keys and their counts, in which statistic ``order[i]`` has the number ``i``."""
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        statistics, keys = np.divmod(self.keys, _SPAN)
        keys += rank[statistics] * _SPAN
        sorting = np.argsort(keys)
        return keys[sorting], self.counts[sorting]

    def quantiles(self, statistics: list[int], probabilities: tuple[float, ...]) -> dict[float, float]:
        """Return the values of rank ``max(1, ceil(p * n))`` of these statistics together, within a relative 2^-11."""
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


def key_of(value: float) -> int:
    """Return the key of a value's bucket, among those of its statistic."""
    key = int(np.float64(abs(value)).view(np.int64)) >> _SHIFT
    return _MIDDLE + (key if value >= 0 else -key)


def adopt_buckets(
    keys: NDArray[np.int64], counts: NDArray[np.int64], row_counts: NDArray[np.int64], extremes: NDArray[np.float64]
) -> BucketCounts:
    """Check and take over the arrays of a state, given the finite and infinite rows and the extremes of statistics."""
    statistics, inner = np.divmod(keys, _SPAN)
    n = len(row_counts)
    if not (keys[1:] > keys[:-1]).all() or (len(keys) and not (statistics[0] >= 0 and statistics[-1] < n)):
        raise ValueError("state['bucket_keys'] must be sorted, distinct and of statistics that the state has")
    if not (counts > 0).all() or counts.sum(dtype=np.float64) > 2.0**62:
        raise ValueError("state['bucket_counts'] must be positive, and all together less than 2^62")
    infinite = inner == key_of(math.inf)
    sums = np.zeros((n, 2), np.int64)
    np.add.at(sums, (statistics, infinite.astype(np.intp)), counts)
    if not np.array_equal(sums, row_counts):
        raise ValueError("state['bucket_counts'] must add up to the finite and to the infinite rows in state['counts']")
    finite = np.flatnonzero(~infinite)
    first, places = np.unique(statistics[finite], return_index=True)
    last = np.append(places[1:], len(finite))[: len(first)] - 1
    for statistic, low, high in zip(first.tolist(), inner[finite[places]], inner[finite[last]], strict=True):
        if [int(low), int(high)] != [key_of(value) for value in extremes[statistic]]:
            raise ValueError("state['bucket_keys'] must begin and end where state['extremes'] do")
    return BucketCounts(keys, counts)


def _middle_of(key: int) -> float:
    """Return the middle of a bucket; the buckets of zero and of infinity are represented by these two values."""
    edges = np.array([abs(key) << _SHIFT, (abs(key) + 1) << _SHIFT], np.int64).view(np.float64)
    has_middle = key != 0 and np.isfinite(edges[1])  # the bucket of the largest finite values ends at infinity
    middle = float(edges[0] + (edges[1] - edges[0]) / 2) if has_middle else float(edges[0])
    return middle if key >= 0 else -middle

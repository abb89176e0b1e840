"""The exact sums behind the statistics over rows, and how the statistics follow from them.

A statistic belongs to one measure of one group. With values d and weights w of its finite rows, and x = w d rounded
once, it keeps the sums of x and x^2; where weights were given, also those of x w, w and w^2. It also keeps counts of
rows, and the smallest and the largest d. The kernel ``exact_sum`` fills these arrays.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from .._kernels import exact_sum as exact_sum_kernel
from ._exact import N_CHUNKS_PRODUCTS, square_root, to_float, to_fraction, to_integer
from ._row_result import RowStatistics

FINITE, ZERO, INFINITE, NONFINITE = range(4)
"""Columns of the counts: rows that are finite, those of them that are exactly 0, infinite rows, and NaN."""

N_COUNTS = 4

N_SUMS, N_WEIGHTED_SUMS = 2, 5
"""Sums of each statistic, without and with weights."""

_UNIT = 1 << (16 * N_CHUNKS_PRODUCTS)
"""A sum that ``to_integer`` returns is in units of 1 / _UNIT."""


def with_weights(sums: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return carried sums with those of the weights added. Each weight was 1 so far, so the counts give them."""
    wide = np.zeros((len(sums), N_WEIGHTED_SUMS, N_CHUNKS_PRODUCTS), np.int64)
    wide[:, :N_SUMS] = sums
    wide[:, 2] = sums[:, 0]  # x w = x
    wide[:, 3:, N_CHUNKS_PRODUCTS // 2] = counts[:, FINITE, None]  # the chunk that counts units
    exact_sum_kernel.carry(wide.reshape(-1, N_CHUNKS_PRODUCTS))
    return wide


def check_consistent(sums: NDArray[np.int64], counts: NDArray[np.int64], extremes: NDArray[np.float64]) -> None:
    """Raise where no rows between the extremes can have the sums of this statistic."""
    n, (low, high) = int(counts[FINITE]), extremes
    if n == 0:
        if sums.any() or low != math.inf or high != -math.inf:
            raise ValueError("the state has sums or extremes without rows")
        return
    if not -math.inf < low <= high < math.inf:
        raise ValueError("the state's extremes must be finite and in order")
    x, xx = to_integer(sums[0]), to_integer(sums[1])
    if x * x > n * xx * _UNIT:  # the inequality of Cauchy and Schwarz excludes it
        raise ValueError("the state's sums of values and of squares contradict each other")
    largest = max(-low, high)
    if len(sums) == N_SUMS and xx > n * _UNIT * Fraction(largest) ** 2:
        raise ValueError("the state's sum of squares lies outside what its extremes allow")
    if len(sums) == N_SUMS and not n * Fraction(low) <= Fraction(x, _UNIT) <= n * Fraction(high):
        raise ValueError("the state's sum lies outside what its extremes allow")
    if len(sums) == N_WEIGHTED_SUMS:
        w, ww = to_integer(sums[3]), to_integer(sums[4])
        if w <= 0 or ww <= 0 or w * w > n * ww * _UNIT:
            raise ValueError("the state's sums of weights contradict each other")


def summarise(
    sums: NDArray[np.int64], counts: NDArray[np.int64], extremes: NDArray[np.float64],
    quantiles: dict[float, float],
) -> RowStatistics:  # fmt: skip
    """Return what the sums, counts and extremes of one statistic say."""
    n, n_infinite = int(counts[FINITE]), int(counts[INFINITE])
    x, xx = to_fraction(sums[0]), to_fraction(sums[1])
    if len(sums) == N_WEIGHTED_SUMS:
        xw, w, ww = (to_fraction(part) for part in sums[2:])
    else:
        xw, w, ww = x, Fraction(n), Fraction(n)
    mean_finite = deviation = error = math.nan
    low, high = (float(value) for value in extremes)
    if n:
        mean = x / w
        mean_finite = to_float(mean)
        if n > 1:
            # This is the sum of w^2 (d - mean)^2, expanded. Fractions are exact, so nothing cancels.
            spread = (xx - 2 * mean * xw + mean * mean * ww) * Fraction(n, n - 1)
            error = square_root(spread / (w * w))
            deviation = square_root(spread / (w * w) * n)
    else:
        low = high = math.inf if n_infinite else math.nan
    if n_infinite:
        high = math.inf
    return RowStatistics(
        n_rows=n + n_infinite,
        n_zero=int(counts[ZERO]),
        n_infinite=n_infinite,
        n_nonfinite=int(counts[NONFINITE]),
        total_weight=to_float(w),
        mean=math.inf if n_infinite else mean_finite,
        mean_finite=mean_finite,
        standard_deviation=deviation,
        standard_error=math.nan if n_infinite else error,
        min=low,
        max=high,
        # A quantile is the middle of a bucket, which may lie beyond all of its values.
        quantiles={probability: min(max(value, low), high) for probability, value in quantiles.items()},
    )

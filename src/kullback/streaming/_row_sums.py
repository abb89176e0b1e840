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
from ._exact import MAX_COUNT, N_CHUNKS_PRODUCTS, square_root, to_float, to_fraction, to_integer
from ._row_result import RowStatistics

FINITE, ZERO, INFINITE, NONFINITE = range(4)
"""Columns of the counts: rows that are finite, those of them that are exactly 0, infinite rows, and NaN."""

N_COUNTS = 4

N_SUMS, N_WEIGHTED_SUMS = 2, 5
"""Sums of each statistic, without and with weights."""

_VALUE_BITS = 1074
"""All float64 numbers are multiples of 2^-1074."""

_UNUSED_BITS = [16 * N_CHUNKS_PRODUCTS - bits * _VALUE_BITS for bits in (1, 2, 2, 1, 2)]
"""The lowest bits of each sum, which are 0 because it is a sum of values, or of products of two."""


def with_weights(sums: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return carried sums with those of the weights added. Each weight was 1 so far, so the counts give them."""
    wide = np.zeros((len(sums), N_WEIGHTED_SUMS, N_CHUNKS_PRODUCTS), np.int64)
    wide[:, :N_SUMS] = sums
    wide[:, 2] = sums[:, 0]  # x w = x
    wide[:, 3:, N_CHUNKS_PRODUCTS // 2] = counts[:, FINITE, None]  # the chunk that counts units
    exact_sum_kernel.carry(wide.reshape(-1, N_CHUNKS_PRODUCTS))
    return wide


def check_counts_of_rows(counts: NDArray[np.int64], n_measures: int) -> None:
    """Raise where no rows can have these counts of all statistics."""
    if not ((counts >= 0) & (counts < MAX_COUNT)).all() or not (counts[:, ZERO] <= counts[:, FINITE]).all():
        raise ValueError("state['counts'] must not be negative or 2^60, nor count more zeros than finite rows")
    row_counts = counts[:, [FINITE, INFINITE, NONFINITE]].sum(1).reshape(-1, n_measures)
    if (row_counts != row_counts[:, :1]).any():
        raise ValueError("state['counts'] must be of the same rows for all measures")


def check_consistent(sums: NDArray[np.int64], counts: NDArray[np.int64], extremes: NDArray[np.float64]) -> None:
    """Raise where no rows can have the sums, the counts and the extremes of this statistic."""
    n, n_zero = int(counts[FINITE]), int(counts[ZERO])
    if n == 0:
        if extremes.tolist() != [math.inf, -math.inf]:
            raise ValueError("state['extremes'] must be inf and -inf where there are no finite rows")
        if sums.any():
            raise ValueError("state['sums'] must be 0 where there are no finite rows")
        return
    if not np.isfinite(extremes).all() or np.signbit(extremes[extremes == 0]).any():
        raise ValueError("state['extremes'] must be finite, and no negative zeros")
    low, high = (_to_units(value) for value in extremes.tolist())
    ends = {low, high} - {0}
    fits = low <= 0 <= high if n_zero else low * high != 0
    if not low <= high or not fits or n - n_zero < len(ends) or (n > n_zero) != (len(ends) > 0):
        raise ValueError("state['extremes'] must be in order, and of as many rows and zeros as state['counts'] has")
    integers = [to_integer(part) for part in sums]
    if any(value % (1 << _UNUSED_BITS[k]) for k, value in enumerate(integers)):
        raise ValueError("state['sums'] must be sums of float64 numbers, and of products of two")
    integers = [value >> _UNUSED_BITS[k] for k, value in enumerate(integers)]
    if len(sums) == N_SUMS:
        x, xx = integers[0] - sum(ends), integers[1] - sum(end * end for end in ends)  # of all rows but these
        n -= n_zero + len(ends)
        # The last inequality is the sum of (d - low) (d - high) <= 0, and the one before that of Cauchy and Schwarz.
        fits = xx >= 0 and n * low <= x <= n * high and x * x <= n * xx and xx <= (low + high) * x - n * low * high
    else:
        fits = _is_weighted_sum(integers, n, n - n_zero, low, high)
    if not fits:
        raise ValueError("state['sums'] must be those of rows as state['counts'] and state['extremes'] have them")


def _is_weighted_sum(sums: list[int], n: int, n_nonzero: int, low: int, high: int) -> bool:
    """Return whether the five sums of n weighted rows between the extremes do not contradict each other.

    Each x is w d, rounded to within w |d| 2^-53 or 2^-1075, whichever is more.
    """
    x, xx, xw, w, ww = sums
    largest = max(-low, high)
    if w <= 0 or ww <= 0 or xx < 0 or w * w > n * ww or ww > w * w or x * x > n_nonzero * xx or xw * xw > xx * ww:
        return False
    if n == 1:
        return (xx, xw, ww) == (x * x, x * w, w * w)
    error = (largest * w >> 53) + 1 + (n << _VALUE_BITS - 1)
    fits = low * w - error <= x << _VALUE_BITS <= high * w + error
    error = (largest * ww >> 53) + 1 + (w << _VALUE_BITS - 1)
    fits = fits and low * ww - error <= xw << _VALUE_BITS <= high * ww + error
    square = largest * largest * ww
    error = (square >> 51) + 1 + (largest * w << _VALUE_BITS + 1) + (n << 2 * _VALUE_BITS - 2)
    return fits and xx << 2 * _VALUE_BITS <= square + error


def _to_units(value: float) -> int:
    """Return a float64 in units of 2^-1074, the smallest one."""
    numerator, denominator = value.as_integer_ratio()
    return numerator * ((1 << _VALUE_BITS) // denominator)


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

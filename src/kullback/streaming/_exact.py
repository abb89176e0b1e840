"""The exact sums of the kernel ``exact_sum``, read as Python integers and fractions without rounding."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

N_CHUNKS_VALUES = 70
"""Chunks of a sum of any float64, which hold 2^-1120 to 2^1120."""

N_CHUNKS_PRODUCTS = 136
"""Chunks of a sum of products of any two float64, which hold 2^-2176 to 2^2176."""

MAX_PENDING = 1 << 29
"""Additions that are allowed between two carries. Each adds less than 2^32 to a chunk, which has 63 bits."""

MAX_COUNT = 1 << 60
"""Terms for which a sum has room."""


def to_integer(chunks: NDArray[np.int64]) -> int:
    """Return one carried sum as an integer, which counts units of ``2**-(16 * len(chunks))``."""
    low = int.from_bytes(chunks[:-1].astype("<u4").tobytes(), "little")
    return low + (int(chunks[-1]) << (32 * (len(chunks) - 1)))


def to_fraction(chunks: NDArray[np.int64]) -> Fraction:
    """Return one carried sum exactly."""
    return Fraction(to_integer(chunks), 1 << (16 * len(chunks)))


def to_float(value: Fraction) -> float:
    """Return the nearest float64, which is infinite where the value is too large."""
    try:
        return value.numerator / value.denominator
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def square_root(value: Fraction) -> float:
    """Return the square root of a non-negative fraction to within one unit in the last place.

    The fraction is first scaled by a power of four, so that neither it nor its root leaves the range
    of float64.
    """
    if value <= 0:
        return 0.0
    half = (value.numerator.bit_length() - value.denominator.bit_length()) // 2
    scaled = value / Fraction(4) ** half
    return to_float(Fraction(math.sqrt(to_float(scaled))) * Fraction(2) ** half)


def is_canonical(sums: NDArray[np.int64]) -> bool:
    """Return whether every sum (the last axis) is in the kernel's canonical form.

    The last chunk lies above any sum of ``MAX_COUNT`` terms, so it holds the sign alone.
    """
    digits, last = sums[..., :-1], sums[..., -1]
    return bool(((digits >= 0) & (digits < 1 << 32)).all() and ((last == 0) | (last == -1)).all())

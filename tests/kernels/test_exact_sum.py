"""The exact sums of ext/exact_sum.pyx against Python's integers and math.fsum."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kullback import _kernels
from kullback.streaming import _exact

NO_GROUPS = np.empty(0, np.int64)
WIDTHS = (_exact.N_CHUNKS_VALUES, _exact.N_CHUNKS_PRODUCTS)
LARGEST, SMALLEST = np.finfo(float).max, np.finfo(float).smallest_normal
EXTREMES = [0.0, -0.0, 5e-324, -5e-324, SMALLEST, LARGEST, -LARGEST, 1.0, -1.0, 1 + 2**-52,
            SMALLEST - 5e-324, 1e-300, 3e300]  # fmt: skip


def fractions_sum(values):
    """Add without rounding."""
    return sum((Fraction(v) for v in values), Fraction(0))


def hard_values(rng, n):
    """Mantissas and exponents over the whole range of float64, both signs."""
    return np.ldexp(rng.uniform(-1, 1, n), rng.integers(-1074, 1024, n))


@pytest.mark.parametrize("n_chunks", WIDTHS)
@pytest.mark.parametrize("n", [0, 1, 2, 7, 8, 9, 257])
def test_add_values_is_exact_over_the_whole_range(level, n_chunks, n):
    """The read-out equals the sum of fractions, and rounded it equals math.fsum."""
    kernel = _kernels.load("exact_sum", level)
    rng = np.random.default_rng(n)
    normal = rng.normal(size=n)
    for values in (hard_values(rng, n), normal * 1e-290, normal, np.resize(EXTREMES, n)):
        sums = np.zeros((1, n_chunks), np.int64)
        kernel.add_values(values, NO_GROUPS, sums)
        kernel.carry(sums)
        assert _exact.is_canonical(sums)
        assert _exact.to_fraction(sums[0]) == fractions_sum(values)
        if np.abs(values).max(initial=0) < 1e290:  # fsum itself overflows beyond
            assert _exact.to_float(_exact.to_fraction(sums[0])) == math.fsum(values)


@pytest.mark.parametrize("n", [1, 9, 257])
def test_add_products_is_exact_over_the_whole_range(level, n):
    """Products of any two float64 enter without rounding, underflow or overflow."""
    kernel = _kernels.load("exact_sum", level)
    rng = np.random.default_rng(n)
    grid = np.array([(a, b) for a in EXTREMES for b in EXTREMES])
    for left, right in ((hard_values(rng, n), hard_values(rng, n)), (grid[:, 0].copy(), grid[:, 1].copy())):
        sums = np.zeros((1, _exact.N_CHUNKS_PRODUCTS), np.int64)
        kernel.add_products(left, right, NO_GROUPS, sums)
        kernel.carry(sums)
        assert _exact.to_fraction(sums[0]) == sum(
            (Fraction(a) * Fraction(b) for a, b in zip(left, right, strict=True)), Fraction(0)
        )


def test_equal_sums_have_equal_bits(level):
    """Carried chunks depend on the sum alone: not on order, on signs met on the way, or on carries."""
    kernel = _kernels.load("exact_sum", level)
    rng = np.random.default_rng(0)
    values = hard_values(rng, 300)
    expected = None
    for _ in range(20):
        shuffled = rng.permutation(np.concatenate([values, values, -values]))
        sums = np.zeros((2, _exact.N_CHUNKS_VALUES), np.int64)
        cut = rng.integers(len(shuffled))
        kernel.add_values(shuffled[:cut].copy(), NO_GROUPS, sums[:1])
        kernel.carry(sums)
        kernel.add_values(shuffled[cut:].copy(), NO_GROUPS, sums[1:])
        total = sums.sum(0, keepdims=True)
        kernel.carry(total)
        expected = total.tobytes() if expected is None else expected
        assert total.tobytes() == expected


def test_groups_and_negative_totals(level):
    """Each value reaches the sum of its group only; negative totals are canonical too."""
    kernel = _kernels.load("exact_sum", level)
    rng = np.random.default_rng(1)
    values, groups = rng.normal(-1, 1, 100), rng.integers(0, 3, 100)
    sums = np.zeros((4, _exact.N_CHUNKS_VALUES), np.int64)
    kernel.add_values(values, groups, sums)
    kernel.carry(sums)
    assert _exact.is_canonical(sums)
    assert not sums[3].any()
    for group in range(3):
        assert _exact.to_fraction(sums[group]) == fractions_sum(values[groups == group])


def test_chunks_take_the_promised_number_of_additions(level):
    """A chunk that has taken MAX_PENDING of the largest digits still carries without overflow."""
    kernel = _kernels.load("exact_sum", level)
    largest = (1 << 32) - 1
    for sign in (1, -1):
        sums = np.full((1, _exact.N_CHUNKS_VALUES), sign * largest * _exact.MAX_PENDING, np.int64)
        sums[0, -3:] = 0
        exact = sum(int(c) << (32 * k) for k, c in enumerate(sums[0]))
        kernel.carry(sums)
        assert _exact.to_integer(sums[0]) == exact


def test_accumulate_rows_counts_and_leaves_out(level):
    """NaN, infinite, zero and zero-weight rows each land where the docstring says."""
    kernel = _kernels.load("exact_sum", level)
    values = np.array([0.5, np.nan, np.inf, 0.0, 2.0, -np.inf, 7.0])
    weights = np.array([1.0, 1.0, 2.0, 3.0, 0.5, 1.0, 0.0])
    sums = np.zeros((1, 5, _exact.N_CHUNKS_PRODUCTS), np.int64)
    counts, extremes = np.zeros((1, 4), np.int64), np.array([[np.inf, -np.inf]])
    kernel.accumulate_rows(values, 1, weights, None, sums, counts, extremes, None, np.zeros(2, np.int64), 1)
    kernel.carry(sums[0])
    assert counts.tolist() == [[3, 1, 1, 2]]
    assert extremes.tolist() == [[0.0, 2.0]]
    assert [float(_exact.to_fraction(s)) for s in sums[0]] == [1.5, 1.25, 1.0, 4.5, 10.25]


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=50))
def test_order_keys_keep_order(values):
    """Keys never disagree with the order of values, and equal keys mean equal leading bits."""
    ordered = np.sort(np.array(values) + 0.0)
    keys = np.empty(len(ordered), np.int64)
    sums, counts = np.zeros((1, 2, _exact.N_CHUNKS_PRODUCTS), np.int64), np.zeros((1, 4), np.int64)
    extremes, sizes = np.zeros((1, 2)), np.zeros(2, np.int64)
    _kernels.exact_sum.accumulate_rows(ordered, 1, None, None, sums, counts, extremes, keys, sizes, 1)
    ordered, keys = ordered[ordered > -np.inf], keys[: sizes[1]]  # -inf has no rank
    if not len(keys):
        return
    assert (np.diff(keys) >= 0).all()
    assert len({*ordered[keys == keys.max()]}) == 1 or np.isfinite(ordered[-1])
    ordered, keys = ordered[np.isfinite(ordered)], keys[np.isfinite(ordered)]
    same = np.diff(keys) == 0
    with np.errstate(over="ignore"):  # NumPy 1 warns of the gaps between the largest numbers
        gaps = np.diff(ordered)[same]
    assert (gaps <= np.maximum(2.0**-10 * np.abs(ordered[1:][same]), 2.0**-1032)).all()


@given(st.integers(0, 10**400), st.integers(1, 10**400))
def test_square_root_to_one_unit(numerator, denominator):
    """The square of the result is within two relative 2^-52 of the fraction, whatever its size."""
    root = _exact.square_root(Fraction(numerator, denominator))
    if numerator == 0:
        assert root == 0
    elif 1e-300 < root < 1e300:
        assert abs(Fraction(root) ** 2 * denominator / numerator - 1) <= Fraction(2, 2**51)

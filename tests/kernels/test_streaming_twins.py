"""The kernels behind streaming against their NumPy twins: every level, dtype and number of parts."""

from fractions import Fraction

import numpy as np
import pytest

from kullback import _kernels, reference
from kullback.streaming import _exact
from kullback.streaming.histogram import MEASURES
from kullback.streaming.support import N_WINDOWS

SIZES = [0, 1, 2, 7, 8, 9, 257]
NO_GROUPS = np.empty(0, np.int64)
N_TERMS, N_LOGIT_TERMS = 9, 7


def fractions(*shape):
    """Make sums of the twins."""
    return np.full(shape, Fraction(0), object)


def chunks(*shape, products=False):
    """Make sums of the kernels."""
    return np.zeros((*shape, _exact.N_CHUNKS_PRODUCTS if products else _exact.N_CHUNKS_VALUES), np.int64)


def hard_values(rng, n):
    """Both signs, exponents over half of float64's range, zeros of both signs."""
    values = np.ldexp(rng.uniform(-1, 1, n), rng.integers(-500, 500, n))
    values[rng.random(n) < 0.1] = -0.0
    return values


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("grouped", [False, True])
def test_sums(level, n, grouped):
    """Sums and sums of products have the chunks of the fractions, bit for bit."""
    rng = np.random.default_rng(n)
    kernel = _kernels.load("exact_sum", level)
    left, right = hard_values(rng, n), hard_values(rng, n)
    groups = rng.integers(0, 3, n) if grouped else NO_GROUPS
    for products in (False, True):
        ours, twin = chunks(3, products=products), fractions(3)
        if products:
            kernel.add_products(left, right, groups, ours)
            reference.add_products(left, right, groups, twin)
        else:
            kernel.add_values(left, groups, ours)
            reference.add_values(left, groups, twin)
        kernel.carry(ours)
        assert (ours == reference.carry(twin, ours.shape[1])).all()


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_rows(level, n, weighted, grouped):
    """Sums, counts and extremes of rows, those left out included, are equal."""
    rng = np.random.default_rng(n)
    kernel = _kernels.load("exact_sum", level)
    values = hard_values(rng, n)
    for bad in (np.nan, np.inf, -np.inf, 1e308):
        values[rng.random(n) < 0.1] = bad
    values = np.concatenate([values, np.roll(values, 1)])
    weights = rng.integers(0, 30, n) / 4 if weighted else None
    groups = rng.integers(0, 3, n) if grouped else None
    keys = np.zeros((2, 2 * n + 1), np.int64)
    sizes = np.ones((2, 2), np.int64)
    n_sums = 5 if weighted else 2
    ours, twin = chunks(6, n_sums, products=True), fractions(6, n_sums)
    counts = np.zeros((2, 6, 4), np.int64)
    extremes = np.tile([np.inf, -np.inf], (2, 6, 1))
    kernel.accumulate_rows(values, 2, weights, groups, ours, counts[0], extremes[0], keys[0], sizes[0], 3)
    reference.accumulate_rows(values, 2, weights, groups, twin, counts[1], extremes[1], keys[1], sizes[1], 3)
    flat = ours.reshape(-1, ours.shape[-1])
    kernel.carry(flat)
    assert (flat == reference.carry(twin.reshape(-1), flat.shape[1])).all()
    assert (counts[0] == counts[1]).all()
    assert (extremes[0] == extremes[1]).all()
    assert (keys[0] == keys[1]).all()
    assert sizes[0].tolist() == sizes[1].tolist() == [3, 1 + counts[0, :, [0, 2]].sum()]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("clustered", [False, True])
def test_pairs(level, n, clustered):
    """Sums and counts of pairs and of their clusters are equal, whichever side is infinite or NaN."""
    rng = np.random.default_rng(n)
    kernel = _kernels.load("exact_sum", level)
    a, b = hard_values(rng, n), hard_values(rng, n)
    b[rng.random(n) < 0.2] = 0
    for values in (a, b):
        for bad in (np.nan, np.inf, -np.inf, 1.7e308, -1.7e308):
            values[rng.random(n) < 0.1] = bad
    clusters = rng.integers(0, 3, n) if clustered else None
    ours, twin, cluster_sums = chunks(3, 2, products=True), fractions(3, 2), (chunks(3), fractions(3))
    counts, cluster_rows = np.zeros((2, 6), np.int64), np.zeros((2, 3), np.int64)
    sizes = np.zeros((2, 1), np.int64)
    kernel.accumulate_pairs(a, b, clusters, ours, counts[0], cluster_sums[0], cluster_rows[0], sizes[0], 3)
    reference.accumulate_pairs(a, b, clusters, twin, counts[1], cluster_sums[1], cluster_rows[1], sizes[1], 3)
    for found, expected in ((ours.reshape(6, -1), twin.reshape(-1)), cluster_sums):
        kernel.carry(found)
        assert (found == reference.carry(expected, found.shape[1])).all()
    assert counts[0].tolist() == counts[1].tolist()
    assert cluster_rows[0].tolist() == cluster_rows[1].tolist()
    assert sizes.tolist() == [[3], [3]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", SIZES)
def test_bins(level, n_threads, dtype, n):
    """Counts are equal, with values on edges, outside of them and missing."""
    rng = np.random.default_rng(n)
    edges = np.sort(rng.integers(-9, 9, (5, 11)), axis=1).astype(dtype)  # some of them equal
    values = rng.integers(-12, 12, (n, 5)).astype(dtype)
    for other in (np.nan, np.inf, -np.inf):
        values[rng.random(values.shape) < 0.05] = other
    padded = np.full((5, 15), np.inf, dtype)
    padded[:, :11] = edges
    ours, twin = np.zeros((n_threads, 5, 13), np.int64), np.zeros((5, 13), np.int64)
    _kernels.load("histogram", level).count_bins(values, padded, 11, ours, n_threads)
    reference.count_bins(values, padded, 11, twin)
    assert (ours.sum(0) == twin).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.5])
@pytest.mark.parametrize("n_bins", [1, 2, 7, 8, 9, 63, 64, 65, 257])
def test_comparisons(level, n_threads, n_bins, smoothing):
    """Every measure of rows with zeros on either side, on both, and without any count."""
    rng = np.random.default_rng(n_bins)
    p, q = rng.integers(0, 9, (3, n_bins)), rng.integers(0, 9, (9, n_bins))
    p[0], q[0], q[4], q[8] = 0, 0, p[1], 10**9
    codes = np.arange(len(MEASURES), dtype=np.intc)
    ours, twin, totals = np.empty((6, 9)), np.empty((6, 9)), np.empty((2, 9), np.int64)
    _kernels.load("histogram", level).compare_counts(p, q, codes, smoothing, ours, totals[0], n_threads)
    reference.compare_counts(p, q, codes, smoothing, twin, totals[1])
    # terms of about 1 with errors of a few eps, which cancel to the sum
    np.testing.assert_allclose(ours, twin, rtol=1e-13, atol=1e-15)
    assert (totals[0] == totals[1]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", SIZES)
def test_support_of_probabilities(level, n_threads, dtype, n):
    """Every term's sum, and how often it is infinite."""
    rng = np.random.default_rng(n)
    p, q = rng.random((2, n)).astype(dtype)
    q[n // 2 :] = p[n // 2 :] * dtype(1 + 1e-3)  # where p log(p / q) - p + q cancels
    p[rng.random(n) < 0.1] = 0
    q[rng.random(n) < 0.1] = 0
    codes = np.arange(N_TERMS, dtype=np.intc)
    ours, infinite = chunks(n_threads, N_TERMS), np.zeros((n_threads, N_TERMS), np.int64)
    _kernels.load("support", level).add_probabilities(p, q, codes, ours, infinite, n_threads)
    twin, twin_infinite = fractions(N_TERMS), np.zeros(N_TERMS, np.int64)
    reference.add_probabilities(p, q, codes, twin, twin_infinite)
    total = ours.sum(0)
    _kernels.load("exact_sum", level).carry(total)
    found = [float(_exact.to_fraction(row)) for row in total]
    # the twin's terms cancel where p is near q: each is off by some eps of p, below 1
    np.testing.assert_allclose(found, twin.astype(float), rtol=1e-13, atol=4e-16 * (n + 1))
    assert found[:2] == twin[:2].astype(float).tolist()  # plain sums are exact
    assert (infinite.sum(0) == twin_infinite).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", SIZES)
def test_support_of_logits(level, n_threads, dtype, n):
    """The survey, every window's sums, and how often a term is infinite."""
    rng = np.random.default_rng(n)
    kernel = _kernels.load("support", level)
    a, b = rng.normal(0, 30, (2, n)).astype(dtype)
    a[rng.random(n) < 0.1] = -np.inf
    b[rng.random(n) < 0.1] = -np.inf
    a[: n // 9], b[: n // 9] = -(2.0**41), 700
    surveys = np.zeros((2, 2, 3), np.int64)
    for side, logits in enumerate((a, b)):
        kernel.survey_logits(logits, surveys[0, side])
        reference.survey_logits(logits, surveys[1, side])
    assert (surveys[0] == surveys[1]).all()
    assert (surveys[0, :, 2] == 0).all()
    tops = (surveys[0, :, 0] >> 5).tolist()
    wanted = np.ones(N_LOGIT_TERMS, np.intc)
    ours = chunks(n_threads, N_WINDOWS, N_LOGIT_TERMS)
    infinite = np.zeros((n_threads, N_LOGIT_TERMS), np.int64)
    kernel.add_logits(a, b, wanted, *tops, ours, infinite, n_threads)
    twin, twin_infinite = fractions(N_WINDOWS, N_LOGIT_TERMS), np.zeros(N_LOGIT_TERMS, np.int64)
    reference.add_logits(a, b, wanted, *tops, twin, twin_infinite)
    total = ours.sum(0)
    _kernels.load("exact_sum", level).carry(total.reshape(-1, total.shape[-1]))
    found = [[float(_exact.to_fraction(row)) for row in window] for window in total]
    # the twin reduces by a rounded log 2: e^x is off by eps of x, at most 700; sums cancel from the largest term
    largest = np.abs(twin.astype(float)).max(initial=0)
    np.testing.assert_allclose(found, twin.astype(float), rtol=3e-13, atol=3e-13 * largest)
    assert (infinite.sum(0) == twin_infinite).all()


def test_survey_refuses(level):
    """NaN, infinity and logits above 2^40 are counted alike."""
    for dtype in (np.float32, np.float64):
        logits = np.array([np.nan, np.inf, 2.0**41, 2.0**40, 1, -np.inf], dtype)
        surveys = np.zeros((2, 3), np.int64)
        _kernels.load("support", level).survey_logits(logits, surveys[0])
        reference.survey_logits(logits, surveys[1])
        assert surveys[:, 2].tolist() == [3, 3]

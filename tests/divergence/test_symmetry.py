"""Symmetric measures: exchanging p with q changes no bit, and matrices are what SciPy's clustering takes."""

import numpy as np
import pytest
from scipy.spatial.distance import squareform

import kullback
from kullback.streaming import HistogramDivergence, SupportDivergence

MEASURES = ("js", "js_distance", "jeffreys", "hellinger", "total_variation")
FUNCTIONS = {
    "js": kullback.jensen_shannon_divergence,
    "js_distance": kullback.jensen_shannon_distance,
    "jeffreys": kullback.jeffreys_divergence,
    "hellinger": kullback.hellinger_distance,
    "total_variation": kullback.total_variation_distance,
    "bhattacharyya": kullback.bhattacharyya_distance,
}


def pairs(kind, size, seed=0):
    """Return rows of p and q, not normalised."""
    rng = np.random.default_rng(seed)
    shape = (20 if size < 1000 else 2, size)
    p, q = rng.random(shape) ** 4 + 1e-9, rng.random(shape) ** 4 + 1e-9
    if kind == "near":
        q = p * (1 + 1e-6 * rng.standard_normal(shape))
    elif kind == "binades":  # ratios of 3/2 times powers of two, where rounding an exponent meets ties
        p, q = (2.0 ** rng.integers(-6, 6, shape) * rng.choice([1, 1.25, 1.5, 1.75], shape) for _ in range(2))
    elif kind == "zeros":
        p[rng.random(shape) < 0.3], q[rng.random(shape) < 0.3] = 0, 0
        p[:, 0], q[:, 0] = 0.1, 0.2
    elif kind == "far":
        q = q**20 + 1e-30
    elif kind == "scales":
        p, q = p * 1e-12, q * 1e6
    elif kind == "subnormal":
        p[:, 1:3] *= 5e-309
        q[:, 2:4] *= 3e-310
    return p, q


@pytest.mark.parametrize("size", [3, 20, 65, 5000])
@pytest.mark.parametrize("kind", ["any", "near", "binades", "zeros", "far", "scales", "subnormal"])
def test_exchanging_the_sides_changes_no_bit(at_level, kind, size):
    """Of each function, of any mixture of measures, for each type of element and each layout."""
    rows = pairs(kind, size)
    normalised = [x if kind in ("scales", "binades") else x / x.sum(axis=1, keepdims=True) for x in rows]
    for types in ((np.float32, np.float32), (np.float64, np.float64), (np.float32, np.float64)):
        p, q = (x.astype(dtype) for x, dtype in zip(normalised, types, strict=True))
        for a, b in ((p, q), (np.asfortranarray(p), np.asfortranarray(q)), (p[0], q[0])):
            for name, function in FUNCTIONS.items():
                expected = function(a, b, normalize=True)
                np.testing.assert_array_equal(function(b, a, normalize=True), expected, err_msg=name)
            for measures in (("kl", "entropy_p", *MEASURES), ("kl", "hellinger", "total_variation"), MEASURES):
                one = kullback.compare(a, b, measures, normalize=True)
                other = kullback.compare(b, a, measures, normalize=True)
                for name in set(measures) & set(MEASURES):
                    np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [2, 20, 130, 3000, 140_000])
def test_exchanging_logits_changes_no_bit(at_level, dtype, length):
    """Whether they are near, far, masked or sure of a token, and wherever they differ first."""
    rng = np.random.default_rng(length)
    x = (3 * rng.standard_normal((9, length))).astype(dtype)
    y = (x + rng.standard_normal(x.shape) * 10.0 ** rng.integers(-6, 2, (9, 1))).astype(dtype)
    x[4:6, -1] = 60
    y[5:7, 0] = 900
    x[7, ::2] = y[7, 1::3] = -np.inf
    x[7, 0] = y[7, 0] = 0
    y[8], y[8, -1] = x[8], 80
    for a, b in ((x, y), (np.asfortranarray(x), np.asfortranarray(y)), (x[0], y[0])):
        for name, function in FUNCTIONS.items():
            for temperature in (1.0, 0.7):
                options = {"from_logits": True, "temperature": temperature}
                np.testing.assert_array_equal(function(a, b, **options), function(b, a, **options), err_msg=name)
        one = kullback.compare(a, b, MEASURES, from_logits=True)
        other = kullback.compare(b, a, MEASURES, from_logits=True)
        for name in MEASURES:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_an_exchanged_row_is_named_by_its_own_side(at_level):
    """The first argument is p, whichever side the sweep leans on."""
    good, bad = np.array([[0.0, 1.0], [2.0, 1.0]]), np.array([[1.0, 0.0], [3.0, np.inf]])
    with pytest.raises(ValueError, match=r"^p must hold logits.* in row 1"):
        kullback.jensen_shannon_divergence(bad, good, from_logits=True)
    with pytest.raises(ValueError, match=r"^q must hold logits.* in row 1"):
        kullback.jensen_shannon_divergence(good, bad, from_logits=True)


def test_exchanging_counts_changes_no_bit(at_level):
    """Counts have sums that are far apart, and a row without any count gives NaN on either side."""
    p, q = (np.random.default_rng(seed).integers(0, 9, (50, 7)) for seed in (0, 1))
    p[:, 0], q[:, 1] = 1, 1000
    q[3] = 0
    for name, function in FUNCTIONS.items():
        one = function(p, q, normalize=True)
        np.testing.assert_array_equal(function(q, p, normalize=True), one, err_msg=name)
        np.testing.assert_array_equal(np.isnan(one), np.arange(50) == 3)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("base", [None, 2, 1 + 1e-15])
def test_matrices_of_symmetric_measures(measure, base, draw):
    """They are symmetric to the bit, 0 on the diagonal, and the same whichever matrix comes first."""
    P, Q = draw((600, 12), np.float64, 1), draw((530, 12), np.float64, 2)
    Q[0] = P[0]
    options = {"measure": measure, "base": base}
    matrix = kullback.pairwise_divergence(P, **options)
    np.testing.assert_array_equal(matrix, matrix.T)
    assert (np.diagonal(matrix) == 0).all()
    assert squareform(matrix).shape == (600 * 599 // 2,)
    np.testing.assert_array_equal(kullback.pairwise_divergence(P, P.copy(), **options), matrix)
    both = kullback.pairwise_divergence(P, Q, **options)
    np.testing.assert_array_equal(kullback.pairwise_divergence(Q, P, **options).T, both)
    same_shape = kullback.pairwise_divergence(P[:530], Q, **options)
    np.testing.assert_array_equal(kullback.pairwise_divergence(Q, P[:530], **options).T, same_shape)
    np.testing.assert_array_equal(kullback.pairwise_divergence(P, Q, out=np.empty(both.shape), **options), both)


@pytest.mark.parametrize("measure", ["kl", "chi2"])
def test_a_row_is_no_distance_from_itself(measure, draw):
    """Other measures have a diagonal of 0, too, whatever the unit is."""
    for base in (None, 1 + 1e-15):
        matrix = kullback.pairwise_divergence(draw((40, 12), np.float64, 1), measure=measure, base=base)
        assert (np.diagonal(matrix) == 0).all()


def test_accumulators_are_symmetric(level, monkeypatch):
    """So are those of histograms and of one huge support."""
    from kullback import _kernels
    from kullback.streaming import histogram, support

    monkeypatch.setattr(histogram, "histogram_kernel", _kernels.load("histogram", level))
    monkeypatch.setattr(support, "support_kernel", _kernels.load("support", level))
    rng = np.random.default_rng(0)
    for _ in range(20):
        p, q = rng.integers(0, 100, (2, 3, 41))
        counts = HistogramDivergence(categories=np.arange(40), n_features=3, measures=("psi", "js", "total_variation"))
        one, other = counts.copy().add_counts(p, q).result(), counts.copy().add_counts(q, p).result()
        for name in counts.measures:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
        left, right = ((x + 1.0) / (x + 1.0).sum() for x in (p[0], q[0]))
        values = SupportDivergence(("js", "total_variation"))
        one, other = values.copy().update(left, right).result(), values.copy().update(right, left).result()
        assert one.measures == other.measures

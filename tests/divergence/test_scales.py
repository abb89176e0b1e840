"""Rows of any scale, and subnormal numbers: normalised values do not depend on what the rows sum to."""

import mpmath
import numpy as np
import pytest

import kullback

PAIRS = {
    "js": kullback.jensen_shannon_divergence,
    "jeffreys": kullback.jeffreys_divergence,
    "hellinger": kullback.hellinger_distance,
    "bhattacharyya": kullback.bhattacharyya_distance,
    "total_variation": kullback.total_variation_distance,
    "kl": kullback.kl_divergence,
    "cross_entropy": kullback.cross_entropy,
    "chi2": kullback.chi2_divergence,
    "entropy": lambda p, q, **options: kullback.entropy(p, **options),
    "renyi": lambda p, q, **options: kullback.renyi_divergence(p, q, alpha=2.0, **options),
    "renyi_entropy": lambda p, q, **options: kullback.renyi_entropy(p, alpha=2.0, **options),
}
SCALES = {np.float32: (-30, -10, 10, 30, 36), np.float64: (-300, -160, -20, 20, 155, 300)}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [2, 30, 300])
def test_scales_do_not_matter(at_level, name, dtype, size):
    """Of both sides, of one, and of both in opposite ways, with and without a zero."""
    rng = np.random.default_rng(size)
    p, q = rng.random((2, 3, size)) + 0.05
    p[0, -1] = 0
    expected = PAIRS[name](p, q, normalize=True)
    for scale in SCALES[dtype]:
        for other in (0, -scale, scale):
            a, b = (p * 10.0**scale).astype(dtype), (q * 10.0**other).astype(dtype)
            actual = PAIRS[name](a, b, normalize=True)
            np.testing.assert_allclose(actual, expected, rtol=1e-12 if dtype is np.float64 else 2e-6)


def test_sums_that_are_far_apart_against_mpmath(at_level):
    """KL of counts against shares, with an element that is tiny on one side."""
    rng = np.random.default_rng(5)
    for _ in range(100):
        p, q = rng.random((2, 5)) + 1e-6
        q[0] *= 10.0 ** -rng.integers(0, 300)
        p *= 10.0 ** rng.integers(-250, 250)
        P, Q = ([mpmath.mpf(float(x)) / mpmath.fsum(map(float, row)) for x in row] for row in (p, q))
        expected = mpmath.fsum(x * mpmath.log(x / y) for x, y in zip(P, Q, strict=True))
        assert kullback.kl_divergence(p, q, normalize=True) == pytest.approx(float(expected), rel=1e-12)


def test_subnormal_numbers_are_numbers(at_level):
    """Half of the least number is 0, and a quotient by a subnormal one may overflow by itself."""
    assert 0 <= kullback.jensen_shannon_divergence([0.0, 1], [5e-324, 1]) < 1e-320
    assert kullback.chi2_divergence([0.1, 0.9], [1e-310, 1.0]) == pytest.approx(1e308, rel=1e-10)
    near = np.array([0.3, 0.7, 1e-310]), np.array([0.3 + 1e-7, 0.7 - 1e-7, 1e-310])
    expected = mpmath.fsum(
        mpmath.mpf(x) * mpmath.log(mpmath.mpf(x) / mpmath.mpf(y)) for x, y in zip(*near, strict=True)
    )
    assert kullback.kl_divergence(*near) == pytest.approx(float(expected), rel=1e-7)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("size", [3, 10, 16, 17, 40, 64, 65, 300])
def test_usual_numbers_whose_sum_is_not(at_level, name, size):
    """Elements of float32 that are far below the largest number, whose sum is near it or above, beside other rows."""
    rng = np.random.default_rng(size)
    p, q = rng.random((2, 20, size)) + 0.5
    expected = PAIRS[name](p, q, normalize=True)
    for largest in (6e36, 2e37, 5e37, 8e37, 2e38):
        for side in (0, 1, 2):
            a, b = p.astype(np.float32), q.astype(np.float32)
            if side < 2:
                a[::3] *= np.float32(largest / 1.5)
            if side > 0:
                b[::3] *= np.float32(largest / 1.5)
            np.testing.assert_allclose(PAIRS[name](a, b, normalize=True), expected, rtol=4e-6, atol=1e-30)
    a, b = (side[:3] * (1e308 / side.max() / size) for side in (p, q))
    np.testing.assert_allclose(PAIRS[name](a, b, normalize=True), expected[:3], rtol=1e-11, atol=1e-30)


@pytest.mark.parametrize("size", [15, 48, 300])
@pytest.mark.parametrize("log_ratio", [10, 60, -60, 140])
def test_entropy_of_q_where_p_is_far_away(at_level, size, log_ratio):
    """Many measures share logarithms, and those of q must not take on what is rounded of far logarithms of p."""
    q = np.full((40, size), 1e5, np.float32)
    for row, value in enumerate(np.geomspace(1e-3, 1e5, len(q))):
        q[row] = value
    p = (q.astype(float) * np.exp(0.5 * log_ratio)).astype(np.float32)
    q = (q.astype(float) * np.exp(-0.5 * log_ratio)).astype(np.float32)
    p[:, 0] *= 1000
    found = kullback.compare(p, q, ["kl", "reverse_kl", "js", "entropy_p", "entropy_q"], normalize=True)
    np.testing.assert_allclose(found["entropy_q"], np.log(size), rtol=1.3e-6)  # each alone errs by 1e-6

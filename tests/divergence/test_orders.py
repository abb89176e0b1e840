"""Measures of an order alpha, for every order and for rows that are far apart, against mpmath."""

import mpmath
import numpy as np
import pytest

import kullback
from kullback import reference

ORDERS = (
    0, 1e-300, 1e-20, 1e-10, 0.1, 0.5, 0.999, 1 - 1e-10, 1 - 2**-53, 1, 1 + 2**-52, 1 + 1e-12,
    np.linspace(0.1, 1.9, 19)[9], 1.01, 2, 3, 30, 110, 190, 330, 1e6, 1e20, 1e300, np.inf,
)  # fmt: skip


def log_sum(exponents):
    """Return log sum exp of numbers of mpmath, of which -inf is left out."""
    return mpmath.log(mpmath.fsum(mpmath.exp(e) for e in exponents))


def renyi(p, q, alpha):
    """Return the divergence of Renyi of two lists of mpmath's numbers, or the entropy for q = None."""
    pairs = [(x, y) for x, y in zip(p, q or [mpmath.mpf(1)] * len(p), strict=True) if x]
    sign = 1 if q else -1
    if alpha == np.inf:
        return sign * mpmath.log(max(x / y if y else mpmath.inf for x, y in pairs))
    if alpha == 1:
        return sign * mpmath.fsum(x * mpmath.log(x / y) if y else mpmath.inf for x, y in pairs)
    if alpha > 1 and any(y == 0 for _, y in pairs):
        return mpmath.inf
    order = mpmath.mpf(alpha)
    return sign * log_sum(order * mpmath.log(x) + (1 - order) * mpmath.log(y) for x, y in pairs if y) / (order - 1)


def rows(kind, rng):
    """Return two rows, not normalised."""
    n = int(rng.integers(2, 9))
    p, q = rng.random((2, n)) + 1e-3
    if kind == "near":
        q = p * (1 + 1e-2 * rng.standard_normal(n))
    elif kind == "zeros":
        p[0], q[-1] = 0, 0
    elif kind == "tiny":
        q[0] *= 1e-200
    elif kind == "counts":
        p, q = rng.integers(1, 50, (2, n))
    elif kind == "equal":
        p, q = np.ones(n), rng.random(n) + 0.1
    return p, q


@pytest.mark.parametrize("kind", ["any", "near", "zeros", "tiny", "counts", "equal"])
def test_every_order(at_level, kind):
    """To 1e-12 of mpmath; the twin agrees but for the cancellation near order 1."""
    rng = np.random.default_rng(0)
    with mpmath.workdps(400):
        for _ in range(4):
            p, q = rows(kind, rng)
            exact = [[mpmath.mpf(float(x)) / mpmath.fsum(map(float, row)) for x in row] for row in (p, q)]
            for alpha in ORDERS:
                options = {"alpha": alpha, "normalize": True}
                expected = float(renyi(*exact, alpha))
                if alpha > 0 or kind == "zeros":  # else it is 0
                    assert kullback.renyi_divergence(p, q, **options) == pytest.approx(expected, rel=1e-12, abs=1e-320)
                expected = float(renyi(exact[0], None, alpha))
                assert kullback.renyi_entropy(p, **options) == pytest.approx(expected, rel=1e-12)
                assert reference.renyi_entropy(p, **options) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("alpha", [-3.0, -1e-10, 1e-10, 0.5, 1 - 2**-53, 1 + 2**-52, 1 + 1e-9, 2.0, 7.5])
def test_alpha_and_tsallis(at_level, alpha):
    """Amari's divergence is never negative, and both tend to the measures of order 1."""
    rng = np.random.default_rng(1)
    with mpmath.workdps(60):
        order = mpmath.mpf(alpha)
        for kind in ("any", "near", "counts", "equal"):
            p, q = rows(kind, rng)
            P, Q = ([mpmath.mpf(float(x)) / mpmath.fsum(map(float, row)) for x in row] for row in (p, q))
            power = mpmath.fsum(x**order * y ** (1 - order) for x, y in zip(P, Q, strict=True))
            expected = float((power - 1) / (order * (order - 1)))
            assert kullback.alpha_divergence(p, q, alpha=alpha, normalize=True) == pytest.approx(expected, rel=2e-12)
            if alpha > 0:
                expected = float((1 - mpmath.fsum(x**order for x in P)) / (order - 1))
                assert kullback.tsallis_entropy(p, alpha=alpha, normalize=True) == pytest.approx(expected, rel=1e-12)


def test_orders_of_rows_that_are_taken_as_they_are(at_level):
    """With normalize=False powers are of the rows themselves, near and far from 1 in sum."""
    for p, q in (([0.2, 0.5], [0.4, 0.1]), ([20.0, 5.0], [1e-3, 7.0]), ([1e-3, 2e-3], [4e-3, 1e-3])):
        for alpha in (0.0, 0.3, 2.0, 9.0, np.inf):
            expected = float(renyi([mpmath.mpf(x) for x in p], [mpmath.mpf(x) for x in q], alpha))
            value = kullback.renyi_divergence(p, q, alpha=alpha, normalize=False)
            assert value == pytest.approx(expected, rel=1e-12)
            expected = float(renyi([mpmath.mpf(x) for x in p], None, alpha))
            assert kullback.renyi_entropy(p, alpha=alpha, normalize=False) == pytest.approx(expected, rel=1e-12)


def test_half_an_order_is_symmetric(at_level):
    """Exchanging p with q changes no bit of the order 1/2."""
    rng = np.random.default_rng(0)
    for n in (3, 20, 300):
        p, q = rng.dirichlet(np.ones(n), (2, 30))
        for function in (kullback.renyi_divergence, kullback.alpha_divergence):
            np.testing.assert_array_equal(function(p, q, alpha=0.5), function(q, p, alpha=0.5))

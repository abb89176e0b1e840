"""Rows of numbers of which one element has nearly all of the mass: their entropies keep their digits."""

import mpmath
import numpy as np
import pytest

import kullback
from kullback import reference
from kullback.streaming import RowDivergence

ORDERS = (0.999, 1 + 2.0**-40, 2, 105.7, 1e25)


def exact(p, q, measure, alpha=None):
    """Return a measure of two rows, divided by their sums, by mpmath."""
    with mpmath.workdps(80):
        p, q = ([mpmath.mpf(float(v)) for v in side] for side in (p, q))
        sums = mpmath.fsum(p), mpmath.fsum(q)
        p, q = ([v / total for v in side] for side, total in zip((p, q), sums, strict=True))
        if measure == "cross_entropy":
            return float(-mpmath.fsum(a * mpmath.log(b) for a, b in zip(p, q, strict=True) if a > 0))
        side = q if measure == "entropy_q" else p
        if alpha == np.inf:
            return float(-mpmath.log(max(side)))
        if alpha is None:
            return float(-mpmath.fsum(v * mpmath.log(v) for v in side if v > 0))
        total = sum(v ** mpmath.mpf(alpha) for v in side if v > 0)  # fsum would align exponents that are far apart
        renyi = mpmath.log(total) / (1 - mpmath.mpf(alpha))
        return float(renyi if measure == "renyi" else (1 - total) / (mpmath.mpf(alpha) - 1))


def sure_row(rng, size, rest, scale, dtype):
    """Return a row of which all elements but one have a share ``rest`` together."""
    row = rng.random(size)
    row *= rest / row.sum()
    row[rng.integers(size)] = 1
    return (row * scale).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1, 3e-5, 12345.0])
@pytest.mark.parametrize("rest", [1e-3, 1e-9, 1e-16, 1e-20, 1e-30])
@pytest.mark.parametrize("size", [2, 10, 100, 1025])
def test_entropies_of_sure_rows(at_level, size, rest, scale, dtype):
    """The share of the other elements decides, which the sum of the row would swallow."""
    rng = np.random.default_rng(size)
    p, q = (sure_row(rng, size, share, scale, dtype) for share in (rest, 3 * rest))
    q[p.argmax()], q[q.argmax()] = q.max(), q[p.argmax()]
    rtol = 1e-12 if dtype == np.float64 else 4e-6
    names = ("entropy_p", "entropy_q", "cross_entropy")
    found = kullback.compare(p, q, names, normalize=True)
    twin = reference.compare(p, q, names, normalize=True)
    accumulator = RowDivergence(measures=names, normalize=True)
    accumulator.update(p[None], q[None])
    for name in names:
        expected = exact(p, q, name)
        np.testing.assert_allclose(found[name], expected, rtol=rtol, err_msg=name)
        np.testing.assert_allclose(accumulator.result()[name].mean, expected, rtol=rtol, err_msg=name)
        np.testing.assert_allclose(twin[name], expected, rtol=1e-12, err_msg=name)
    np.testing.assert_allclose(kullback.entropy(p, normalize=True), exact(p, q, "entropy_p"), rtol=rtol)


@pytest.mark.parametrize("alpha", ORDERS)
@pytest.mark.parametrize("rest", [1e-3, 1e-9, 1e-20])
def test_entropies_of_an_order(at_level, rest, alpha):
    """Also where the power of the largest element leaves the range of float64."""
    p = sure_row(np.random.default_rng(0), 20, rest, 7, np.float64)
    for module in (kullback, reference):
        renyi, tsallis = (getattr(module, f"{n}_entropy")(p, alpha=alpha, normalize=True) for n in ("renyi", "tsallis"))
        np.testing.assert_allclose(renyi, exact(p, p, "renyi", alpha), rtol=1e-12)
        np.testing.assert_allclose(tsallis, exact(p, p, "tsallis", alpha), rtol=1e-12)
        smallest = module.renyi_entropy(p, alpha=np.inf, normalize=True)
        np.testing.assert_allclose(smallest, exact(p, p, "renyi", np.inf), rtol=1e-12)


def test_one_hot_rows_have_no_entropy(at_level):
    """Of any scale and type, and a sure row of q that is not quite one-hot has a cross-entropy to them."""
    for dtype in (np.int64, np.float32, np.float64):
        rows = np.eye(7, dtype=dtype) * 3
        for name in ("entropy_p", "entropy_q", "cross_entropy"):
            assert np.all(kullback.compare(rows, rows, (name,), normalize=True)[name] == 0)
    nearly = np.full(7, 1e-25)
    nearly[2] = 1
    loss = kullback.cross_entropy(np.eye(7)[2:3], nearly)[0]
    np.testing.assert_allclose(loss, 6e-25, rtol=1e-12)
    np.testing.assert_allclose(reference.cross_entropy(np.eye(7)[2:3], nearly)[0], 6e-25, rtol=1e-12)


@pytest.mark.parametrize("gap", [300, 700, 740, 1000])
def test_chi_squared_of_far_logits(at_level, gap):
    """Its quotients leave the range of float64, or are of numbers that have few digits there."""
    p, q = np.array([0.0, -20.0, -(gap / 2) + 25]), np.array([0.0, -20.0, -float(gap)])
    with mpmath.workdps(50):
        weights = [[mpmath.exp(v) for v in side] for side in (p, q)]
        shares = [[v / mpmath.fsum(side) for v in side] for side in weights]
        expected = float(mpmath.fsum((a - b) ** 2 / b for a, b in zip(*shares, strict=True)))
    np.testing.assert_allclose(kullback.chi2_divergence(p, q, from_logits=True), expected, rtol=1e-11)

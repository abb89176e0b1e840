"""Entropy, cross-entropy, KL and their decomposition against the NumPy twin and mpmath."""

import mpmath
import numpy as np
import pytest

import kullback
from kullback import reference

FUNCTIONS = ["entropy", "cross_entropy", "kl_divergence"]
# Elements' float32 terms err by up to 4 ulp with random signs; sums are float64.
RTOL = {np.float32: 4 * 2.0**-23, np.float64: 1e-13}


def call(module, name, p, q, **options):
    """Call a function of one or two operands."""
    return getattr(module, name)(*([p] if name == "entropy" else [p, q]), **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 31, 32, 129, 257, 1025, 70_001])
def test_every_level_matches_reference(at_level, name, size, dtype, n_threads, draw):
    """Sizes straddle lanes, tiles, blocks and pieces."""
    n_rows = 3 if size > 2000 else 19
    p, q = draw((n_rows, size), dtype, 1), draw((n_rows, size), dtype, 2)
    actual = call(kullback, name, p, q, n_threads=n_threads)
    expected = call(reference, name, p, q)
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, expected, rtol=RTOL[dtype], atol=1e-15)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("size", [10, 50, 100, 1000, 200_000])
def test_bits_do_not_depend_on_threads_batch_or_position(at_level, name, size, draw):
    """One row gives the same bits alone, in a batch, at an odd address, and with any thread count."""
    p, q = draw((7, size), np.float32, 3), draw((7, size), np.float32, 4)
    q[2, 1] = 1e-40  # one row takes the slow path; its neighbours must not notice
    options = {"normalize": True}
    expected = call(kullback, name, p, q, n_threads=1, **options)
    for threads in (2, 3, 8):
        np.testing.assert_array_equal(call(kullback, name, p, q, n_threads=threads, **options), expected)
    for row in range(7):
        assert call(kullback, name, p[row], q[row], n_threads=2, **options) == expected[row]
    shifted = [np.frombuffer(bytearray(x.nbytes + 64), np.float32)[3 : 3 + x.size].reshape(x.shape) for x in (p, q)]
    shifted[0][:], shifted[1][:] = p, q
    np.testing.assert_array_equal(call(kullback, name, *shifted, **options), expected)


@pytest.mark.parametrize("layout", ["fortran", "reversed", "step", "middle", "broadcast"])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("size", [10, 1500])
def test_layouts(at_level, name, size, layout, draw):
    """Any strides and any axis give the values of the contiguous case."""
    p, q = draw((2, 3, 40, size), np.float32, 5), draw((2, 3, 40, size), np.float32, 6)
    expected, axis = call(kullback, name, p, q), -1
    if layout == "fortran":
        p, q = np.asfortranarray(p), np.asfortranarray(q)
    elif layout == "reversed":
        p, q = p[..., ::-1].copy()[..., ::-1], q[..., ::-1].copy()[..., ::-1]
    elif layout == "step":
        p, q = np.repeat(p, 2, axis=-1)[..., ::2], np.repeat(q, 2, axis=-1)[..., ::2]
    elif layout == "middle":
        p, q, axis = np.moveaxis(p, -1, 1).copy(), np.moveaxis(q, -1, 1), 1
    else:
        q = q[:1, :1]
        expected = call(kullback, name, p, np.broadcast_to(q, p.shape).copy())
    actual = call(kullback, name, p, q, axis=axis)
    # the same terms, of which fours are added in float32 in another order: two roundings
    np.testing.assert_allclose(actual, expected, rtol=2 * 2.0**-24)
    kept = call(kullback, name, p, q, axis=axis, keepdims=True)
    assert kept.shape == tuple(1 if k == axis % 4 else n for k, n in enumerate(p.shape))


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1), (1, 3), (3, 0), (-1, -3), (2,), (0, 1, 2, 3)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_several_axes(at_level, name, axis, draw):
    """A tuple of axes, or None for all, gives what one axis gives of the same elements, whatever the layout."""
    p, q = draw((2, 3, 4, 5), np.float64, 5), draw((2, 3, 4, 5), np.float64, 6)
    options = {"axis": axis, "normalize": True}
    expected = call(reference, name, p, q, **options)
    axes = (0, 1, 2, 3) if axis is None else axis
    for a, b in ((p, q), (np.asfortranarray(p), q), (p[..., ::-1].copy()[..., ::-1], q.astype(object))):
        np.testing.assert_allclose(call(kullback, name, a, b, **options), expected, rtol=1e-13)
        kept = call(kullback, name, a, b, keepdims=True, **options)
        assert kept.shape == tuple(1 if k in np.arange(4)[np.r_[axes]] else n for k, n in enumerate(p.shape))
        np.testing.assert_array_equal(np.reshape(kept, np.shape(expected)), call(kullback, name, a, b, **options))
        assert call(kullback, name, a, b, keepdims=True, reduction="sum", **options).shape == (1, 1, 1, 1)


def test_several_axes_broadcast():
    """Operands broadcast in the axes that count rows, and all elements need the same shape no more than in SciPy."""
    stats = pytest.importorskip("scipy.stats")
    p, q = np.random.default_rng(0).random((2, 6, 3, 4, 5))
    for axis, other in (((1, 3), q[:1]), ((1, 3), q[:, :, :1]), ((1, 2, 3), q[0]), ((-1, 1), q[2]), (None, q.ravel())):
        found = kullback.kl_divergence(p, other, axis=axis, normalize=True)
        np.testing.assert_allclose(found, stats.entropy(p, other, axis=axis), rtol=1e-11)
    p /= p.sum(axis=(1, 3), keepdims=True)
    p[1, 1, 2, 0] = -1
    with pytest.raises(ValueError, match=r"negative or NaN entry in row \(1, 2\)"):
        kullback.entropy(p, axis=(1, 3))
    values = kullback.entropy(p, axis=(1, 3), where=np.arange(6)[:, None] != 1, normalize=True)
    assert np.isnan(values[1]).all() and np.isfinite(values[[0, 2, 3, 4, 5]]).all()


@pytest.mark.parametrize(
    "dtype", [np.float16, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_other_dtypes(at_level, name, dtype, draw):
    """Half precision is read exactly; integers are counts."""
    rng = np.random.default_rng(7)
    if dtype is np.float16:
        p, q = draw((5, 300), dtype, 1, spread=0.5), draw((5, 300), dtype, 2, spread=0.5)
    else:
        p, q = rng.integers(0, 100, (5, 300)).astype(dtype), rng.integers(1, 100, (5, 300)).astype(dtype)
    rtol = RTOL[np.float32] if dtype is np.float16 else RTOL[np.float64]
    np.testing.assert_allclose(call(kullback, name, p, q), call(reference, name, p, q), rtol=rtol)
    np.testing.assert_allclose(call(kullback, name, p.T, q.T, axis=0), call(reference, name, p, q), rtol=rtol)


def test_every_half_is_read_exactly(at_level):
    """All 2^15 non-negative halves, subnormal ones too, pass through the entropy of one element."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16)
    actual = kullback.entropy(halves[:, None], normalize=False)
    expected = kullback.entropy(halves.astype(np.float32)[:, None], normalize=False)
    np.testing.assert_array_equal(actual, expected)


def test_bfloat16(at_level, draw):
    """ml_dtypes arrays are read exactly."""
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    p, q = draw((5, 300), bfloat16, 1), draw((5, 300), bfloat16, 2)
    actual = kullback.kl_divergence(p, q, normalize=True)
    expected = reference.kl_divergence(p.astype(np.float64), q.astype(np.float64), normalize=True)
    np.testing.assert_allclose(actual, expected, rtol=RTOL[np.float32])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("noise", [1e-1, 1e-3, 1e-5, 3e-7])
def test_kl_of_near_rows_against_mpmath(at_level, dtype, noise, draw):
    """Relative accuracy holds however small the divergence is."""
    p = draw(50, dtype)
    q = (p * (1 + noise * np.random.default_rng(1).standard_normal(50))).astype(dtype)
    with mpmath.workdps(50):
        P, Q = [mpmath.mpf(float(x)) for x in p], [mpmath.mpf(float(x)) for x in q]
        sum_p, sum_q = mpmath.fsum(P), mpmath.fsum(Q)
        expected = mpmath.fsum(a / sum_p * mpmath.log(a / sum_p / (b / sum_q)) for a, b in zip(P, Q, strict=True))
    actual = kullback.kl_divergence(p, q, normalize=True)
    # float64 loses eps / noise where the sums differ, and is otherwise a few ulp
    assert abs(actual / float(expected) - 1) < {np.float32: 1e-6, np.float64: 1e-13 + 1e-15 / noise}[dtype]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scale_does_not_matter_to_normalised_values(at_level, dtype, draw):
    """Counts and scaled rows give the value of the normalised row, also where the sums cancel it."""
    p = draw(300, np.float64, 1)
    q = p * (1 + 1e-3 * np.random.default_rng(1).standard_normal(300))
    p, q = p.astype(dtype), q.astype(dtype)
    expected = reference.kl_divergence(p, q, normalize=True)
    rtol = {np.float32: 1e-6, np.float64: 1e-9}[dtype]  # the twin itself loses eps / (1e-3)^2
    for scale_p, scale_q in [(1, 4), (1024, 1), (2.0**-20, 2.0**9)]:
        actual = kullback.kl_divergence(p * dtype(scale_p), q * dtype(scale_q), normalize=True)
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-18)
        h = kullback.entropy(p * dtype(scale_p), normalize=True)
        np.testing.assert_allclose(h, reference.entropy(p, normalize=True), rtol=RTOL[dtype])


def test_row_longer_than_float32_counts(at_level):
    """Sums of more than 2^24 float32 terms keep their accuracy.

    Equal terms are rounded alike: up to half a unit in the last place for each of sixteen that are added in float32.
    """
    n = 2**24 + 5
    p = np.full(n, 1 / n, np.float32)
    np.testing.assert_allclose(kullback.entropy(p), np.log(n), rtol=8 * 2.0**-24)

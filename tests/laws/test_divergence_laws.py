"""Laws of the divergences, and the conventions at zeros, infinities and bad rows."""

import numpy as np
import pytest
import scipy.special
import scipy.stats

import kullback


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_identical_rows_give_exactly_zero(dtype):
    """KL(p, p) = 0 to the bit, whatever the sum."""
    rng = np.random.default_rng(0)
    for size in (1, 3, 40, 5000):
        p = rng.dirichlet(np.ones(size), 4).astype(dtype)
        np.testing.assert_array_equal(kullback.kl_divergence(p, p.copy(), normalize=True), np.zeros(4))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_identity_and_sign(dtype):
    """KL >= 0 and H(p, q) = H(p) + KL, for single measures and for the decomposition."""
    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.ones(200), (2, 300))
    q = np.where(rng.random((300, 1)) < 0.5, p * (1 + 1e-6 * rng.standard_normal((300, 200))), q)
    p, q = p.astype(dtype), (q / q.sum(axis=1, keepdims=True)).astype(dtype)
    parts = kullback.decompose(p, q)
    assert (parts.kl_divergence >= 0).all()
    np.testing.assert_array_equal(parts.cross_entropy, parts.entropy + parts.kl_divergence)
    np.testing.assert_array_equal(parts.kl_divergence, kullback.kl_divergence(p, q))
    np.testing.assert_array_equal(parts.entropy, kullback.entropy(p))
    # Each float32 term of the one-pass cross-entropy has an error of up to 4 ulp.
    np.testing.assert_allclose(parts.cross_entropy, kullback.cross_entropy(p, q), rtol=4 * np.finfo(dtype).eps)
    assert (parts.entropy <= np.log(200)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("repeat", [1, 700])
def test_zeros_follow_scipy(dtype, repeat):
    """0 log 0 is 0, p > 0 with q = 0 gives infinity, and two zeros add nothing."""
    p = np.tile(np.array([[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0, 1, 0, 0]], dtype), repeat) / dtype(repeat)
    q = np.tile(np.array([[0.25, 0.5, 0.25, 0], [0.5, 0, 0.5, 0], [0, 1, 0, 0]], dtype), repeat) / dtype(repeat)
    rtol = 1e-6 if dtype is np.float32 else 1e-14
    np.testing.assert_allclose(kullback.kl_divergence(p, q), scipy.stats.entropy(p, q, axis=1), rtol=rtol, atol=1e-15)
    np.testing.assert_allclose(kullback.entropy(p), scipy.stats.entropy(p, axis=1), rtol=rtol)
    assert np.isinf(kullback.cross_entropy(p, q)[1]) and np.isfinite(kullback.cross_entropy(p, q)[[0, 2]]).all()
    np.testing.assert_allclose(
        kullback.kl_divergence(p, 2 * q, normalize=False),
        scipy.special.kl_div(p, 2 * q).sum(axis=1),
        rtol=rtol,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_subnormals(dtype):
    """Values below the smallest normal number count in full."""
    tiny = np.finfo(dtype).smallest_subnormal
    p = np.array([0.5, 0.5 - 4 * tiny, 4 * tiny], dtype)
    q = np.array([0.5, 0.5, tiny], dtype)
    for a, b in [(p, q), (q, p)]:
        expected = scipy.special.kl_div(a.astype(float), b.astype(float)).sum()
        np.testing.assert_allclose(kullback.kl_divergence(a, b, normalize=False), expected, rtol=1e-6)
    near_min = np.array([2 * np.finfo(dtype).tiny, 1], dtype)
    swapped = np.array([np.finfo(dtype).tiny, 1], dtype)
    expected = scipy.special.kl_div(near_min.astype(float), swapped.astype(float)).sum()
    np.testing.assert_allclose(kullback.kl_divergence(near_min, swapped, normalize=False), expected, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, -0.25])
@pytest.mark.parametrize("size", [4, 4000])
def test_a_bad_row_is_nan_alone(bad, size):
    """Without the check, a negative or NaN entry spoils its own row only."""
    p = np.full((5, size), 1 / size, np.float32)
    q = p.copy()
    q[3, 1] = bad
    for normalize in (True, False):
        result = kullback.kl_divergence(p, q, normalize=normalize)
        assert np.isnan(result[3])
        np.testing.assert_array_equal(np.delete(result, 3), np.zeros(4))


def test_empty_batches():
    """An array without rows gives an array without values."""
    assert kullback.kl_divergence(np.ones((0, 3)), np.ones((0, 3))).shape == (0,)
    assert kullback.entropy(np.ones((4, 0, 3))).shape == (4, 0)
    assert kullback.entropy(np.ones((4, 1, 1))).shape == (4, 1)


def test_rows_without_elements():
    """Rows without elements sum to 0, so they give NaN if they are to be divided by their sums, and 0 if not."""
    for _ in range(3):
        kullback.kl_divergence(
            *np.random.default_rng(0).dirichlet(np.ones(9), (2, 40))
        )  # leaves numbers in memory that scratch may reuse
        empty = np.ones((40, 0))
        assert np.isnan(kullback.kl_divergence(empty, empty, normalize=True)).all()
        np.testing.assert_array_equal(kullback.kl_divergence(empty, empty, normalize=False), np.zeros(40))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: kullback.entropy([0.5, 0.6]),
            ValueError,
            r"p must sum to 1 within 1.5e-08 .* got 1.1; pass normalize=True",
        ),
        (
            lambda: kullback.kl_divergence([[0.5, 0.5]] * 2, [[0.5, 0.5], [0.1, 0.1]]),
            ValueError,
            r"q must sum .* in row 1",
        ),
        (
            lambda: kullback.entropy([1.5, -0.5]),
            ValueError,
            "p must hold probabilities >= 0, got a negative or NaN",
        ),
        (
            lambda: kullback.entropy([np.nan, 0.5]),
            ValueError,
            "p must hold probabilities >= 0, got a negative or NaN",
        ),
        (lambda: kullback.entropy([0, 0]), ValueError, "p must sum to 1"),
        (lambda: kullback.entropy(np.ones((2, 0))), ValueError, "p must sum to 1"),
        (lambda: kullback.entropy(["a"]), TypeError, "p must hold float16.*got dtype <U1"),
        (lambda: kullback.entropy([1j]), TypeError, "p must hold float16.*got dtype complex128"),
        (lambda: kullback.entropy([np.datetime64(0, "s")]), TypeError, "p must hold float16.*got dtype datetime64"),
        (lambda: kullback.entropy(1.0), ValueError, "p must have at least one axis"),
        (lambda: kullback.entropy([1.0], axis=1), ValueError, r"axis must be in \[-1, 0\]"),
        (lambda: kullback.entropy([1.0], axis=0.5), TypeError, "axis must be an int, got 0.5"),
        (lambda: kullback.entropy([1.0], axis=-1.0), TypeError, "axis must be an int, got -1.0"),
        (lambda: kullback.entropy([1.0], axis=(0, 0.5)), TypeError, "axis must be an int.*a tuple of ints or None"),
        (lambda: kullback.entropy([[1.0]], axis=(0, -2)), ValueError, "axis must be one or more distinct axes"),
        (lambda: kullback.entropy([[1.0]], axis=()), ValueError, "axis must be one or more distinct axes"),
        (lambda: kullback.entropy([[1.0]], axis=(0, 2)), ValueError, r"axis must be in \[-2, 1\] for shape \(1, 1\)"),
        (
            lambda: kullback.kl_divergence([[0.5, 0.5]], [[0.5], [0.5]], axis=(0, 1)),
            ValueError,
            "equally many elements along axis 0, got 1 and 2",
        ),
        (
            lambda: kullback.kl_divergence([[0.5, 0.5]], [1.0], axis=None),
            ValueError,
            r"equally many elements with axis=None, got shapes \(1, 2\) and \(1,\)",
        ),
        (
            lambda: kullback.entropy([1.0], base=1),
            ValueError,
            "base must be above 1 and finite, got 1",
        ),
        (lambda: kullback.entropy([1.0], base=-2), ValueError, "base must be above 1"),
        (lambda: kullback.kl_divergence([0.5, 0.5], [0.2, 0.8], base=0.5), ValueError, "base must be above 1"),
        (lambda: kullback.pairwise_divergence([[0.5, 0.5]], base=0.5), ValueError, "base must be above 1"),
        (lambda: kullback.log_loss([0], [[0.2, 0.8]], base=0.5), ValueError, "base must be above 1"),
        (lambda: kullback.log_loss([0], [[0.2, 0.8]], base=0), ValueError, "base must be above 1"),
        (
            lambda: kullback.entropy([1.0], normalize="yes"),
            ValueError,
            "normalize must be 'check', True or False",
        ),
        (lambda: kullback.entropy([1.0], n_threads=0), ValueError, "n_threads must be"),
        (
            lambda: kullback.kl_divergence([0.5, 0.5], [0.2, 0.2, 0.6]),
            ValueError,
            "p and q must have shapes that broadcast",
        ),
        (
            lambda: kullback.kl_divergence([0.5, 0.5], [1.0]),
            ValueError,
            "equally many elements along axis -1, got 2 and 1",
        ),
    ],
)
def test_errors(call, error, message):
    """Each error names the argument, what came and what is accepted."""
    with pytest.raises(error, match=message):
        call()


def test_inputs_are_left_alone():
    """Read-only arrays are accepted, and nothing is written to them."""
    p = np.array([0.25, 0.75])
    p.setflags(write=False)
    assert kullback.kl_divergence(p, p) == 0

"""Where the ways through the kernel part: near, far and masked logits, rows as lanes, pieces, unusual values."""

import mpmath
import numpy as np
import pytest
import scipy.spatial.distance
import scipy.special
import scipy.stats

import kullback
from kullback import reference

FAMILY = ("kl", "reverse_kl", "entropy_p", "entropy_q", "js")


def extended(x):
    """Log-probabilities of logits in extended precision."""
    x = np.asarray(x).astype(np.longdouble)
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logits_that_are_near_far_and_masked_in_turn(at_level, dtype, temperature):
    """Blocks of every kind follow each other in every order; each takes the terms that hold for it."""
    rng = np.random.default_rng(0)
    noise = np.repeat([0.01, 3.0, 0.01, 0.01, 30.0, 3.0, 0.01], 1024)[None] * np.ones((2, 1))
    x = (2 * rng.standard_normal(noise.shape)).astype(dtype)
    y = (x + noise * rng.uniform(-1, 1, noise.shape)).astype(dtype)
    x[0, 2048:2148] = y[0, 2048:2148] = -np.inf  # masked pairs, in a near block
    x[1, 5000], y[1, 6] = -40, y[1].max() - 60  # far apart at one place
    p = np.exp(extended(x / dtype(temperature)))
    with np.errstate(invalid="ignore"):
        t = np.where(p > 0, extended(x / dtype(temperature)) - extended(y / dtype(temperature)), 0)
    q = p * np.exp(-t)
    m = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        js = np.where(p > 0, p * np.log(p / m), 0) / 2 + np.where(q > 0, q * np.log(q / m), 0) / 2
    # a logit divided in float32 rounds by 2^-24 of itself, up to 6e-7 for 10; with temperature 1 only terms round
    rtol = {np.float32: 2e-6, np.float64: 1e-12}[dtype]
    options = {"from_logits": True, "temperature": temperature}
    actual = kullback.compare(x, y, FAMILY, **options)
    np.testing.assert_allclose(actual["kl"], (p * t).sum(axis=-1).astype(float), rtol=rtol)
    np.testing.assert_allclose(actual["js"], js.sum(axis=-1).astype(float), rtol=rtol)
    np.testing.assert_allclose(actual["reverse_kl"], (-q * t).sum(axis=-1).astype(float), rtol=rtol)
    for name in FAMILY:  # alone as beside others: the sums are the same up to the order of operations
        alone = kullback.compare(x, y, (name,), **options)[name]
        np.testing.assert_allclose(alone, actual[name], rtol=rtol)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("noise", [1e-2, 1e-4, 2e-6])
def test_jensen_shannon_of_nearly_equal_rows(at_level, dtype, noise):
    """The distance is accurate to 1e-6 of itself down to 1e-6, from probabilities and logits, and never NaN."""
    rng = np.random.default_rng(0)
    x = (2 * rng.standard_normal((2, 5000))).astype(dtype)
    y = (x + noise * rng.standard_normal(x.shape)).astype(dtype)
    t = extended(x) - extended(y)
    p = np.exp(extended(x))
    # p phi(t), phi = (log(2 / (1 + E)) + E log(2 E / (1 + E))) / 2, E = exp(-t), by its series where t is small
    u = np.tanh(t / 2)
    series = u**2 / 2 + u**4 / 12 + u**6 / 30 + u**8 / 56
    expected = np.sqrt((p * (1 + np.exp(-t)) * series).sum(axis=-1) / 2).astype(float)
    if noise == 2e-6:
        assert (expected < 1e-6).all()
    actual = kullback.jensen_shannon_distance(x, y, from_logits=True)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    P, Q = (np.exp(extended(z)).astype(dtype) for z in (x, y))
    sums = [z.astype(np.longdouble).sum(axis=-1, keepdims=True) for z in (P, Q)]
    a, b = P / sums[0], Q / sums[1]
    u = (a - b) / (a + b)
    series = u**2 / 2 + u**4 / 12 + u**6 / 30 + u**8 / 56
    expected = np.sqrt(((a + b) * series).sum(axis=-1) / 2).astype(float)
    np.testing.assert_allclose(kullback.jensen_shannon_distance(P, Q), expected, rtol=1e-6)


def test_values_of_scipy(at_level):
    """On the domain that SciPy's functions share with ours, to 1e-13 in float64: zeros on either side, any scale."""
    rng = np.random.default_rng(0)
    close = {"rtol": 1e-13, "atol": 1e-300}
    for size in (1, 2, 7, 16, 63, 64, 65, 300, 3000):
        p, q = rng.dirichlet(np.full(size, 0.5), (2, 20))
        p[::3, : size // 3], q[::2, size // 2 :] = 0, 0
        p[:, 0] += p.sum(axis=1) == 0
        q[:, 0] += q.sum(axis=1) == 0
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = scipy.stats.entropy(p, q, axis=1)
            np.testing.assert_allclose(kullback.kl_divergence(p, q, normalize=True), expected, rtol=1e-13, atol=1e-15)
            expected = scipy.stats.entropy(p, axis=1, base=2)
            actual = kullback.entropy(p, normalize=True, base=2)
            np.testing.assert_allclose(actual, expected, rtol=1e-13, atol=1e-15)
            expected = scipy.spatial.distance.jensenshannon(p, q, axis=1)
        # SciPy's own distance loses half of its digits where rows are near: these are far
        actual = kullback.jensen_shannon_distance(p, q, normalize=True)
        np.testing.assert_allclose(actual, expected, rtol=1e-13, atol=1e-7)
        for scale in (1, 2.0**40, 2.0**-40):
            a, b = scale * p, scale * q
            expected = scipy.special.kl_div(a, b).sum(axis=1)  # loses eps of the larger terms where rows are near
            actual = kullback.kl_divergence(a, b, normalize=False)
            np.testing.assert_allclose(actual, expected, rtol=1e-13, atol=1e-15 * scale)
        # one element a row: the functions of scipy.special themselves
        a, b = p.reshape(-1, 1), q.reshape(-1, 1)
        np.testing.assert_allclose(kullback.entropy(a, normalize=False), scipy.special.entr(a)[:, 0], **close)
        rel_entr = kullback.kl_divergence(a, b, normalize=False) + (a - b)[:, 0]
        np.testing.assert_allclose(rel_entr, scipy.special.rel_entr(a, b)[:, 0], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", ["kl_divergence", "entropy", "jensen_shannon_divergence", "total_variation_distance"])
def test_float32_sums_along_the_first_axis(at_level, name):
    """Long float32 sums along axis 0 are as accurate as along the last one."""
    rng = np.random.default_rng(0)
    p, q = (np.exp(rng.standard_normal((200_000, 3))).astype(np.float32) for _ in range(2))
    p, q = p / p.sum(axis=0, dtype=np.float64), q / q.sum(axis=0, dtype=np.float64)
    p, q = p.astype(np.float32), q.astype(np.float32)
    operands = (p,) if name == "entropy" else (p, q)
    expected = getattr(reference, name)(*(x.astype(np.float64) for x in operands), axis=0, normalize=True)
    for axis, rows in ((0, operands), (-1, [np.ascontiguousarray(x.T) for x in operands])):
        actual = getattr(kullback, name)(*rows, axis=axis, normalize=True)
        np.testing.assert_allclose(actual, expected, rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns_with_unusual_rows(at_level, dtype):
    """Beside rows with subnormals, infinities and negative values, the other rows of a slice keep their bits."""
    rng = np.random.default_rng(0)
    p, q = (rng.dirichlet(np.ones(40), 33).astype(dtype) for _ in range(2))
    clean = kullback.compare(p, q, normalize=True)
    p[3, 7], p[20, 39], q[5, 0], q[31, 20] = np.finfo(dtype).smallest_subnormal, -0.5, np.nan, np.inf
    actual = kullback.compare(p, q, normalize=True)
    touched = [3, 20, 5, 31]
    for name, values in actual.items():
        np.testing.assert_array_equal(np.delete(values, touched), np.delete(clean[name], touched), err_msg=name)
    assert np.isfinite(actual["kl"][3]) and np.isnan(actual["kl"][[20, 5, 31]]).all()


def test_few_long_rows_side_by_side(at_level, n_threads):
    """Pieces of a few long rows go to all threads and are added in order."""
    rng = np.random.default_rng(0)
    p, q = (rng.random((150_000, 5)) + 0.1 for _ in range(2))
    expected = reference.kl_divergence(p, q, axis=0, normalize=True)
    actual = kullback.kl_divergence(p, q, axis=0, normalize=True, n_threads=n_threads)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
    np.testing.assert_array_equal(kullback.kl_divergence(p, q, axis=0, normalize=True, n_threads=1), actual)


def test_kl_of_short_rows_by_either_way(at_level):
    """Rows whose sums are off 1 leave the fast way for short rows; the value is that of the divided rows."""
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(7), (2, 40))
    scale_p, scale_q = np.exp(rng.standard_normal((2, 40, 1)) * np.repeat([0, 1e-9, 1e-5, 1], 10)[:, None])
    a, b = p * scale_p, q * scale_q
    actual = kullback.kl_divergence(a, b, normalize=True)
    with mpmath.workdps(40):
        for i in range(40):
            A, B = ([mpmath.mpf(float(x)) for x in row[i]] for row in (a, b))
            A, B = ([x / mpmath.fsum(row) for x in row] for row in (A, B))
            expected = mpmath.fsum(x * mpmath.log(x / y) for x, y in zip(A, B, strict=True))
            assert abs(actual[i] / float(expected) - 1) < 1e-13


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [3, 64, 65, 3000])
def test_a_vector_has_the_bits_of_its_row(at_level, size, dtype):
    """The short way for single vectors, strided and reversed ones too, gives what the row has in a batch."""
    rng = np.random.default_rng(0)
    p, q = (rng.dirichlet(np.ones(size), 17).astype(dtype) for _ in range(2))
    for name in ("kl_divergence", "jensen_shannon_divergence", "entropy", "total_variation_distance"):
        operands = (p,) if name == "entropy" else (p, q)
        batch = getattr(kullback, name)(*operands)
        for row in (0, 16):
            assert getattr(kullback, name)(*(x[row] for x in operands)) == batch[row]
            strided = [np.repeat(x[row], 3)[::3] for x in operands]
            assert getattr(kullback, name)(*strided) == batch[row]
            backwards = [x[row, ::-1].copy()[::-1] for x in operands]
            assert getattr(kullback, name)(*backwards) == batch[row]
    with pytest.raises(ValueError, match="q must sum to 1"):
        kullback.kl_divergence(p[0], 2 * q[0])
    assert kullback.kl_divergence(p[0], q[0]) == kullback.kl_divergence(p, q)[0]  # a failure leaves nothing behind


@pytest.mark.parametrize(
    "name", ["kl_divergence", "jensen_shannon_divergence", "hellinger_distance", "chi2_divergence"]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [2, 100, 3000])
def test_q_of_another_order_of_magnitude(at_level, name, dtype, length):
    """The sum of q is summed again where q - p has lost it: counts against probabilities, say."""
    rng = np.random.default_rng(0)
    p, q = rng.random((2, 3, length)).astype(dtype)
    expected = getattr(reference, name)(p, q, normalize=True)
    for scale in (2.0**-100, 2.0**-40, 2.0**-12, 2.0**-6, 2.0**12, 2.0**40):
        actual = getattr(kullback, name)(p, q * dtype(scale), normalize=True)
        np.testing.assert_allclose(actual, expected, rtol=1e-6 if dtype is np.float32 else 1e-12)


@pytest.mark.parametrize(
    "name", ["kl_divergence", "jensen_shannon_divergence", "total_variation_distance", "chi2_divergence"]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [3, 64, 100])
@pytest.mark.parametrize("normalize", [True, False])
def test_minus_zero_is_zero(at_level, name, dtype, length, normalize):
    """Its sign bit makes it unusual, not its value, in rows of every length."""
    p, q = np.random.default_rng(0).random((2, 20, length)).astype(dtype)
    p[3, 1] = q[5, 2] = p[7, 0] = q[7, 0] = 0
    expected = getattr(kullback, name)(p, q, normalize=normalize)
    p[3, 1] = q[5, 2] = p[7, 0] = q[7, 0] = -0.0
    actual = getattr(kullback, name)(p, q, normalize=normalize)
    np.testing.assert_allclose(actual, expected, rtol=1e-6 if dtype is np.float32 else 1e-12)
    np.testing.assert_allclose(getattr(reference, name)(p, q, normalize=normalize), expected, rtol=1e-6)


@pytest.mark.parametrize("length", [1, 5, 17, 1500, 5000])
@pytest.mark.parametrize("noise", [1e-6, 1e-3, 0.03, 0.1, 1.0])
@pytest.mark.parametrize("drift", [0.0, 0.3, 3.0])
def test_jensen_shannon_of_logits_in_one_sweep(at_level, length, noise, drift):
    """From sums about the shift of the first block, however far that is off, or from a second sweep."""
    rng = np.random.default_rng(0)
    x = (4 * rng.standard_normal((4, length))).astype(np.float32)
    later = np.arange(length) >= min(1024, length // 2)
    y = (x + noise * (rng.standard_normal(x.shape) + drift * later)).astype(np.float32)
    y[3] += np.float32(3)
    log_p, log_q = extended(x), extended(y)
    t = log_p - log_q
    half = t * t / 8 - t**4 / 192 + t**6 / 2880 - 17 * t**8 / 645120  # log(cosh(t / 2)) for small t
    half = np.where(abs(t) < 0.01, half, np.log(np.cosh(t / 2)))
    expected = np.exp(log_p) * (-np.expm1(-t) * t / 2 - half * (1 + np.exp(-t)))
    expected = expected.sum(axis=-1) / 2
    bound = 1e-6 * expected + 1e-18 * (length == 1)  # a row of one has the value 0
    assert np.all(abs(kullback.jensen_shannon_divergence(x, y, from_logits=True) - expected) <= bound)
    several = kullback.compare(x, y, measures=("kl", "reverse_kl", "js", "top1_agreement"), from_logits=True)
    assert np.all(abs(several["js"] - expected) <= bound)
    assert np.all(kullback.jensen_shannon_divergence(x, x + 0, from_logits=True) == 0)


@pytest.mark.parametrize("length", [1500, 3000, 70_000])
@pytest.mark.parametrize(
    ("noise", "offset", "temperature"), [(0.1, 0, 1.0), (0.1, 1e4, 0.5), (1e-3, -300, 2.0), (1.0, 0, 1.0)]
)
def test_top_1_of_near_logits(at_level, length, noise, offset, temperature):
    """Blocks of q are searched unless p shows that they hold no larger value."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60 if length < 10_000 else 8, length)).astype(np.float32)
    y = (x + noise * rng.uniform(-1, 1, x.shape) + offset).astype(np.float32)
    agree = kullback.compare(x, y, measures=("kl", "js", "top1_agreement"), from_logits=True, temperature=temperature)
    np.testing.assert_array_equal(agree["top1_agreement"], x.argmax(axis=1) == y.argmax(axis=1))


PAIRS = (*FAMILY, "cross_entropy", "hellinger", "total_variation", "chi2", "jeffreys")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [10, 64, 100, 4096, 9001])
@pytest.mark.parametrize("measures", [*((name,) for name in PAIRS), FAMILY])
def test_a_row_keeps_its_bits_after_rows_with_zeros(at_level, measures, length, dtype):
    """Rows with zeros are worked by other instructions than positive ones, and so is what follows them for a while."""
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(length), (2, 40)).astype(dtype)
    expected = kullback.compare(p, q, measures=measures, normalize=True, n_threads=1)
    first = p.copy(), q.copy()
    first[0][::3, 1] = first[1][::3, 2] = 0
    first[0][::3, 5] = first[1][::3, 5] = 0
    mixed = kullback.compare(*first, measures=measures, normalize=True, n_threads=1)
    others = np.arange(40) % 3 > 0
    for name in measures:
        np.testing.assert_array_equal(mixed[name][others], expected[name][others])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [65, 4096, 5003])
def test_top_1_beside_the_measures_that_find_it(at_level, length, dtype):
    """The pass of the five measures notes the largest values of a block; blocks that it leaves are searched."""
    rng = np.random.default_rng(length)
    p = rng.dirichlet(np.ones(length), 60)
    q = np.where(rng.random((60, 1)) < 0.5, p * rng.uniform(0.9, 1.1, p.shape), rng.dirichlet(np.ones(length), 60))
    p, q = p.astype(dtype), q.astype(dtype)
    p[::4, 3] = q[1::4, 7] = 0
    p[2::8, 9] = 1e-40 if dtype is np.float32 else 1e-310
    p[3::8, -1] = q[3::8, -1] = 1  # in what is left over of whole groups
    found = kullback.compare(p, q, measures=(*FAMILY, "top1_agreement"), normalize=True)["top1_agreement"]
    np.testing.assert_array_equal(found, p.argmax(axis=1) == q.argmax(axis=1))


@pytest.mark.parametrize("length", [2, 16, 33, 100, 4100])
@pytest.mark.parametrize("rest", [1e-7, 1e-3, 0.3])
@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_small_entropies_beside_divergences(at_level, length, rest, layout):
    """Of rows with nearly all in one place, the other row's elsewhere, both entropies are as accurate as alone.

    In float32 each of up to 16 roundings of a lane errs by 6e-8, and a logarithm by 2e-7.
    """
    rng = np.random.default_rng(0)
    p, q = (rest * rng.dirichlet(np.full(length, 0.2), size=40) for _ in range(2))
    p[np.arange(40), rng.integers(length, size=40)] += 1 - rest
    q[np.arange(40), rng.integers(length, size=40)] += 1 - rest
    q[::4] = 1 / length  # and spread out
    p, q = (np.maximum(x, 1e-30).astype(np.float32) for x in (p, q))
    expected = [reference.entropy(x.astype(float), normalize=True) for x in (p, q)]
    axis = -1 if layout == "rows" else 0
    if axis == 0:
        p, q = np.ascontiguousarray(p.T), np.ascontiguousarray(q.T)
    for first, second, (h_p, h_q) in ((p, q, expected), (q, p, expected[::-1])):
        values = kullback.compare(first, second, measures=FAMILY, axis=axis, normalize=True)
        np.testing.assert_allclose(values["entropy_p"], h_p, rtol=2e-6)
        np.testing.assert_allclose(values["entropy_q"], h_q, rtol=2e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ratio", [1 + 1e-6, 1.001, 1.49, 1.51, 3.0, 1e3, 1e12, 1e30])
def test_terms_of_every_ratio(at_level, dtype, ratio):
    """Rows of one pair each, p over q and q over p, against extended precision: no part of a term cancels.

    The Jensen-Shannon polynomials err by 3e-7, a product or logarithm in float32 by 2e-7 at the most.
    """
    small = np.array([1e-3, 0.02, 0.1, 0.3]) / ratio
    p = np.array([[x, 0.7, 0.0] for x in small] + [[x * ratio, 0.7, 0.0] for x in small])
    q = np.array([[x * ratio, 0.7, 0.0] for x in small] + [[x, 0.7, 0.0] for x in small])
    p, q = (np.concatenate([x[:, :2], np.full((8, 1), 1e-20)], axis=1).astype(dtype) for x in (p, q))
    values = kullback.compare(p, q, measures=FAMILY, normalize=True)
    for i in range(8):
        with mpmath.workdps(60):
            a, b = ([mpmath.mpf(float(x)) / mpmath.fsum(map(float, row)) for x in row] for row in (p[i], q[i]))
            pairs = list(zip(a, b, strict=True))
            expected = {
                "kl": mpmath.fsum(x * mpmath.log(x / y) for x, y in pairs),
                "reverse_kl": mpmath.fsum(y * mpmath.log(y / x) for x, y in pairs),
                "entropy_p": -mpmath.fsum(x * mpmath.log(x) for x in a),
                "entropy_q": -mpmath.fsum(x * mpmath.log(x) for x in b),
                "js": mpmath.fsum(z * mpmath.log(2 * z / (x + y)) for x, y in pairs for z in (x, y)) / 2,
            }
        for name in FAMILY:
            # a sum of almost 1 rounds in float64, which an entropy of 1e-13 shows
            tolerance = {"rtol": 1e-6 if dtype == np.float32 else 1e-13, "atol": 1e-16}
            np.testing.assert_allclose(values[name][i], float(expected[name]), **tolerance, err_msg=f"{name}, row {i}")

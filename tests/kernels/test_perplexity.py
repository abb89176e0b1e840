"""The bandwidth search and the symmetrisation at every SIMD level, against NumPy and extended precision."""

import mpmath
import numpy as np
import pytest
from scipy import sparse

from kullback import _kernels
from kullback.reference import affinities as reference


def search(level, distances, perplexity, n_threads=2, masses=None):
    """Run the kernel on distances of shape (n, k), and masses of the same shape if there are any."""
    n, k = distances.shape
    conditional = np.full(n * k, np.nan, dtype=distances.dtype)
    bandwidths, entropies = np.full(n, np.nan), np.full(n, np.nan)
    starts = np.arange(n + 1, dtype=np.int64) * k
    kernel = _kernels.load("perplexity", level).search_bandwidths
    flat = np.ascontiguousarray(distances).reshape(-1)
    weights = np.empty(0, distances.dtype) if masses is None else masses.astype(distances.dtype).reshape(-1)
    kernel(flat, weights, starts, perplexity, conditional, bandwidths, entropies, n_threads)
    return conditional.reshape(n, k), bandwidths, entropies


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "k", "perplexity"), [(1, 2, 1.5), (7, 7, 3), (65, 8, 2.5), (64, 9, 8.9), (257, 90, 30)])
def test_bandwidths_against_reference(level, n_threads, dtype, n, k, perplexity):
    """Conditional probabilities and bandwidths are those of the plain bisection."""
    distances = np.random.default_rng(k).gamma(3, size=(n, k)).astype(dtype)
    conditional, bandwidths, entropies = search(level, distances, perplexity, n_threads)
    expected, sigma = reference.conditional_probabilities(distances, perplexity)
    # the entropy is that of the perplexity to 1e-9; log(beta) is off by that over var t, which is above 1e-3 here
    assert np.abs(entropies - np.log(perplexity)).max() <= 1e-9
    np.testing.assert_allclose(bandwidths, sigma, rtol=1e-6)
    # 3e-6: beta d^2 reaches 700; below the smallest normal number float32 keeps fewer digits
    tiny = np.finfo(dtype).tiny
    np.testing.assert_allclose(conditional, expected, rtol=3e-6, atol=tiny)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "k", "perplexity"), [(7, 7, 3), (65, 8, 2.5), (257, 90, 30), (9, 8, 100)])
def test_neighbors_with_masses_against_reference(level, n_threads, dtype, n, k, perplexity):
    """The entropy is that of the rows that neighbours stand for; too few of them make a row uniform over these."""
    rng = np.random.default_rng(k)
    distances, masses = rng.gamma(3, size=(n, k)).astype(dtype), rng.uniform(0.1, 2, (n, k)).astype(dtype)
    conditional, bandwidths, entropies = search(level, distances, perplexity, n_threads, masses)
    expected, sigma = reference.conditional_probabilities(distances, perplexity, masses)
    reached = np.minimum(np.log(perplexity), np.log(masses.astype(float).sum(axis=1)))
    assert np.abs(entropies - reached).max() <= 1e-9
    np.testing.assert_allclose(bandwidths, np.minimum(sigma, 1e308), rtol=1e-6)
    np.testing.assert_allclose(conditional, expected, rtol=3e-6, atol=np.finfo(dtype).tiny)
    np.testing.assert_allclose(conditional.sum(axis=1), 1, rtol=1e-5)


def test_reference_against_extended_precision():
    """The NumPy twin agrees with a bisection in 40 digits that shares no code with it."""
    distances = np.random.default_rng(0).gamma(2, size=(3, 6))
    conditional, sigma = reference.conditional_probabilities(distances, 3.0)
    with mpmath.workdps(40):
        for row, p, s in zip(distances, conditional, sigma, strict=True):
            d = [mpmath.mpf(float(x)) for x in row]

            def weights(width, d=d):
                w = [mpmath.exp(-x * x / (2 * width * width)) for x in d]
                return [x / sum(w) for x in w]

            low, high = mpmath.mpf("1e-3"), mpmath.mpf("1e3")
            for _ in range(120):
                middle = mpmath.sqrt(low * high)
                entropy = -sum(q * mpmath.log(q) for q in weights(middle) if q > 0)
                low, high = (low, middle) if entropy > mpmath.log(3) else (middle, high)
            assert float(middle) == pytest.approx(s, rel=1e-12)  # 100 halvings of 1,400 reach eps; condition ~ 10
            assert [float(q) for q in weights(middle)] == pytest.approx(list(p), rel=1e-11)


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1e-40, 1, 1e30, 1e150, 1e300])
def test_any_scale(level, scale):
    """Multiplying the distances changes the bandwidths only; below 1e-300 the caller scales first."""
    distances = np.random.default_rng(1).gamma(3, size=(20, 30))
    plain, sigma, _ = search(level, distances, 10.0)
    if scale < 1e-300:
        conditional, _, _ = search(level, distances * scale, 10.0)
        assert (conditional == 1 / 30).all()
        return
    conditional, bandwidths, _ = search(level, distances * scale, 10.0)
    np.testing.assert_allclose(conditional, plain, rtol=1e-7)
    np.testing.assert_allclose(bandwidths, sigma * scale, rtol=1e-7)


def test_rows_that_cannot_reach_the_perplexity(level):
    """Equal distances, too few neighbours, more nearest ties than the perplexity, a far outlier."""
    k = 12
    rows = np.ones((5, k))
    rows[1] = 0
    rows[2, 6:] = 2  # six ties, perplexity 4: uniform over the ties
    rows[3] = np.arange(k) + 1.0
    rows[4] = np.arange(k) + 1.0
    rows[4, -1] = 1e30
    conditional, _, entropies = search(level, rows, 4.0)
    assert (conditional[:2] == 1 / k).all()
    np.testing.assert_allclose(conditional[2], [1 / 6] * 6 + [0] * 6, atol=1e-12)
    assert np.abs(entropies[3:] - np.log(4)).max() < 1e-9
    assert conditional[4, -1] < 1e-300
    np.testing.assert_allclose(conditional.sum(axis=1), 1, rtol=1e-14 * k)
    assert (search(level, rows, 12.0)[0] == 1 / k).all()
    assert (search(level, rows, 40.0)[0] == 1 / k).all()


@pytest.mark.parametrize("gap", [1e-3, 2e-9, 1e-12])
@pytest.mark.parametrize("outlier", 10.0 ** np.array([40, 70, 100, 104, 113, 115, 120, 125, 130, 140]))
def test_near_ties_beside_an_outlier(level, gap, outlier):
    """A bandwidth is found that is any number of times smaller than the largest distance, up to exp(350) times."""
    rows = np.ones((1, 24))
    rows[0, 1:11] += gap
    rows[0, 11:] = np.geomspace(1e8, outlier, 13)
    _, bandwidths, entropies = search(level, rows, 8.0)
    _, sigma = reference.conditional_probabilities(rows, 8.0)
    assert abs(entropies[0] - np.log(8)) <= 1e-9
    # Differences from the nearest are known to eps / gap of themselves, and so is the square of the bandwidth.
    np.testing.assert_allclose(bandwidths, sigma, rtol=1e-6 + 2.0**-52 / gap)


def test_threads_and_position_change_no_bit(level):
    """A row gives the same bytes on any thread count, alone or among others."""
    distances = np.random.default_rng(2).gamma(3, size=(300, 33)).astype(np.float32)
    runs = [search(level, distances, 10.0, n_threads) for n_threads in (1, 2, 3, 5)]
    assert len({b"".join(part.tobytes() for part in run) for run in runs}) == 1
    alone = search(level, distances[137:138], 10.0)
    assert alone[0].tobytes() == runs[0][0][137].tobytes()


def random_csr(n, density, dtype, seed):
    """Return CSR parts with unsorted columns and possibly empty rows."""
    rng = np.random.default_rng(seed)
    dense = (rng.random((n, n)) * (rng.random((n, n)) < density)).astype(dtype)
    matrix = sparse.csr_array(dense)
    columns, values = matrix.indices.astype(np.int32), matrix.data
    for i in range(n):
        part = slice(matrix.indptr[i], matrix.indptr[i + 1])
        order = rng.permutation(matrix.indptr[i + 1] - matrix.indptr[i])
        columns[part], values[part] = columns[part][order], values[part][order]
    return dense, (values, columns, matrix.indptr.astype(np.int64))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "density"), [(1, 1), (2, 0.6), (9, 0.5), (257, 0.05), (1030, 0.01)])
def test_symmetrize_against_dense(level, n_threads, dtype, n, density):
    """Transposing twice sorts; the sum with the transpose is the dense one, exactly symmetric."""
    kernel = _kernels.load("symmetrize", level)
    dense, parts = random_csr(n, density, dtype, seed=n)

    def transpose(values, columns, starts):
        out = np.empty_like(values), np.empty_like(columns), np.empty_like(starts)
        kernel.transpose(values, columns, starts, *out, np.empty_like(starts), n_threads)
        return out

    transposed = transpose(*parts)
    ordered = transpose(*transposed)
    for found, expected in ((transposed, dense.T), (ordered, dense)):
        matrix = sparse.csr_array(found, shape=(n, n))
        assert matrix.has_canonical_format
        np.testing.assert_array_equal(matrix.toarray(), expected)
    starts = np.empty(n + 1, dtype=np.int64)
    kernel.count_sums(*ordered[1:], *transposed[1:], starts, n_threads)
    values, columns = np.empty(starts[-1], dtype), np.empty(starts[-1], np.int32)
    kernel.add_scaled(ordered, transposed, 0.25, starts, values, columns, n_threads)
    total = sparse.csr_array((values, columns, starts), shape=(n, n))
    assert total.has_canonical_format
    expected = ((dense.astype(float) + dense.T.astype(float)) * 0.25).astype(dtype)
    np.testing.assert_array_equal(total.toarray(), expected)

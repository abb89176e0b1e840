"""Nearest neighbours: against the plain search, at any scale, with ties, on any number of threads."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from kullback import affinities
from kullback._faiss import faiss_settings
from kullback.reference import affinities as reference
from kullback.tsne.neighbors import NeighborIndex, nearest_neighbors


@pytest.fixture(scope="module")
def digits():
    """Return scikit-learn's digits."""
    return load_digits().data


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "d", "k"), [(2, 1, 1), (9, 3, 4), (257, 5, 20), (300, 50, 299)])
def test_exact_against_reference(n, d, k, dtype):
    """Indices are those of the plain search, and so are distances, to the rounding of float32."""
    X = np.random.default_rng(n).normal(size=(n, d)).astype(dtype)
    indices, distances = nearest_neighbors(X, k)
    expected, true = reference.nearest_neighbors(X, k)
    assert indices.dtype == np.int64
    assert distances.dtype == dtype
    assert indices.shape == expected.shape
    # A coordinate has a rounding error of eps / 2 of the scaled row, and distances are not much smaller than it.
    np.testing.assert_allclose(distances, true, rtol=2e-5)
    if k < 100:  # among more, some distances differ by less than that
        np.testing.assert_array_equal(indices, expected)


@pytest.mark.parametrize(
    ("scale", "offset"), [(1e-310, 0), (1e-40, 0), (1e30, 0), (1e300, 0), (1e-3, 1e6), (-1e20, 1e24)]
)
def test_scales_and_offsets(scale, offset):
    """Data far from the origin or from 1 keep their neighbours and their distances."""
    X = np.random.default_rng(0).integers(-100, 100, size=(200, 4)).astype(float)
    moved = X * scale + offset
    indices, distances = nearest_neighbors(moved, 10)
    _, true = reference.nearest_neighbors(X, 10)
    found = np.sqrt(((X[:, None] - X[indices]) ** 2).sum(axis=2))
    np.testing.assert_array_equal(np.sort(found), np.sort(true))
    # The data themselves are rounded: 100 keeps 7 digits beside 1e6, and so it does at 1e-310.
    np.testing.assert_allclose(distances / abs(scale), true, rtol=1e-5)


def test_one_far_outlier():
    """A row at 1e30 does not change the neighbours of the others, and has neighbours itself."""
    X = np.random.default_rng(0).normal(size=(100, 3))
    alone = nearest_neighbors(X, 5)
    outlier = np.vstack([X, [1e30, -1e30, 1e30]])
    indices, distances = nearest_neighbors(outlier, 5)
    np.testing.assert_array_equal(indices[:100], alone[0])
    np.testing.assert_allclose(distances[:100], alone[1], rtol=1e-5)
    assert distances[100] == pytest.approx([3**0.5 * 1e30] * 5)
    assert list(indices[100]) == [0, 1, 2, 3, 4]
    few = nearest_neighbors(np.array([[0.0], [1.0], [1e30], [-1e30]]), 2)
    np.testing.assert_array_equal(few[0], [[1, 2], [0, 2], [0, 1], [0, 1]])


def test_ties_are_sorted_by_index():
    """On a grid, where most distances are equal, equal distances are in the order of the index."""
    X = np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0)), axis=-1).reshape(-1, 2)
    indices, distances = nearest_neighbors(X, 24)
    keys = distances * 1e6 + indices
    assert (np.diff(distances, axis=1) >= 0).all()
    assert (np.diff(keys, axis=1)[np.diff(distances, axis=1) == 0] > 0).all()


def test_duplicates():
    """Copies of a row are its neighbours at distance 0. The row itself is not."""
    X = np.repeat(np.random.default_rng(0).normal(size=(4, 3)), 10, axis=0)
    indices, distances = nearest_neighbors(X, 5)
    assert (distances == 0).all()
    assert (indices != np.arange(40)[:, None]).all()
    assert (indices // 10 == np.arange(40)[:, None] // 10).all()
    constant = nearest_neighbors(np.ones((50, 2)), 7)
    assert (constant[1] == 0).all()
    assert (constant[0] != np.arange(50)[:, None]).all()


@pytest.mark.parametrize("method", ["exact", "approximate"])
def test_threads_change_no_bit(digits, method):
    """Results have the same bytes on 1, 2, 3 and 5 threads, and the settings of faiss are restored."""
    import faiss

    before = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold
    runs = [nearest_neighbors(digits, 30, method=method, n_threads=n) for n in (1, 2, 3, 5)]
    assert len({run[0].tobytes() + run[1].tobytes() for run in runs}) == 1
    assert (faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold) == before
    with pytest.raises(ZeroDivisionError), faiss_settings(5):
        raise ZeroDivisionError
    assert (faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold) == before


def test_recall_of_the_approximate_search(digits):
    """The approximate search finds 98 % of 30 neighbours in clustered data, and rows are complete in tiny lists."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(10_000, 8)) + 8 * rng.normal(size=(40, 8)).repeat(250, axis=0)
    exact = nearest_neighbors(X, 30, method="exact")[0][::50]
    found = nearest_neighbors(X, 30, method="approximate")[0][::50]
    recall = np.mean([len(np.intersect1d(a, b)) / 30 for a, b in zip(exact, found, strict=True)])
    assert recall >= 0.98
    indices, distances = nearest_neighbors(np.repeat(digits[:40], 3, axis=0), 100, method="approximate")
    assert indices.min() >= 0
    assert np.isfinite(distances).all()
    assert all(len(set(row)) == 100 for row in indices.tolist())


def test_k_is_at_most_the_other_rows():
    """If more neighbours are wanted than there are other rows, all other rows are returned."""
    indices, _ = nearest_neighbors(np.arange(5.0)[:, None], 50)
    assert indices.shape == (5, 4)


@pytest.mark.parametrize("metric", ["cosine", "manhattan", "chebyshev", "correlation", "hamming", "sqeuclidean"])
def test_other_metrics(digits, metric):
    """Distances are those of scikit-learn's brute-force search."""
    X = digits[:200] + 1
    indices, distances = nearest_neighbors(X, 8, metric=metric)
    true, _ = NearestNeighbors(n_neighbors=8, metric=metric, algorithm="brute").fit(X).kneighbors()
    np.testing.assert_allclose(distances, true, rtol=1e-4, atol=1e-6)
    assert (indices != np.arange(200)[:, None]).all()


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_metrics_of_distributions(digits, form):
    """Rows are divided by their sums. Hellinger and Jensen-Shannon distances follow their definitions."""
    counts = digits[:60]
    p = counts / counts.sum(axis=1, keepdims=True)
    middle = (p[:, None] + p) / 2

    def relative(a, b):
        return np.where(a > 0, a * np.log(np.where(a > 0, a, 1) / np.where(b > 0, b, 1)), 0).sum(axis=2)

    shannon = np.sqrt((relative(p[:, None] + 0 * p, middle) + relative(p + 0 * middle, middle)) / 2)
    hellinger = np.sqrt(((np.sqrt(p)[:, None] - np.sqrt(p)) ** 2).sum(axis=2) / 2)
    for metric, distances in (("jensen_shannon", shannon), ("hellinger", hellinger)):
        np.fill_diagonal(distances, np.inf)
        found, values = nearest_neighbors(form(counts), 7, metric=metric)
        np.testing.assert_allclose(values, np.sort(distances, axis=1)[:, :7], rtol=1e-5)
        assert (found != np.arange(60)[:, None]).all()
        with pytest.raises(ValueError, match="X must hold probabilities of at least 0"):
            nearest_neighbors(-counts, 7, metric=metric)
        with pytest.raises(ValueError, match=r"rows with a positive, finite sum, got 0\.0 in row 0"):
            nearest_neighbors(np.zeros((5, 3)), 2, metric=metric)


@pytest.mark.parametrize("scale", [1.0, 1e300, 1e-300])
@pytest.mark.parametrize("method", ["exact", "approximate"])
def test_inner_product(scale, method):
    """Neighbours have the largest products, and Gaussian weights of the distances are a softmax of the products."""
    X = np.random.default_rng(0).gamma(1, size=(200, 1)) * np.random.default_rng(1).normal(size=(200, 6))
    indices, distances = nearest_neighbors(X * scale, 10, metric="inner_product", method=method)
    products = X @ X.T
    np.fill_diagonal(products, -np.inf)
    np.testing.assert_array_equal(indices, np.argsort(-products, axis=1)[:, :10])
    products = np.take_along_axis(products, indices, axis=1)
    squared = (X**2).sum(axis=1, keepdims=True) + (X**2).sum(axis=1).max() - 2 * products
    np.testing.assert_allclose((distances / scale) ** 2, squared, rtol=1e-4, atol=1e-4)
    found, _, _ = NeighborIndex(sparse.csr_matrix(X), metric="inner_product").search(-X[:20] * 9, 5)
    np.testing.assert_array_equal(found.reshape(20, 5), np.argsort(X[:20] @ X.T, axis=1)[:, :5])


def test_zero_and_constant_rows():
    """Zeros are at cosine distance 1 from other rows, as constant rows are at correlation distance 1."""
    X = np.vstack([np.random.default_rng(0).normal(size=(20, 4)), np.zeros((2, 4))])
    indices, distances = nearest_neighbors(X, 21, metric="cosine")
    assert indices[20, 0] == 21
    assert distances[20, 0] == 0
    np.testing.assert_allclose(distances[20, 1:], 1, rtol=1e-6)
    true, _ = NearestNeighbors(n_neighbors=19, metric="cosine", algorithm="brute").fit(X[:20]).kneighbors()
    np.testing.assert_allclose(nearest_neighbors(X[:20], 19, metric="cosine")[1], true, rtol=1e-5, atol=1e-6)
    new = NeighborIndex(X[:20], metric="cosine").search(np.zeros((1, 4)), 3)
    np.testing.assert_allclose(new.distances, 1, rtol=1e-6)  # squares of float32
    distances = nearest_neighbors(X + 1, 21, metric="correlation")[1]
    assert (distances[20:] == 1).all()
    with pytest.raises(ValueError, match="metric must give a number for every two rows, got NaN"):
        nearest_neighbors(X, 3, metric=lambda a, b: float("nan"))


@pytest.mark.parametrize("method", ["exact", "approximate"])
@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1e300, 0), (1e-310, 0), (1e-3, 1e6)])
def test_new_rows_against_plain_search(scale, offset, method):
    """New rows, even farther out than float32 reaches, get the indices and distances of the plain search."""
    rng = np.random.default_rng(0)
    X, rows = rng.integers(-100, 100, size=(300, 4)).astype(float), rng.integers(-150, 150, size=(40, 4)).astype(float)
    index = NeighborIndex(X * scale + offset, method=method)
    found = index.search(rows * scale + offset, 12)
    between = np.sqrt(((rows[:, None] - X) ** 2).sum(axis=2))
    true = np.take_along_axis(between, found.columns.reshape(40, 12).astype(int), axis=1)
    np.testing.assert_array_equal(true, np.sort(between, axis=1)[:, :12])
    # 100 keeps 7 digits beside 1e6, and so it does at 1e-310.
    np.testing.assert_allclose(found.distances.reshape(40, 12) / scale, true, rtol=1e-5)
    if scale == 1:
        far = np.vstack([rows[:2], rows[:3] * 1e30, rows[:2] * 1e300])
        found = index.search(far, 5)
        np.testing.assert_allclose(found.distances.reshape(7, 5)[2:5, 0], np.linalg.norm(far[2:5], axis=1), rtol=1e-6)
        np.testing.assert_array_equal(found.distances[:10], index.search(far[:2], 5).distances)


@pytest.mark.parametrize("metric", ["cityblock", "hamming", "correlation", "jaccard", "seuclidean", "mahalanobis"])
def test_other_metrics_of_new_rows(digits, metric):
    """Distances from new rows are SciPy's, with parameters from the data, whatever the batch and the threads."""
    from scipy.spatial.distance import cdist

    X, rows = digits[:300, 10:40] > 6, digits[300:330, 10:40] > 6
    if metric not in ("jaccard", "hamming"):
        X, rows = (part + 0.1 * np.random.default_rng(0).random(part.shape) for part in (X, rows))
    options = {"V": np.var(X, axis=0, ddof=1)} if metric == "seuclidean" else {}
    options = {"VI": np.linalg.inv(np.cov(X.T)).T} if metric == "mahalanobis" else options
    between = cdist(rows, X, metric, **options)
    index = NeighborIndex(X, metric=metric)
    found = index.search(rows, 9)
    order = np.argsort(between, axis=1, kind="stable")[:, :9]
    np.testing.assert_array_equal(found.columns.reshape(30, 9), order)
    np.testing.assert_allclose(found.distances.reshape(30, 9), np.take_along_axis(between, order, axis=1), rtol=1e-12)
    alone = [index.search(rows[i : i + 1], 9, n_threads=1 + i % 3) for i in range(30)]
    np.testing.assert_array_equal(np.concatenate([graph.distances for graph in alone]), found.distances)
    own = [index.graph(9, n_threads=n) for n in (1, 2, 3)]
    assert len({graph.columns.tobytes() + graph.distances.tobytes() for graph in own}) == 1


def test_an_index_serves_every_perplexity(digits):
    """Affinities take an index, and an index can be extended."""
    index = NeighborIndex(digits[:300])
    expected = affinities.perplexity(digits[:300], 10)
    np.testing.assert_array_equal(affinities.perplexity(index, 10).P.toarray(), expected.P.toarray())
    larger = index.extend(digits[300:400])
    assert (index.shape, larger.shape) == ((300, 64), (400, 64))
    np.testing.assert_array_equal(larger.graph(5).columns, NeighborIndex(digits[:400]).graph(5).columns)
    with pytest.raises(ValueError, match=r"X must have shape \(n_rows, 64\), got shape \(4, 3\)"):
        index.search(np.ones((4, 3)), 2)
    with pytest.raises(ValueError, match="perplexity must be less than n_points = 300, got 300"):
        affinities.perplexity(index, 300)


def test_sparse_and_callable(digits):
    """Data may be sparse, and the metric a Python function."""
    X = digits[:100]
    expected = nearest_neighbors(X, 5)[1]
    np.testing.assert_allclose(nearest_neighbors(sparse.csr_matrix(X), 5)[1], expected, rtol=1e-5)
    found = nearest_neighbors(X, 5, metric=lambda a, b: float(np.sqrt(((a - b) ** 2).sum())))[1]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_precomputed():
    """Dense and sparse distances give the neighbours of the data, and the diagonal is not a neighbour."""
    X = np.random.default_rng(0).integers(0, 4, size=(60, 2)).astype(float)  # many ties and duplicates
    dense = np.sqrt(((X[:, None] - X) ** 2).sum(axis=2))
    expected = reference.nearest_neighbors(X, 12)
    for given in (dense, sparse.csr_array(dense + 1e-300), np.asfortranarray(dense)):
        indices, distances = nearest_neighbors(given, 12, metric="precomputed")
        np.testing.assert_array_equal(indices, expected[0])
        np.testing.assert_allclose(distances, expected[1], atol=1e-299)
    graph = NearestNeighbors(n_neighbors=20).fit(X).kneighbors_graph(mode="distance")
    np.testing.assert_allclose(nearest_neighbors(graph, 12, metric="precomputed")[1], expected[1])


@pytest.mark.parametrize(
    ("X", "options", "message"),
    [
        (np.array([[0.0], [np.nan]]), {}, "X must be finite, got NaN"),
        (np.array([[0.0], [np.inf]]), {}, "X must be finite, got infinity"),
        (np.ones((1, 3)), {}, "X must have shape"),
        (np.ones(3), {}, "X must have shape"),
        (np.ones((3, 2)), {"k": 0}, "k must be at least 1, got 0"),
        (
            np.ones((3, 2)),
            {"method": "fast"},
            "method must be one of 'auto', 'exact', 'approximate', got 'fast'",
        ),
        (np.ones((3, 2)), {"metric": "precomputed"}, "X must be a square matrix"),
        (-np.ones((3, 3)), {"metric": "precomputed"}, "X must hold distances of at least 0"),
        (
            sparse.csr_array((3, 3)),
            {"metric": "precomputed"},
            "at least 1 neighbour in every row, got none in row 0",
        ),
        (np.ones((3, 2)), {"n_threads": 0}, "n_threads"),
    ],
)
def test_errors(X, options, message):
    """Errors name the input and say what came."""
    with pytest.raises(ValueError, match=message):
        nearest_neighbors(X, **{"k": 2, **options})
    with pytest.raises(TypeError, match="X must hold real numbers"):
        nearest_neighbors(np.array([["a"], ["b"]]), 1)

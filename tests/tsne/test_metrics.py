"""Every documented metric, on large sparse data, in measures of quality and with parameters."""

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr

from kullback import affinities, quality
from kullback.neighbors import NeighborIndex, nearest_neighbors
from kullback.tsne import all_pairs, neighbors

METRICS = (
    "euclidean", "l2", "sqeuclidean", "cosine", "inner_product", "hellinger", "jensen_shannon", "manhattan",
    "chebyshev", "correlation", "braycurtis", "canberra", "seuclidean", "mahalanobis", "jaccard", "hamming",
)  # fmt: skip


def squared_difference(a, b):
    """Return a distance that is a function of two rows."""
    return float(((a - b) ** 2).sum())


@pytest.fixture
def counts():
    """Return counts without empty rows, with rows that are near each other, in CSR."""
    rng = np.random.default_rng(0)
    X = rng.poisson(1, size=(45, 12)) * 1.0
    X[:, 0] += 1
    X = np.vstack([X, X])
    return sparse.csr_array(X * (1 + 0.01 * rng.random(X.shape)))


@pytest.mark.parametrize("metric", [*METRICS, squared_difference])
def test_large_sparse_data(counts, metric, monkeypatch):
    """Rows that are too large to be made dense have the neighbours of the same dense rows, as new rows have."""
    new = counts[:7] * 1.5
    options = {"metric": metric}
    expected, found = nearest_neighbors(counts.toarray(), 8, **options), NeighborIndex(counts, **options).search(new, 5)
    monkeypatch.setattr(neighbors, "DENSE_ELEMENTS", 0)
    monkeypatch.setattr(all_pairs, "BLOCK_ELEMENTS", 500)  # several blocks
    indices, distances = nearest_neighbors(counts, 8, **options)
    # Roots of sums that cancel keep half of the digits, for Jensen-Shannon and the cosine of near rows.
    np.testing.assert_allclose(distances, expected[1], rtol=1e-7, atol=1e-9)
    assert np.mean(indices == expected[0]) > 0.98  # the others are ties
    index = NeighborIndex(counts, **options)
    for n_threads in (1, 3):
        large = index.search(new, 5, n_threads=n_threads)
        np.testing.assert_allclose(large.distances, found.distances, rtol=1e-7, atol=1e-9)


def test_zero_rows_of_large_sparse_data(counts, monkeypatch):
    """Rows of zeros are at cosine distance 1 from all others, and sparse duplicates at distance 0 from each other."""
    X = sparse.vstack([counts, sparse.csr_array((2, 12)), counts[:1]], format="csr")
    monkeypatch.setattr(neighbors, "DENSE_ELEMENTS", 0)
    indices, distances = nearest_neighbors(X, 92, metric="cosine")
    assert (indices[90, 0], distances[90, 0]) == (91, 0)
    np.testing.assert_allclose(distances[90, 1:], 1, rtol=1e-15)
    for scale in (1e-300, 1, 1e300):
        indices, distances = nearest_neighbors(X * scale, 1)
        assert (indices[92, 0], distances[92, 0]) == (0, 0)


@pytest.mark.parametrize("metric", METRICS)
def test_quality_in_every_metric(counts, metric):
    """Measures of quality know the metrics of the search for neighbours, on dense and on sparse rows."""
    X, Y = counts.toarray(), np.random.default_rng(2).normal(size=(90, 2))
    indices, distances = nearest_neighbors(X, 89, metric=metric)
    full = np.zeros((90, 90))
    np.put_along_axis(full, indices, distances, axis=1)
    expected = quality.trustworthiness(full, Y, n_neighbors=6, metric="precomputed")
    for rows in (X, counts):
        assert quality.trustworthiness(rows, Y, n_neighbors=6, metric=metric) == pytest.approx(
            expected, abs=1e-2
        )  # ties
        found = quality.distance_correlation(rows, Y, metric=metric)
        upper = np.triu_indices(90, 1)
        assert found == pytest.approx(spearmanr(full[upper], cdist(Y, Y)[upper]).statistic, abs=1e-4)
        assert 0 <= quality.continuity(rows, Y, n_neighbors=6, metric=metric) <= 1
        recall = quality.neighborhood_recall(rows, Y, metric=metric)
        assert quality.neighborhood_recall(rows, Y, metric=metric, sample=89) == pytest.approx(recall, abs=0.02)


def test_quality_of_groups_far_apart():
    """Ranks in groups that are far apart are those of the groups."""
    X = np.random.default_rng(0).normal(size=(200, 4)) + 1e9 * (np.arange(200) % 2)[:, None]
    for measure in (quality.trustworthiness, quality.continuity, quality.neighborhood_recall):
        assert measure(X, X) == 1
    assert quality.neighborhood_recall(X, X, sample=50) == 1


def test_mahalanobis_parameters():
    """V is the covariance, and VI its inverse; without either, the covariance is that of the data."""
    X = np.random.default_rng(0).normal(size=(60, 3)) @ np.random.default_rng(1).normal(size=(3, 3))
    V = np.cov(X.T)
    expected = nearest_neighbors(cdist(X, X, "mahalanobis", VI=np.linalg.inv(V)), 5, metric="precomputed")
    for params in (None, {"V": V}, {"VI": np.linalg.inv(V)}):
        indices, distances = nearest_neighbors(X, 5, metric="mahalanobis", metric_params=params)
        np.testing.assert_array_equal(indices, expected[0])
        np.testing.assert_allclose(distances, expected[1], rtol=1e-10)
    with pytest.raises(ValueError, match="covariances that can be inverted"):
        nearest_neighbors(np.c_[X, X[:, 0]], 5, metric="mahalanobis")
    with pytest.raises(ValueError, match="metric_params must be None for metric='hellinger'"):
        nearest_neighbors(np.abs(X), 5, metric="hellinger", metric_params={"p": 2})


def test_a_similarity_is_no_distance():
    """A metric that returns negative numbers is refused, unless they are rounding errors."""
    X = np.random.default_rng(0).normal(size=(30, 3))
    for similarity in (lambda a, b: -1.0, lambda a, b: float(a @ b)):
        with pytest.raises(ValueError, match=r"metric must give distances of at least 0, got -.*; a similarity is no"):
            affinities.perplexity(X, 5, metric=similarity)
        with pytest.raises(ValueError, match="metric must give distances of at least 0"):
            quality.trustworthiness(X, X, metric=similarity)

    def one_minus_cosine(a, b):
        return 1 - float(a @ b / np.sqrt((a @ a) * (b @ b))) - 1e-16

    twice = np.repeat(X, 2, axis=0)
    indices, distances = nearest_neighbors(twice, 1, metric=one_minus_cosine)
    np.testing.assert_array_equal(indices[:, 0], np.arange(60) ^ 1)
    assert distances.min() >= 0

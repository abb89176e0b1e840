"""Measures of quality: against scikit-learn and plain definitions, exact maps, samples, errors."""

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn import manifold
from sklearn.datasets import load_digits

from kullback.reference import affinities as reference
from kullback.tsne import neighbors, quality


@pytest.fixture(scope="module")
def pair():
    """Return 300 digits and a linear map of them."""
    X = load_digits().data[:300]
    return X, (X @ np.random.default_rng(0).normal(size=(64, 2))).astype(np.float32)


@pytest.mark.parametrize("k", [1, 5, 30, 149])
def test_trustworthiness_is_scikit_learns(pair, k):
    """Trustworthiness is that of scikit-learn, and continuity is the same with data and map exchanged."""
    X, Y = pair
    # Equal distances between digits may be ranked in another order, by at most k ranks of 300.
    expected = manifold.trustworthiness(X, Y, n_neighbors=k)
    assert quality.trustworthiness(X, Y, n_neighbors=k) == pytest.approx(expected, abs=2e-3)
    expected = manifold.trustworthiness(Y, X, n_neighbors=k)
    assert quality.continuity(X, Y, n_neighbors=k) == pytest.approx(expected, abs=2e-3)


def test_trustworthiness_without_ties():
    """On data without ties, the measures agree with scikit-learn's to rounding, in any metric."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(200, 5)), rng.normal(size=(200, 2))
    for metric in ("euclidean", "cosine", "manhattan"):
        expected = manifold.trustworthiness(X, Y, n_neighbors=7, metric=metric)
        assert quality.trustworthiness(X, Y, n_neighbors=7, metric=metric) == pytest.approx(expected, abs=1e-12)
    found = quality.trustworthiness(sparse.csr_matrix(X), Y, n_neighbors=7)
    assert found == pytest.approx(manifold.trustworthiness(X, Y, n_neighbors=7), abs=1e-12)


def test_recall_against_sets(pair):
    """Recall is the share of common neighbours, counted with sets."""
    X, Y = pair
    true, found = (reference.nearest_neighbors(rows, 10)[0] for rows in (X, Y))
    expected = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(true, found, strict=True)])
    assert quality.neighborhood_recall(X, Y) == pytest.approx(expected, abs=2e-3)
    assert quality.neighborhood_recall(neighbors.nearest_neighbors(X, 15), Y) == quality.neighborhood_recall(X, Y)


def test_distance_correlation_against_scipy(pair):
    """The measure is Spearman's correlation over all pairs, and a sample comes near it."""
    X, Y = pair
    for metric in ("euclidean", "cosine", "chebyshev"):
        expected = spearmanr(pdist(X, metric), pdist(Y)).statistic
        assert quality.distance_correlation(X, Y, metric=metric) == pytest.approx(expected, abs=1e-7)
        # Rounding parts equal distances. The error of a correlation over m pairs is about 1 / sqrt(m).
        assert quality.distance_correlation(X, Y, metric=metric, sample=5000) == pytest.approx(expected, abs=0.06)


def test_a_perfect_map():
    """Every measure is 1 if the map is the data, moved and scaled."""
    X = np.random.default_rng(0).normal(size=(400, 2))
    for measure in (quality.trustworthiness, quality.continuity, quality.neighborhood_recall):
        assert measure(X, X * 1e-3 + 5) == 1
    assert quality.distance_correlation(X, X * 3) == pytest.approx(1, abs=1e-12)


def test_samples_are_seeded_and_near(pair):
    """A sample of rows gives nearly the same number, and the same seed gives the same number."""
    X, Y = pair
    whole = quality.trustworthiness(X, Y)
    parts = [quality.trustworthiness(X, Y, sample=100, random_state=seed) for seed in (1, 1, 2)]
    assert parts[0] == parts[1] != parts[2]
    assert parts[0] == pytest.approx(whole, abs=0.05)


def test_recall_of_a_sample(pair):
    """A sample of all rows gives the full recall, a part gives nearly that, and the same seed the same number."""
    X, Y = pair
    whole = quality.neighborhood_recall(X, Y)
    assert quality.neighborhood_recall(X, Y, sample=300) == pytest.approx(whole, abs=2e-3)  # ties
    parts = [quality.neighborhood_recall(X, Y, sample=150, random_state=seed) for seed in (1, 1, 2)]
    assert parts[0] == parts[1] != parts[2]
    assert parts[0] == pytest.approx(whole, abs=0.03)  # the deviation of one row's recall is about 0.15


def test_ranks_counted_and_sorted(pair, monkeypatch):
    """Few neighbours are ranked by counting and many by sorting, with the same result."""
    X, Y = pair
    counted = quality.trustworthiness(X, Y, n_neighbors=20)
    monkeypatch.setattr(quality, "COUNTED_NEIGHBORS", 0)
    assert quality.trustworthiness(X, Y, n_neighbors=20) == counted


def test_duplicates_and_constant_data():
    """Only the correlation of equal distances is NaN."""
    X, Y = np.ones((30, 3)), np.random.default_rng(0).normal(size=(30, 2))
    assert 0 <= quality.trustworthiness(X, Y) <= 1
    assert 0 <= quality.neighborhood_recall(X, Y) <= 1
    assert np.isnan(quality.distance_correlation(X, Y))


def test_errors(pair):
    """Errors name sizes that do not fit."""
    X, Y = pair
    with pytest.raises(ValueError, match="embedding must have the 300 rows of X, got 299"):
        quality.trustworthiness(X, Y[:-1])
    with pytest.raises(ValueError, match="n_neighbors must be at most 149 for 300 points, got 150"):
        quality.trustworthiness(X, Y, n_neighbors=150)
    with pytest.raises(ValueError, match="n_neighbors must be at most 299"):
        quality.neighborhood_recall(X, Y, n_neighbors=300)
    with pytest.raises(TypeError, match="n_neighbors must be an integer"):
        quality.continuity(X, Y, n_neighbors=2.5)

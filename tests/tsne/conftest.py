"""Fixtures of the t-SNE tests."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_digits

import kullback
from kullback import _kernels, affinities
from kullback.tsne import barnes_hut, embedding, fft_repulsion, forces, gradient, initialization, permutations
from kullback.tsne import repulsion as _repulsion

KERNELS = (
    "attraction", "descent", "repulsion_exact", "repulsion_barnes_hut", "repulsion_fft", "tree", "z_order",
)  # fmt: skip


@pytest.fixture
def at_level(level, monkeypatch):
    """Run ``kullback.gradient`` and the descent on the kernels of one SIMD level."""
    for module in (_repulsion, barnes_hut, fft_repulsion, forces, gradient, embedding, permutations):
        for stem in KERNELS:
            if hasattr(module, stem):
                monkeypatch.setattr(module, stem, _kernels.load(stem, level))
    return level


@pytest.fixture
def make_affinities():
    """Return a function that makes a symmetric P with about ``n_neighbors`` entries a row."""

    def make(n_points, n_neighbors=5, seed=0):
        rng = np.random.default_rng(seed)
        weights = rng.random((n_points, n_points)) * (rng.random((n_points, n_points)) < n_neighbors / n_points)
        weights = np.triu(weights, 1)
        weights[0, -1] = 1  # never empty
        return sparse.csr_array((weights + weights.T) / (2 * weights.sum()))

    return make


@pytest.fixture(scope="session")
def few_digits():
    """Return the affinities of 300 digits, and their principal components as a start."""
    X = load_digits().data[:300]
    return affinities.perplexity(X, 15), initialization.pca(X, random_state=0)


@pytest.fixture(scope="session")
def sorted_points():
    """Return the affinities of 1,300 digits and a start. So many points are sorted along the Z-order curve."""
    X = load_digits().data[:1300]
    return affinities.perplexity(X, 10), initialization.pca(X, random_state=0)


@pytest.fixture(scope="session")
def old_and_new_digits():
    """Return 1,200 digits for a map and their labels, and 200 new digits and their labels."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))[:1400]
    return X[order[:1200]], y[order[:1200]], X[order[1200:]], y[order[1200:]]


@pytest.fixture(scope="session")
def fitted_digits(old_and_new_digits):
    """Return an estimator whose map has enough points for the grid of the potential."""
    return kullback.TSNE(random_state=0, max_iter=500).fit(old_and_new_digits[0])


@pytest.fixture(scope="session")
def blobs():
    """Return 80 points in five blobs, and an estimator with a small map of them."""
    X = np.random.default_rng(0).normal(size=(80, 5)) + 6 * np.eye(5)[np.arange(80) % 5]
    return X, kullback.TSNE(perplexity=8, max_iter=260, random_state=0, n_jobs=1).fit(X)

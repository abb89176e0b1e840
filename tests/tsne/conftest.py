"""Fixtures of the t-SNE tests."""

import numpy as np
import pytest
from scipy import sparse

from kullback import _kernels
from kullback.tsne import embedding, gradient
from kullback.tsne import repulsion as _repulsion

KERNELS = (
    "attraction", "descent", "repulsion_exact", "repulsion_barnes_hut", "repulsion_fft", "tree", "z_order",
)  # fmt: skip


@pytest.fixture
def at_level(level, monkeypatch):
    """Run ``kullback.gradient`` and the descent on the kernels of one SIMD level."""
    for module in (_repulsion, gradient, embedding):
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

"""Data sets that broke other implementations give a sane map or a clear error, and never NaN, a crash or a hang."""

import numpy as np
import pytest
from scipy import sparse

import kullback

RNG = np.random.default_rng(0)
BLOB = RNG.normal(size=(60, 3))


def ragged_graph():
    """Return a sparse graph of distances whose rows are unsorted and of different lengths."""
    dense = np.sqrt(((BLOB[:, None] - BLOB) ** 2).sum(axis=2))
    dense *= RNG.random(dense.shape) < 0.3
    dense[:, 0] = np.maximum(dense[:, 0], 0.1)
    dense[0, 1] = 0.5
    graph = sparse.csr_matrix(dense)
    for i in range(60):
        part = slice(graph.indptr[i], graph.indptr[i + 1])
        graph.indices[part], graph.data[part] = (
            graph.indices[part][::-1].copy(),
            graph.data[part][::-1].copy(),
        )
    graph.has_sorted_indices = False
    return graph


SANE = {
    "all duplicates": (np.ones((60, 3)), {}),
    "half duplicates": (np.repeat(BLOB[:30], 2, axis=0), {}),
    "two distinct rows": (np.repeat([[0.0], [1.0]], 30, axis=0), {}),
    "constant columns": (np.c_[BLOB, np.ones((60, 2)), np.zeros(60)], {}),
    "one outlier at 1e30": (np.vstack([BLOB, [1e30, 0, 0]]), {}),
    "an outlier at 1e300": (np.vstack([BLOB, [1e300, -1e300, 0]]), {}),
    "two far blobs": (np.vstack([BLOB, BLOB + 1e15]), {}),
    "subnormals": (BLOB * 1e-310, {}),
    "float32 subnormals": ((BLOB * 1e-40).astype(np.float32), {}),
    "huge": (BLOB * 1e300, {}),
    "far from the origin": (BLOB + 1e9, {}),
    "n = 2": (BLOB[:2], {"perplexity": 1}),
    "n = 3": (BLOB[:3], {"perplexity": 2}),
    "k >= n": (BLOB[:10], {"perplexity": 9}),
    "perplexity above n / 3": (BLOB, {"perplexity": 40}),
    "one feature": (BLOB[:, :1], {}),
    "10,000 features": (RNG.normal(size=(40, 10_000)), {}),
    "empty rows in CSR": (sparse.csr_matrix(BLOB * (np.arange(60) % 3 == 0)[:, None]), {}),
    "all zero CSR": (sparse.csr_matrix((60, 3)), {}),
    "unsorted CSR graph": (ragged_graph(), {"metric": "precomputed", "init": "random", "perplexity": 5}),
    "zero rows under cosine": (np.vstack([BLOB, np.zeros((2, 3))]), {"metric": "cosine"}),
    "coinciding init": (BLOB, {"init": np.zeros((60, 2))}),
    "a line": (np.arange(200.0)[:, None] * [1, 2, 3], {}),
}

ERRORS = {
    "n = 1": (BLOB[:1], {}, "minimum of 2"),
    "n = 0": (np.zeros((0, 3)), {}, "0 sample"),
    "no features": (np.zeros((5, 0)), {}, "0 feature"),
    "NaN": (np.where(BLOB > 2, np.nan, BLOB), {}, "NaN"),
    "infinity": (np.where(BLOB > 2, np.inf, BLOB), {}, "infinity"),
    "perplexity = n": (BLOB, {"perplexity": 60}, "perplexity must be less than n_samples"),
    "negative distances": (-np.ones((9, 9)), {"metric": "precomputed", "init": "random"}, "Negative values"),
    "distances not square": (np.ones((9, 8)), {"metric": "precomputed", "init": "random"}, "square"),
    "empty rows in a graph": (
        sparse.csr_matrix((9, 9)),
        {"metric": "precomputed", "init": "random", "perplexity": 2},
        "at least 1 neighbour",
    ),
    "unknown metric": (BLOB, {"metric": "nearness"}, "metric"),
    "pca of distances": (np.ones((9, 9)), {"metric": "precomputed", "perplexity": 2}, "init"),
}  # fmt: skip


@pytest.mark.parametrize("name", SANE)
@pytest.mark.parametrize("method", ["auto", "barnes_hut"])
def test_a_sane_map(name, method):
    """Positions are finite and have parted, and the loss is finite and did not grow."""
    X, options = SANE[name]
    options = {"perplexity": 10, "max_iter": 300, "random_state": 0, "n_jobs": 1, **options}
    with np.errstate(all="ignore"):
        estimator = kullback.TSNE(method=method, **options).fit(X)
    assert np.isfinite(estimator.embedding_).all()
    assert np.isfinite(estimator.kl_divergence_)
    assert np.abs(estimator.embedding_).max() < 1e5
    if name != "coinciding init":  # duplicates may end at one position, but not all points may
        assert len(np.unique(estimator.embedding_, axis=0)) > 1
    trace = estimator.loss_.kl_divergence
    assert trace[-1] <= trace[0] + 1e-6


@pytest.mark.parametrize("name", ERRORS)
def test_a_clear_error(name):
    """The message says what is wrong."""
    X, options, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        kullback.TSNE(**{"perplexity": 5, "max_iter": 10, **options}).fit(X)

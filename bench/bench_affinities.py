"""Neighbours, bandwidths and P beside peers. Run with ``--full --benchmark-enable`` to get figures.

The data are clusters of Gaussians with 50 features. There are 63,000 rows with ``--full``, and 400 without.
"""

import numpy as np
import pytest
from scipy import sparse

from kullback import affinities, neighbors
from kullback.reference import affinities as reference
from kullback.tsne import joint

THREADS = 2


@pytest.fixture(scope="module")
def data(full):
    """Return rows in float32."""
    n_points = 63_000 if full else 400
    rng = np.random.default_rng(0)
    centres = 3 * rng.normal(size=(100, 50)) / np.arange(1, 51) ** 0.5
    return (centres[rng.integers(100, size=n_points)] + rng.normal(size=(n_points, 50))).astype(np.float32)


@pytest.fixture(scope="module")
def graph(data):
    """Return the graph of 90 neighbours."""
    return neighbors.neighbor_graph(data, 90, n_threads=THREADS)


@pytest.mark.parametrize("method", ["exact", "approximate"])
def bench_neighbors(benchmark, data, full, method):
    """Search for 90 neighbours. The recall of 500 rows is in extra_info."""
    options = {"rounds": 1 if method == "exact" else 3, "warmup_rounds": 0 if full else 1}
    run = benchmark.pedantic(
        neighbors.nearest_neighbors, (data, 90), {"method": method, "n_threads": THREADS}, **options
    )
    rows = np.linspace(0, len(data) - 1, min(500, len(data))).astype(int)
    hits = []
    for row in rows:
        among = ((data.astype(np.float64) - data[row]) ** 2).sum(axis=1)
        among[row] = np.inf
        hits.append(np.isin(np.argpartition(among, 90)[:90], run[0][row]).mean())
    benchmark.extra_info["recall"] = float(np.mean(hits))
    assert np.mean(hits) > (0.999 if method == "exact" else 0.9)


def bench_bandwidths(benchmark, graph, full):
    """Search the bandwidths of 90 neighbours. The aim is 0.15 s for 63,000 rows."""
    conditional, _ = benchmark(joint.search_bandwidths, graph, 30.0, THREADS)
    rows = slice(0, 90 * 50)
    expected, _ = reference.conditional_probabilities(graph.distances[rows].reshape(50, 90), 30.0)
    np.testing.assert_allclose(conditional[rows].reshape(50, 90), expected, rtol=1e-4, atol=1e-30)


def bench_bandwidths_scikit_learn(benchmark, graph):
    """Time scikit-learn's search of the same bandwidths, which has one thread."""
    utils = pytest.importorskip("sklearn.manifold._utils")
    squared = graph.distances.reshape(-1, 90) ** 2
    found = benchmark.pedantic(utils._binary_search_perplexity, (squared, 30.0, 0), rounds=1)
    assert np.abs(found.sum(axis=1) - 1).max() < 1e-4


def bench_symmetrize(benchmark, graph):
    """Time the step from conditional to joint probabilities."""
    conditional, _ = joint.search_bandwidths(graph, 30.0, THREADS)
    P = benchmark(joint.symmetrize, conditional, graph, THREADS)
    expected = join_with_scipy(conditional, graph)
    assert abs(P - expected).max() <= 1e-6 * expected.max()


def join_with_scipy(conditional, graph):
    """Return (C + C^T) / 2n with sorted indices, by SciPy."""
    n_points = len(graph.row_starts) - 1
    C = sparse.csr_array((conditional, graph.columns, graph.row_starts), shape=(n_points, n_points))
    P = (C + C.T.tocsr()) / (2 * n_points)
    P.sort_indices()
    return P


def bench_symmetrize_scipy(benchmark, graph):
    """Time the same step with SciPy's operators."""
    conditional, _ = joint.search_bandwidths(graph, 30.0, THREADS)
    P = benchmark.pedantic(join_with_scipy, (conditional, graph), rounds=1)
    assert P.has_sorted_indices


def bench_perplexity(benchmark, data):
    """Time the way from data to P."""
    found = benchmark.pedantic(affinities.perplexity, (data, 30), {"n_threads": THREADS}, rounds=1)
    assert found.P.sum() == pytest.approx(1, abs=1e-5)


def bench_perplexity_openTSNE(benchmark, data):
    """Time openTSNE's way from data to P."""
    openTSNE = pytest.importorskip("openTSNE")
    found = benchmark.pedantic(
        openTSNE.affinity.PerplexityBasedNN, (data,), {"perplexity": 30, "n_jobs": THREADS}, rounds=1
    )
    assert found.P.sum() == pytest.approx(1, abs=1e-5)

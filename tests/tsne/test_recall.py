"""The recall of searches: it is reached, reported with its error, and kept by everything that is made from a graph."""

import copy
import pickle

import numpy as np
import pytest
from scipy import sparse

import kullback
from kullback import affinities, neighbors
from kullback._recall import Recall, count_lists, measure_recall, rising_efforts, sample_rows
from kullback._search import ALL_LISTS, EuclideanSearch
from kullback.neighbors import NeighborIndex, neighbor_graph
from kullback.tsne.metric_searches import EuclideanForm

N_POINTS, K = 6_600, 15


def draw_rows(kind, n_points):
    """Return data whose lists hold few of the neighbours, in one of several kinds."""
    rng = np.random.default_rng(len(kind))
    if kind == "topics":
        return rng.dirichlet(np.full(60, 0.1), n_points)
    if kind == "uniform":
        return rng.random((n_points, 20))
    return rng.normal(size=(n_points, 20)).astype(np.float32) * rng.gamma(4, size=(n_points, 1)).astype(np.float32)


def true_recall(graph, X, metric="euclidean"):
    """Return the share of the true neighbours that a graph holds, in 400 rows."""
    rows = np.random.default_rng(5).choice(len(X), 400, replace=False)
    true = NeighborIndex(X, metric=metric, method="exact").search(X[rows], K + 1)
    others = np.where(true.columns.reshape(-1, K + 1) == rows[:, None], np.inf, true.distances.reshape(-1, K + 1))
    limits = np.sort(others, axis=1)[:, K - 1 : K]
    return float(np.mean(graph.distances.reshape(-1, K)[rows] <= limits * (1 + 1e-6)))


@pytest.mark.parametrize(
    ("kind", "metric"),
    [("gauss", "euclidean"), ("uniform", "euclidean"), ("topics", "hellinger"), ("gauss", "cosine"),
     ("gauss", "inner_product")],
)  # fmt: skip
def test_recall_is_reached_and_reported(kind, metric):
    """A search finds the share of the neighbours that is wanted, and reports it to within the errors of two samples."""
    X = draw_rows(kind, N_POINTS)
    graph = neighbor_graph(X, K, metric=metric, method="approximate")
    found = true_recall(graph, X, metric)
    assert found >= 0.95
    assert abs(graph.recall.value - found) <= 6 * graph.recall.error
    assert 0.02 > graph.recall.error > 0 or graph.recall == (1, 0)


def test_the_least_effort_would_not_do():
    """Without a recall to reach, the same data are searched in 16 lists, which hold too few of the neighbours."""
    X = draw_rows("uniform", N_POINTS)
    graph = neighbor_graph(X, K, method="approximate", recall=0.1)
    assert 0.5 < true_recall(graph, X) < 0.93
    assert abs(graph.recall.value - true_recall(graph, X)) <= 6 * graph.recall.error


def test_recall_of_one_is_exact():
    """With recall=1 all distances are compared, whatever the method."""
    X = draw_rows("uniform", 3_000)
    found, exact = (neighbor_graph(X, K, method="approximate", recall=1), neighbor_graph(X, K, method="exact"))
    np.testing.assert_array_equal(found.columns, exact.columns)
    np.testing.assert_array_equal(found.distances, exact.distances)
    assert found.recall == exact.recall == (1.0, 0.0)


def test_threads_and_batches_change_no_bit():
    """A raised effort gives the same bits on any number of threads, in any order of calls and by batches."""
    X = draw_rows("gauss", N_POINTS)
    options = {"method": "approximate", "recall": 0.97}
    runs = [neighbor_graph(X, K, n_threads=n, **options) for n in (1, 3)]
    assert len({run.columns.tobytes() + run.distances.tobytes() + repr(run.recall).encode() for run in runs}) == 1
    assert runs[0].recall.value < 1
    first, second = NeighborIndex(X, **options), NeighborIndex(X, **options)
    rows = draw_rows("uniform", 12).astype(np.float32)
    first.graph(7)
    together = first.search(rows, K)
    alone = [second.search(rows[i : i + 1], K, n_threads=1 + i % 3) for i in range(len(rows))]
    np.testing.assert_array_equal(np.concatenate([graph.columns for graph in alone]), together.columns)
    np.testing.assert_array_equal(np.concatenate([graph.distances for graph in alone]), together.distances)
    again = pickle.loads(pickle.dumps(first)).search(rows, K)
    np.testing.assert_array_equal(again.columns, together.columns)
    assert again.recall == together.recall == runs[0].recall


@pytest.mark.parametrize("kind", ["copies", "groups", "outliers"])
def test_hard_data(kind):
    """Copies of rows, groups that float32 cannot resolve and rows that it cannot hold are counted as they are."""
    X = draw_rows("uniform", 4_000)
    if kind == "copies":
        X = np.repeat(X[:40], 100, axis=0)
    elif kind == "groups":
        X[:2_000] += 1e9
    else:
        X[::100] *= 1e30
    graph = neighbor_graph(X, K, method="approximate")
    assert true_recall(graph, X) >= 0.95
    assert graph.recall.value >= 0.95
    assert kind != "copies" or graph.recall == (1, 0)


def test_sample_and_efforts():
    """Samples are rows without repetition, and efforts rise from the least one as long as lists are worth it."""
    for n_points in (2, 65, 3_000, 10_000, 1_000_000):
        rows = sample_rows(n_points, 7)
        assert len(np.unique(rows)) == len(rows) == min(n_points, len(rows))
        assert (rows == sample_rows(n_points, 7)).all()
        assert 0 <= rows.min() <= rows.max() < n_points
    assert list(rising_efforts(64, 3, 0.7)) == [16, 24, 36]
    assert list(rising_efforts(64, 60, 0.7)) == [60]
    assert list(rising_efforts(16, 3, 0.7)) == []
    assert (count_lists(63_000), count_lists(12_000), count_lists(1)) == (256, 64, 1)
    true = np.array([[1.0, 2.0], [1.0, 1.0], [0.0, 0.0]])
    assert measure_recall(true, true) == (1, 0)
    value, error = measure_recall(np.array([[1.0, 3.0], [1.0, 1.0 + 1e-9], [0.0, 0.0]]), true)
    assert value == pytest.approx(5 / 6)
    assert error == pytest.approx(np.std([0.5, 1, 1], ddof=1) / 3**0.5)


def test_rows_that_ask_are_sampled():
    """The effort for inner products is measured with rows as they ask, which differ from rows as they are found."""
    X = draw_rows("gauss", N_POINTS)
    index = NeighborIndex(X, metric="inner_product", method="approximate")
    recall = index.graph(K).recall
    form = EuclideanForm(X, "inner_product")
    points, asking = form.derive(X, asking=False), form.derive(X, asking=True)
    search = EuclideanSearch(points, exact=False, n_threads=2)
    rows = sample_rows(len(X), search.seed)
    n_probes, _ = index._search.search.choose_effort(K, 2)
    found, true = (search._find(asking[rows], rows, K, n, 2)[1] for n in (n_probes, ALL_LISTS))
    assert recall == (measure_recall(found, true) if n_probes else Recall(1, 0))


def test_what_was_given_or_compared_with_all():
    """Graphs of given neighbours have no recall, and those of metrics that compare all pairs have found all."""
    X = np.random.default_rng(0).random((60, 5))
    graph = neighbor_graph(X, 6)
    lists = neighbors.nearest_neighbors(X, 6)
    assert neighbor_graph(lists, 5).recall is None
    assert neighbor_graph(sparse.csr_array(X @ X.T), 5, metric="precomputed").recall is None
    for found in (graph, neighbor_graph(X, 5, metric="manhattan"), neighbor_graph(X @ X.T, 5, metric="precomputed"),
                  neighbor_graph(sparse.csr_array(X), 5), NeighborIndex(X).search(X, 3)):  # fmt: skip
        assert found.recall == (1, 0)
    assert "60 points, 360 edges, recall 1.0000 ± 0.0000" in repr(graph)
    assert affinities.given(X @ X.T).recall is None


def test_a_graph_keeps_its_recall():
    """Affinities, copies, pickles and fitted maps say how good the search was that they came from."""
    X = draw_rows("uniform", 400)
    graph = neighbor_graph(X, K)._replace(distances=neighbor_graph(X, K).distances)
    assert graph.recall is None  # of other distances, nothing is known
    graph = neighbors.Graph(*graph, recall=Recall(0.97, 0.01))
    columns, distances, row_starts = graph
    assert (len(columns), len(distances), len(row_starts)) == (6_000, 6_000, 401)
    for other in (copy.copy(graph), copy.deepcopy(graph), pickle.loads(pickle.dumps(graph))):
        assert isinstance(other, neighbors.Graph)
        assert other.recall == (0.97, 0.01)
    joint = affinities.perplexity(graph, 10)
    found = [affinities.perplexity(graph, 5), affinities.multiscale(graph, [5, 10]), affinities.uniform(graph, 5),
             affinities.fixed_sigma(graph, 0.5), affinities.supervise(joint, np.arange(400) % 2)]  # fmt: skip
    assert all(one.recall == (0.97, 0.01) for one in [joint, *found, pickle.loads(pickle.dumps(joint))])
    tsne = kullback.TSNE(perplexity=5, max_iter=1).fit(X)
    assert tsne.recall_ == tsne.affinities_.recall == (1, 0)
    assert tsne.partial_fit(X[:5] + 0.1).recall_ == (1, 0)


SEARCHES = {
    "nearest_neighbors": lambda X, r: neighbors.nearest_neighbors(X, 2, recall=r),
    "neighbor_graph": lambda X, r: neighbor_graph(X, 2, recall=r),
    "lists": lambda X, r: neighbor_graph(neighbors.nearest_neighbors(X, 2), 2, recall=r),
    "NeighborIndex": lambda X, r: NeighborIndex(X, recall=r),
    "perplexity": lambda X, r: affinities.perplexity(X, 2, recall=r),
    "graph": lambda X, r: affinities.perplexity(neighbor_graph(X, 6), 2, recall=r),
    "multiscale": lambda X, r: affinities.multiscale(X, [2], recall=r),
    "uniform": lambda X, r: affinities.uniform(X, 2, recall=r),
    "fixed_sigma": lambda X, r: affinities.fixed_sigma(X, 1.0, n_neighbors=2, recall=r),
    "TSNE": lambda X, r: kullback.TSNE(perplexity=2, max_iter=1, recall=r).fit(X),
    "sweep": lambda X, r: kullback.sweep(X, perplexities=[2], max_iter=1, warm_iter=1, recall=r),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_recalls_that_are_none(name):
    """A recall outside of (0, 1] is refused by whatever searches."""
    X = np.random.default_rng(0).random((20, 3))
    SEARCHES[name](X, np.float32(0.5))
    for value in (0, -0.5, 1.01, float("nan")):
        with pytest.raises(ValueError, match=r"recall must be in \(0, 1\], got"):
            SEARCHES[name](X, value)
    for value in ("high", True, None):
        with pytest.raises(TypeError, match="recall must be a real number"):
            SEARCHES[name](X, value)

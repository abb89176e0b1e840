"""``TSNE.transform`` in other metrics and dimensions, on hard data, and what it refuses."""

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier, KNeighborsTransformer
from sklearn.pipeline import make_pipeline

import kullback
from kullback.tsne import placement

METRICS = [
    "euclidean", "sqeuclidean", "cosine", "inner_product", "manhattan", "chebyshev", "correlation", "hamming",
    "jaccard", "hellinger", "jensen_shannon", "mahalanobis", lambda a, b: float(np.abs(a - b).max()),
]  # fmt: skip


@pytest.mark.parametrize("metric", METRICS, ids=[m if isinstance(m, str) else "callable" for m in METRICS])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_metrics(metric, form):
    """In every metric, rows get finite positions that depend on nothing else, and rows of the map get their own."""
    rng = np.random.default_rng(0)
    X = rng.poisson(1.0, size=(60, 6)).astype(float) + np.eye(6)[np.arange(60) % 6] * 3  # with ties and duplicates
    X_new = rng.poisson(1.0, size=(12, 6)).astype(float) + 3 * np.eye(6)[0]
    options = {"perplexity": 5, "max_iter": 60, "random_state": 0, "metric": metric, "init": "random"}
    model = kullback.TSNE(**options, n_jobs=1).fit(form(X))
    np.testing.assert_array_equal(kullback.TSNE(**options, n_jobs=3).fit_transform(form(X)), model.embedding_)
    placed = model.transform(form(X_new))
    assert np.isfinite(placed).all()
    rows = sparse.csr_matrix(X_new)
    alone = [model.set_params(n_jobs=1 + i % 3).transform(rows[i]) for i in range(12)]
    np.testing.assert_array_equal(np.vstack(alone), placed)
    first = [int(np.flatnonzero((row == X).all(axis=1))[0]) for row in X]
    np.testing.assert_array_equal(model.transform(X), model.embedding_[first])


def test_distances_that_are_given(blobs):
    """Distances, dense and sparse, give the positions that rows give. A row at distance 0 is that row."""
    X, _ = blobs
    rows = np.vstack([X[5] + 0.2, X[7] - 0.1, X[3]])
    options = {"perplexity": 8, "max_iter": 260, "random_state": 0, "n_jobs": 1, "init": "random"}
    by_rows = kullback.TSNE(**options).fit(X)
    own = np.linalg.norm(X[:, None] - X, axis=2)
    between = np.linalg.norm(rows[:, None] - X, axis=2)
    for form in (np.asarray, sparse.csr_matrix):
        model = kullback.TSNE(metric="precomputed", **options).fit(own)
        model.embedding_ = by_rows.embedding_
        model._keep_map(model._map.index)
        given = between if form is np.asarray else sparse.csr_matrix(np.maximum(between, 1e-300))
        placed = model.transform(given)
        np.testing.assert_allclose(
            placed[:2], by_rows.transform(rows)[:2], atol=1e-2
        )  # the rows have float32 distances
        if form is np.asarray:
            np.testing.assert_array_equal(placed[2], model.embedding_[3])
        with pytest.raises(ValueError, match="Negative values"):
            model.transform(-between)
    assert not hasattr(model, "partial_fit")
    with pytest.raises(ValueError, match=r'metric must not be "precomputed" where rows are added'):
        model._map.index.extend(own)
    with pytest.raises(ValueError, match="X must hold distances of at least 0, got -"):
        model._map.index.search(-between, 3)


def test_pipeline_with_a_transformer_of_neighbours(old_and_new_digits):
    """In a map of a graph from scikit-learn, new digits are classified well, and do not depend on their batch."""
    X, y, X_new, y_new = (
        old_and_new_digits[0][:400],
        old_and_new_digits[1][:400],
        old_and_new_digits[2],
        old_and_new_digits[3],
    )
    graph = KNeighborsTransformer(mode="distance", n_neighbors=60)
    tsne = kullback.TSNE(metric="precomputed", init="random", random_state=0, perplexity=20, max_iter=500)
    pipe = make_pipeline(graph, tsne).fit(X)
    placed = pipe.transform(X_new)
    assert KNeighborsClassifier(1).fit(tsne.embedding_, y).score(placed, y_new) > 0.9
    np.testing.assert_array_equal(pipe.transform(X_new[:1]), placed[:1])


@pytest.mark.parametrize("n_components", [1, 3, 4])
def test_other_dimensions(n_components):
    """The repulsion is read off a grid in one to three dimensions, and summed over all points in four."""
    X = np.random.default_rng(0).normal(size=(1010, 4))
    options = {"max_iter": 5, "perplexity": 5, "random_state": 0, "init": 5 * X[:, :n_components]}
    model = kullback.TSNE(n_components, **options).fit(X)
    rows = np.random.default_rng(1).normal(size=(20, 4))
    placed = model.transform(rows)
    assert placed.shape == (20, n_components)
    # The map is nearly its start, so positions are near five times the first coordinates.
    assert np.median(np.abs(placed - 5 * rows[:, :n_components])) < 5


def test_pickle_and_output_containers(old_and_new_digits, fitted_digits):
    """A pickle transforms to the same bits. Data frames are returned on request, with scores beside them."""
    pandas = pytest.importorskip("pandas")
    X_new = old_and_new_digits[2][:20]
    expected = fitted_digits.transform(X_new)
    restored = pickle.loads(pickle.dumps(fitted_digits))
    np.testing.assert_array_equal(restored.transform(X_new), expected)
    frame, scores = restored.set_output(transform="pandas").transform(X_new, return_scores=True)
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ["tsne0", "tsne1"]
    assert scores.shape == (20,)
    np.testing.assert_array_equal(frame, expected)


HARD = {
    "far outlier": lambda X: X[:2] + 1e30,
    "farther": lambda X: X[:2] * 1e300,
    "subnormal": lambda X: X[:2] * 1e-310,
    "duplicates": lambda X: np.repeat(X[:1] + 0.25, 5, axis=0),
    "between two": lambda X: (X[:3] + X[3:6]) / 2,
    "integers": lambda X: X[:3].astype(int),
    "float16": lambda X: X[:3].astype(np.float16),
    "bool": lambda X: X[:3] > 0,
    "list": lambda X: (X[:3] + 0.1).tolist(),
    "F-order": lambda X: np.asfortranarray(X[:5] + 0.1),
    "strided": lambda X: np.repeat(X[:5] + 0.1, 2, axis=1)[:, ::2],
    "empty sparse rows": lambda X: sparse.csr_matrix((3, X.shape[1])),
    "csc": lambda X: sparse.csc_array(X[:3] + 0.1),
}


@pytest.mark.parametrize("name", HARD)
def test_hard_rows(blobs, name):
    """Hard rows get finite positions within the margin of the map, and equal rows get the same position."""
    X, model = blobs
    rows = HARD[name](X)
    placed, scores = model.transform(rows, return_scores=True)
    assert np.isfinite(placed).all()
    assert not np.isnan(scores).any()
    low, high = model.embedding_.min(axis=0), model.embedding_.max(axis=0)
    assert (placed >= low - placement.MARGIN - 1e-3).all()
    assert (placed <= high + placement.MARGIN + 1e-3).all()
    if name == "duplicates":
        assert len(np.unique(placed, axis=0)) == 1
    if "far" in name:
        assert scores.min() > 1e20


MAPS = {
    "far outlier in the map": np.vstack([np.random.default_rng(0).normal(size=(30, 2)), [[1e30, 0]]]),
    "two scales": np.vstack([np.random.default_rng(0).normal(size=(20, 2)) * s for s in (1, 1e20)]),
    "all duplicates": np.ones((20, 2)),
    "two points": np.array([[0.0, 1.0], [1.0, 0.0]]),
    "huge": np.random.default_rng(0).normal(size=(30, 2)) * 1e300,
    "tiny": np.random.default_rng(0).normal(size=(30, 2)) * 1e-310,
}


@pytest.mark.parametrize("name", MAPS)
def test_hard_maps(name):
    """In maps of hard data, new rows of every scale get finite positions, the same as each gets alone."""
    X = MAPS[name]
    model = kullback.TSNE(perplexity=min(5, len(X) - 1), max_iter=260, random_state=0).fit(X)
    rows = np.vstack([X[:2] * 1.01, [[0.5, 0.5], [1e31, 1e3], [-1e305, 3], [1e-320, 0]]])
    placed, scores = model.transform(rows, return_scores=True)
    assert np.isfinite(placed).all()
    assert not np.isnan(scores).any()
    np.testing.assert_array_equal(np.vstack([model.transform(row[None]) for row in rows]), placed)


def test_errors(blobs):
    """Errors name an unfitted estimator, NaN, infinity, wrong features and shapes, and strings."""
    X, model = blobs
    with pytest.raises(NotFittedError):
        kullback.TSNE().transform(X)
    for bad, message in (
        (np.where(X > 2, np.nan, X), "NaN"),
        (np.where(X > 2, np.inf, X), "infinity"),
        (X[:, :-1], "4 features"),
        (sparse.csr_matrix(X[:, :-1]), "4 features"),
        (X[0], "2D array"),
        (X[:0], "0 sample"),
    ):
        with pytest.raises(ValueError, match=message):
            model.transform(bad)
    with pytest.raises(ValueError, match="convert string"):
        model.transform(np.full((2, 5), "a"))
    single = kullback.TSNE(perplexity=3, max_iter=10).fit(X.astype(np.float32))
    with pytest.raises(ValueError, match="X must be finite, got infinity"):
        single.transform(X * 1e300)

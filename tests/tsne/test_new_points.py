"""``TSNE.transform`` and ``partial_fit``: rows by themselves, rows of the map, scores, chunks, growth, hard rows."""

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier, KNeighborsTransformer
from sklearn.pipeline import make_pipeline

import kullback
from kullback import affinities
from kullback import reference as ref
from kullback.neighbors import NeighborIndex
from kullback.tsne import equal_rows, placement


@pytest.fixture(scope="module")
def digits():
    """Return 1,200 digits for the map and 200 new ones, with their labels."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))[:1400]
    return X[order[:1200]], y[order[:1200]], X[order[1200:]], y[order[1200:]]


@pytest.fixture(scope="module")
def fitted(digits):
    """Return an estimator whose map has enough points for the grid."""
    return kullback.TSNE(random_state=0, max_iter=500).fit(digits[0])


@pytest.fixture(scope="module")
def small():
    """Return a map of 80 blobs' points, fitted in little time."""
    X = np.random.default_rng(0).normal(size=(80, 5)) + 6 * np.eye(5)[np.arange(80) % 5]
    return X, kullback.TSNE(perplexity=8, max_iter=260, random_state=0, n_jobs=1).fit(X)


def test_new_digits_are_placed_among_their_like(digits, fitted):
    """By 1 neighbour in the map, new digits are recognised as well as when all are embedded together."""
    X, y, X_new, y_new = digits
    placed = fitted.transform(X_new)
    assert placed.dtype == np.float32
    together = kullback.TSNE(random_state=0, max_iter=500).fit_transform(np.vstack([X, X_new]))
    alone = KNeighborsClassifier(1).fit(fitted.embedding_, y).score(placed, y_new)
    assert alone >= KNeighborsClassifier(1).fit(together[:1200], y).score(together[1200:], y_new) - 0.01


def test_a_row_does_not_depend_on_its_batch(digits, fitted):
    """The same bits alone, in any order, any part, any chunk and on any number of threads."""
    X_new = digits[2]
    expected, scores = fitted.transform(X_new, return_scores=True)
    order = np.random.default_rng(1).permutation(200)
    np.testing.assert_array_equal(fitted.transform(X_new[order]), expected[order])
    for size in (1, 2, 19, 20, 21):
        parts = [fitted.transform(X_new[i : i + size], return_scores=True) for i in range(0, 63, size)]
        np.testing.assert_array_equal(np.concatenate([part[0] for part in parts])[:63], expected[:63])
        np.testing.assert_array_equal(np.concatenate([part[1] for part in parts])[:63], scores[:63])
    with_others = np.vstack([X_new[:50], 1e-200 * X_new[:5] + 1, digits[0][:7], 1e200 * X_new[:3]])
    np.testing.assert_array_equal(fitted.transform(with_others)[:50], expected[:50])
    for n_jobs in (1, 2, 3):
        copy = pickle.loads(pickle.dumps(fitted)).set_params(n_jobs=n_jobs)
        np.testing.assert_array_equal(copy.transform(X_new), expected)


def test_chunks_and_out(digits, fitted, tmp_path, monkeypatch):
    """Chunks of 64 rows, a memory-mapped input and an output that is given change nothing."""
    X_new = digits[2]
    expected = fitted.transform(X_new)
    np.save(tmp_path / "new.npy", X_new)
    mapped = np.load(tmp_path / "new.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(tmp_path / "out.npy", mode="w+", dtype=np.float32, shape=(200, 2))
    monkeypatch.setattr(placement, "CHUNK_ELEMENTS", 1)
    assert fitted.transform(mapped, out=out) is out
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(fitted.transform(X_new, out=np.empty((200, 2))), expected)
    with pytest.raises(ValueError, match=r"out must be writeable and have shape \(200, 2\), got \(200, 3\)"):
        fitted.transform(X_new, out=np.empty((200, 3)))
    with pytest.raises(TypeError, match="out must be a float32 or float64 array, got int64"):
        fitted.transform(X_new, out=np.empty((200, 2), np.int64))


def test_dask_arrays_map_block_by_block(digits, fitted):
    """The result is a dask array of the same blocks, with the bits of the whole."""
    dask_array = pytest.importorskip("dask.array")
    X_new = digits[2]
    expected, scores = fitted.transform(X_new, return_scores=True)
    lazy = dask_array.from_array(X_new, chunks=(70, 30))
    placed, lazy_scores = fitted.transform(lazy, return_scores=True)
    assert placed.chunks == ((70, 70, 60), (2,))
    assert placed.dtype == np.float32
    np.testing.assert_array_equal(placed.compute(scheduler="threads"), expected)
    np.testing.assert_array_equal(lazy_scores.compute(scheduler="threads"), scores)
    with pytest.raises(ValueError, match="out must be None for a dask array"):
        fitted.transform(lazy, out=np.empty((200, 2), np.float32))
    with pytest.raises(ValueError, match="63 features"):
        fitted.transform(lazy[:, 1:])


def test_parts_give_what_the_estimator_gives(digits, fitted):
    """An index, its affinities and positions from anywhere make a map to place points in."""
    X, _, X_new, _ = digits
    index = NeighborIndex(X)
    reference = placement.ReferenceMap(index, affinities.perplexity(index, 30).neighbors, fitted.embedding_)
    expected, scores = fitted.transform(X_new, return_scores=True)
    for rows in (X_new, X_new.tolist()):
        found = reference.place(rows)
        np.testing.assert_array_equal(found[0], expected)
        np.testing.assert_array_equal(found[1], scores)
    with pytest.raises(ValueError, match=r"X must have shape \(n_rows, 64\), got shape \(64,\)"):
        reference.place(X_new[0])


def test_rows_of_the_map_get_their_positions(digits, fitted):
    """Bit for bit, in any order, as float32 or sparse, with -0 for 0; a row that differs at all is new."""
    X = digits[0]
    rows = X[::-3]
    np.testing.assert_array_equal(fitted.transform(rows), fitted.embedding_[::-3])
    np.testing.assert_array_equal(fitted.transform(rows.astype(np.float32)), fitted.embedding_[::-3])
    np.testing.assert_array_equal(fitted.transform(sparse.csr_matrix(rows)), fitted.embedding_[::-3])
    np.testing.assert_array_equal(fitted.transform(np.where(rows == 0, -0.0, rows)), fitted.embedding_[::-3])
    touched = X[:9].copy()
    touched[:, 20] += 1e-9
    assert (fitted.transform(touched) != fitted.embedding_[:9]).any(axis=1).all()


def test_equal_rows_of_the_map_share_the_first_position():
    """Where the map holds a row twice, the row gets the position of the first."""
    X = np.repeat(np.random.default_rng(0).normal(size=(30, 3)), 2, axis=0)
    model = kullback.TSNE(perplexity=5, max_iter=260, random_state=0).fit(X)
    np.testing.assert_array_equal(model.transform(X), np.repeat(model.embedding_[::2], 2, axis=0))


def test_find_compares_rows_and_not_only_keys(monkeypatch):
    """Rows whose keys collide are told apart; sparse rows are found as dense ones are."""
    X = np.random.default_rng(0).integers(0, 3, size=(50, 4)).astype(float)
    X = np.unique(X, axis=0)
    large = sparse.hstack([sparse.csr_array((len(X), 2**27)), sparse.csr_array(X)], format="csr")
    for rows in (X, large):
        index = NeighborIndex(rows, metric="manhattan")
        np.testing.assert_array_equal(index.find(index.cast(rows[::-1])), np.arange(len(X))[::-1])
        assert (index.find(index.cast(rows * 1.5))[1:] != np.arange(1, len(X))).all()
    index = NeighborIndex(X)
    monkeypatch.setattr(equal_rows, "row_keys", lambda rows: np.zeros(rows.shape[0], np.uint64))
    np.testing.assert_array_equal(index.find(X[:3]), [0, -1, -1])


def test_affinities_and_position_against_reference(small):
    """On a small map, transform is the twin's descent from the twin's affinities."""
    X, model = small
    rows = X[:6] + 0.3 * np.random.default_rng(1).normal(size=(6, 5))
    placed = model.transform(rows)
    Y = model.embedding_.astype(np.float64)
    _, sum_q = ref.repulsive_forces(Y)
    box = np.stack([Y.min(axis=0) - placement.MARGIN, Y.max(axis=0) + placement.MARGIN])
    for row, y in zip(rows, placed, strict=True):
        distances = np.linalg.norm(X - row, axis=1)
        near = np.argsort(distances)[:24]
        p, _ = ref.conditional_probabilities(distances[near][None], 8.0)
        expected, _ = ref.place_point(
            p[0], near, Y, mean_sum=sum_q / 80, box=box, tolerance=1e-6 * np.ptp(Y, axis=0).max(), max_iter=200
        )
        # distances are float32: p is off by 1e-6, and the point by that over the curvature of F
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-3)


def test_scores(digits, fitted):
    """About 1 for digits, in the map or not; larger the farther a row is; infinite beside duplicates."""
    X, _, X_new, _ = digits
    scores = fitted.transform(X_new, return_scores=True)[1]
    own = fitted.transform(X, return_scores=True)[1]
    assert 0.95 < np.median(own) < 1.1
    assert 0.95 < np.median(scores) < 1.15
    assert np.quantile(own, 0.99) < 1.6
    noise = np.random.default_rng(0).uniform(0, 16, size=(50, 64))
    assert fitted.transform(noise, return_scores=True)[1].min() > np.quantile(scores, 0.95)
    farther = [fitted.transform(X_new[:1] * factor, return_scores=True)[1][0] for factor in (1, 2, 4, 1e6)]
    assert (np.diff(farther) > 0).all()
    constant = kullback.TSNE(perplexity=3, max_iter=20).fit(np.ones((20, 2)))
    assert list(constant.transform([[1.0, 1.0], [2.0, 1.0]], return_scores=True)[1]) == [1, np.inf]
    with pytest.raises(TypeError, match="return_scores must be True or False, got 'yes'"):
        fitted.transform(X_new, return_scores="yes")


def test_scores_are_ratios_of_distances(small):
    """The distance to the last neighbour, over the median of the neighbours' own, by plain arithmetic."""
    X, model = small
    rows = X[:5] + 0.5
    between = np.linalg.norm(X[:, None] - X, axis=2)
    reach = np.sort(between, axis=1)[:, 24]  # the row itself comes first
    distances = np.linalg.norm(rows[:, None] - X, axis=2)
    near = np.argsort(distances, axis=1)[:, :24]
    expected = np.sort(distances, axis=1)[:, 23] / np.median(reach[near], axis=1)
    np.testing.assert_allclose(model.transform(rows, return_scores=True)[1], expected, rtol=1e-5)
    own = np.argsort(between, axis=1)[:, 1:25]
    expected = reach / np.median(reach[own], axis=1)
    np.testing.assert_allclose(model.transform(X, return_scores=True)[1], expected, rtol=1e-5)


METRICS = [
    "euclidean", "sqeuclidean", "cosine", "inner_product", "manhattan", "chebyshev", "correlation", "hamming",
    "jaccard", "hellinger", "jensen_shannon", "mahalanobis", lambda a, b: float(np.abs(a - b).max()),
]  # fmt: skip


@pytest.mark.parametrize("metric", METRICS, ids=[m if isinstance(m, str) else "callable" for m in METRICS])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_metrics(metric, form):
    """Every metric, dense and sparse: finite places, by themselves, on any number of threads; own rows their own."""
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


def test_distances_that_are_given(small):
    """Distances of new rows, dense and sparse, give the places that the rows give; a distance of 0 is the row."""
    X, _ = small
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
        np.testing.assert_allclose(placed[:2], by_rows.transform(rows)[:2], atol=1e-2)  # distances in float32 there
        if form is np.asarray:
            np.testing.assert_array_equal(placed[2], model.embedding_[3])
        with pytest.raises(ValueError, match="Negative values"):
            model.transform(-between)
    assert not hasattr(model, "partial_fit")
    with pytest.raises(ValueError, match=r'metric must not be "precomputed" where rows are added'):
        model._map.index.extend(own)
    with pytest.raises(ValueError, match="X must hold distances of at least 0, got -"):
        model._map.index.search(-between, 3)


def test_pipeline_with_a_transformer_of_neighbours(digits):
    """A graph of scikit-learn's leads to the places that our own neighbours give, closely."""
    X, y, X_new, y_new = digits[0][:400], digits[1][:400], digits[2], digits[3]
    graph = KNeighborsTransformer(mode="distance", n_neighbors=60)
    tsne = kullback.TSNE(metric="precomputed", init="random", random_state=0, perplexity=20, max_iter=500)
    pipe = make_pipeline(graph, tsne).fit(X)
    placed = pipe.transform(X_new)
    assert KNeighborsClassifier(1).fit(tsne.embedding_, y).score(placed, y_new) > 0.9
    np.testing.assert_array_equal(pipe.transform(X_new[:1]), placed[:1])


@pytest.mark.parametrize("n_components", [1, 3, 4])
def test_other_dimensions(n_components):
    """One to three dimensions by the grid, four by all points."""
    X = np.random.default_rng(0).normal(size=(1010, 4))
    options = {"max_iter": 5, "perplexity": 5, "random_state": 0, "init": 5 * X[:, :n_components]}
    model = kullback.TSNE(n_components, **options).fit(X)
    rows = np.random.default_rng(1).normal(size=(20, 4))
    placed = model.transform(rows)
    assert placed.shape == (20, n_components)
    # the map is nearly its start, so that places are near five times the first coordinates
    assert np.median(np.abs(placed - 5 * rows[:, :n_components])) < 5


def test_pickle_and_output_containers(digits, fitted):
    """A pickle transforms to the same bits; data frames come out on request, with scores beside them."""
    pandas = pytest.importorskip("pandas")
    X_new = digits[2][:20]
    expected = fitted.transform(X_new)
    restored = pickle.loads(pickle.dumps(fitted))
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
def test_hard_rows(small, name):
    """A finite place within the margin of the map, and equal rows at one place."""
    X, model = small
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
    """New rows on every scale in maps of hard data: finite, and the same alone."""
    X = MAPS[name]
    model = kullback.TSNE(perplexity=min(5, len(X) - 1), max_iter=260, random_state=0).fit(X)
    rows = np.vstack([X[:2] * 1.01, [[0.5, 0.5], [1e31, 1e3], [-1e305, 3], [1e-320, 0]]])
    placed, scores = model.transform(rows, return_scores=True)
    assert np.isfinite(placed).all()
    assert not np.isnan(scores).any()
    np.testing.assert_array_equal(np.vstack([model.transform(row[None]) for row in rows]), placed)


def test_errors(small):
    """What is wrong is said: an unfitted estimator, NaN, infinity, features, shapes, strings."""
    X, model = small
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


# ---- partial_fit -----------------------------------------------------------------------------------


def test_partial_fit_anchors_the_old_points(digits):
    """Old positions stay to the bit, new points join their like, the loss is that of all; it grows again."""
    X, y, X_new, _ = digits
    model = kullback.TSNE(random_state=0, max_iter=300).fit(X[:800])
    before = model.embedding_.copy()
    model.partial_fit(X[800:])
    assert model.embedding_.shape == (1200, 2)
    np.testing.assert_array_equal(model.embedding_[:800], before)
    assert KNeighborsClassifier(1).fit(before, y[:800]).score(model.embedding_[800:], y[800:1200]) > 0.9
    assert model.n_iter_ == model.loss_.iteration[-1] == 550
    expected = ref.tsne_loss(model.affinities_.P, model.embedding_)
    assert model.kl_divergence_ == model.loss_.kl_divergence[-1] == pytest.approx(expected.kl_divergence, rel=2e-2)
    fresh = kullback.TSNE(random_state=0, max_iter=550).fit(X)
    np.testing.assert_allclose(model.affinities_.P.toarray(), fresh.affinities_.P.toarray(), rtol=1e-5, atol=1e-12)
    assert model.kl_divergence_ < 1.25 * fresh.kl_divergence_
    np.testing.assert_array_equal(model.transform(X), model.embedding_)  # the new rows are known from now on
    grown = model.embedding_.copy()
    model.partial_fit(X_new)
    np.testing.assert_array_equal(model.embedding_[:1200], grown)
    assert model.transform(X_new).shape == (200, 2)


def test_partial_fit_gives_a_new_class_a_place_of_its_own(digits):
    """Digits of a kind that the map has never seen settle together."""
    X, y, _, _ = digits
    known = y != 3
    model = kullback.TSNE(random_state=0, max_iter=300).fit(X[known]).partial_fit(X[~known])
    labels = np.concatenate([y[known], y[~known]])
    score = KNeighborsClassifier(1).fit(model.embedding_[::2], labels[::2])
    new = np.flatnonzero(labels == 3)[1::2]
    assert score.score(model.embedding_[new], labels[new]) > 0.8


def test_partial_fit_repeats_on_any_threads(small):
    """The first call is fit; equal new rows part; the bits do not depend on threads."""
    X, _ = small
    options = {"perplexity": 8, "max_iter": 60, "random_state": 0}
    first = kullback.TSNE(**options).partial_fit(X)
    np.testing.assert_array_equal(first.embedding_, kullback.TSNE(**options).fit_transform(X))
    more = np.vstack([X[:3], X[:3], X[3:9] + 0.5, np.repeat(X[:1] + 1, 3, axis=0)])
    maps = [kullback.TSNE(**options, n_jobs=n).fit(X).partial_fit(more).embedding_ for n in (1, 2, 3)]
    assert len({map_.tobytes() for map_ in maps}) == 1
    assert len(np.unique(maps[0], axis=0)) == len(maps[0])
    sparse_map = kullback.TSNE(**options).fit(sparse.csr_matrix(X)).partial_fit(sparse.csr_matrix(more))
    assert sparse_map.embedding_.shape == (len(X) + len(more), 2)
    with pytest.raises(ValueError, match="4 features"):
        first.partial_fit(X[:, 1:])


def test_growing_takes_the_steps_of_the_reference(small, monkeypatch):
    """Three iterations of new points beside fixed ones are three of the twin's descent, row for row."""
    X, model = small
    monkeypatch.setattr(placement, "GROW_ITER", 3)
    rows = X[:6] + 0.7
    copy = pickle.loads(pickle.dumps(model))
    start = copy.transform(rows).astype(np.float64)
    old = copy.embedding_.astype(np.float64)
    grown = copy.partial_fit(rows).embedding_
    Y, velocity, gains = np.vstack([old, start]), np.zeros((6, 2)), np.ones((6, 2))
    for _ in range(3):
        repulsion, sum_q = ref.repulsive_forces(Y)
        attraction = ref.attractive_forces(copy.affinities_.P, Y)
        rates, centre, new = np.array([1, 1 / sum_q, 86, 0.8, 5]), np.zeros(2), Y[80:]  # a view: moved in place
        ref.descend(new, velocity, gains, attraction[80:], repulsion[80:], rates, centre)
    # positions of size 20 in float32, moved by less than 1
    np.testing.assert_allclose(grown[80:], Y[80:], rtol=0, atol=1e-4)
    assert np.abs(Y[80:] - start).max() > 1e-2


def test_other_tails(small):
    """A map of heavier tails places points with its own kernel, and audits follow a map that has grown."""
    X, _ = small
    model = kullback.TSNE(perplexity=8, max_iter=260, random_state=0, n_jobs=1, dof=0.5).fit(X)
    row = X[:1] + 0.3
    Y = model.embedding_.astype(np.float64)
    distances = np.linalg.norm(X - row, axis=1)
    near = np.argsort(distances)[:24]
    p, _ = ref.conditional_probabilities(distances[near][None], 8.0)
    expected, _ = ref.place_point(
        p[0], near, Y, mean_sum=ref.repulsive_forces(Y, dof=0.5)[1] / 80, dof=0.5, max_iter=200,
        box=np.stack([Y.min(axis=0) - placement.MARGIN, Y.max(axis=0) + placement.MARGIN]),
        tolerance=1e-6 * np.ptp(Y, axis=0).max(),
    )  # fmt: skip
    # as for dof = 1 above
    np.testing.assert_allclose(model.transform(row)[0], expected, rtol=0, atol=1e-3)
    before = model.exact_kl_
    model.partial_fit(row)
    assert model.exact_kl_ != before
    assert model.point_kl_.shape == (81,)
    assert model.exact_kl_ == pytest.approx(model.kl_divergence_, rel=1e-5)  # 81 points are summed exactly

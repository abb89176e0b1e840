"""``TSNE.transform``: rows by themselves, rows of the map, their positions, and their scores."""

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.neighbors import KNeighborsClassifier

import kullback
from kullback import affinities
from kullback import reference as ref
from kullback.neighbors import NeighborIndex
from kullback.tsne import Embedding, equal_rows, placement


def test_new_digits_are_placed_among_their_like(old_and_new_digits, fitted_digits):
    """1 nearest neighbour classifies new digits as well as when all digits are embedded together."""
    X, y, X_new, y_new = old_and_new_digits
    placed = fitted_digits.transform(X_new)
    assert placed.dtype == np.float32
    together = kullback.TSNE(random_state=0, max_iter=500).fit_transform(np.vstack([X, X_new]))
    alone = KNeighborsClassifier(1).fit(fitted_digits.embedding_, y).score(placed, y_new)
    assert alone >= KNeighborsClassifier(1).fit(together[:1200], y).score(together[1200:], y_new) - 0.01


def test_a_row_does_not_depend_on_its_batch(old_and_new_digits, fitted_digits):
    """A row gets the same bits alone, in any order, in any part, and on any number of threads."""
    X_new = old_and_new_digits[2]
    expected, scores = fitted_digits.transform(X_new, return_scores=True)
    order = np.random.default_rng(1).permutation(200)
    np.testing.assert_array_equal(fitted_digits.transform(X_new[order]), expected[order])
    for size in (1, 2, 19, 20, 21):
        parts = [fitted_digits.transform(X_new[i : i + size], return_scores=True) for i in range(0, 63, size)]
        np.testing.assert_array_equal(np.concatenate([part[0] for part in parts])[:63], expected[:63])
        np.testing.assert_array_equal(np.concatenate([part[1] for part in parts])[:63], scores[:63])
    with_others = np.vstack([X_new[:50], 1e-200 * X_new[:5] + 1, old_and_new_digits[0][:7], 1e200 * X_new[:3]])
    np.testing.assert_array_equal(fitted_digits.transform(with_others)[:50], expected[:50])
    for n_jobs in (1, 2, 3):
        copy = pickle.loads(pickle.dumps(fitted_digits)).set_params(n_jobs=n_jobs)
        np.testing.assert_array_equal(copy.transform(X_new), expected)


def test_chunks_and_out(old_and_new_digits, fitted_digits, tmp_path, monkeypatch):
    """Chunks of 64 rows, a memory-mapped input and a given output change nothing."""
    X_new = old_and_new_digits[2]
    expected = fitted_digits.transform(X_new)
    np.save(tmp_path / "new.npy", X_new)
    mapped = np.load(tmp_path / "new.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(tmp_path / "out.npy", mode="w+", dtype=np.float32, shape=(200, 2))
    monkeypatch.setattr(placement, "CHUNK_ELEMENTS", 1)
    assert fitted_digits.transform(mapped, out=out) is out
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(fitted_digits.transform(X_new, out=np.empty((200, 2))), expected)
    with pytest.raises(ValueError, match=r"out must be writeable and have shape \(200, 2\), got \(200, 3\)"):
        fitted_digits.transform(X_new, out=np.empty((200, 3)))
    with pytest.raises(TypeError, match="out must be a float32 or float64 array, got int64"):
        fitted_digits.transform(X_new, out=np.empty((200, 2), np.int64))


def test_dask_arrays_map_block_by_block(old_and_new_digits, fitted_digits):
    """The result is a dask array of the same blocks, with the bits of the whole."""
    dask_array = pytest.importorskip("dask.array")
    X_new = old_and_new_digits[2]
    expected, scores = fitted_digits.transform(X_new, return_scores=True)
    lazy = dask_array.from_array(X_new, chunks=(70, 30))
    placed, lazy_scores = fitted_digits.transform(lazy, return_scores=True)
    assert placed.chunks == ((70, 70, 60), (2,))
    assert placed.dtype == np.float32
    np.testing.assert_array_equal(placed.compute(scheduler="threads"), expected)
    np.testing.assert_array_equal(lazy_scores.compute(scheduler="threads"), scores)
    with pytest.raises(ValueError, match="out must be None for a dask array"):
        fitted_digits.transform(lazy, out=np.empty((200, 2), np.float32))
    with pytest.raises(ValueError, match="63 features"):
        fitted_digits.transform(lazy[:, 1:])


def test_parts_give_what_the_estimator_gives(old_and_new_digits, fitted_digits):
    """An index, its affinities and any positions make a map in which points can be placed."""
    X, _, X_new, _ = old_and_new_digits
    index = NeighborIndex(X)
    reference = placement.ReferenceMap(index, affinities.perplexity(index, 30).neighbors, fitted_digits.embedding_)
    expected, scores = fitted_digits.transform(X_new, return_scores=True)
    for rows in (X_new, X_new.tolist()):
        found = reference.place(rows)
        np.testing.assert_array_equal(found[0], expected)
        np.testing.assert_array_equal(found[1], scores)
    with pytest.raises(ValueError, match=r"X must have shape \(n_rows, 64\), got shape \(64,\)"):
        reference.place(X_new[0])


def test_rows_of_the_map_get_their_positions(old_and_new_digits, fitted_digits):
    """Rows of the map get their positions in any order, as float32, sparse, or with -0 for 0. Other rows are new."""
    X = old_and_new_digits[0]
    rows = X[::-3]
    np.testing.assert_array_equal(fitted_digits.transform(rows), fitted_digits.embedding_[::-3])
    np.testing.assert_array_equal(fitted_digits.transform(rows.astype(np.float32)), fitted_digits.embedding_[::-3])
    np.testing.assert_array_equal(fitted_digits.transform(sparse.csr_matrix(rows)), fitted_digits.embedding_[::-3])
    np.testing.assert_array_equal(
        fitted_digits.transform(np.where(rows == 0, -0.0, rows)), fitted_digits.embedding_[::-3]
    )
    touched = X[:9].copy()
    touched[:, 20] += 1e-9
    assert (fitted_digits.transform(touched) != fitted_digits.embedding_[:9]).any(axis=1).all()


def test_equal_rows_of_the_map_share_the_first_position():
    """If the map holds a row twice, the row gets the position of the first."""
    X = np.repeat(np.random.default_rng(0).normal(size=(30, 3)), 2, axis=0)
    model = kullback.TSNE(perplexity=5, max_iter=260, random_state=0).fit(X)
    np.testing.assert_array_equal(model.transform(X), np.repeat(model.embedding_[::2], 2, axis=0))


def test_find_compares_rows_and_not_only_keys(monkeypatch):
    """Rows with the same key are told apart, and sparse rows are found as dense ones are."""
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


def test_affinities_and_position_against_reference(blobs):
    """On a small map, transform gives the positions of the reference's descent from the reference's affinities."""
    X, model = blobs
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
        # Distances are float32, so p is off by 1e-6, and the point by that divided by the curvature of F.
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-3)


def test_scores(old_and_new_digits, fitted_digits):
    """Scores are about 1 for digits, larger for rows farther away, and infinite beside duplicates."""
    X, _, X_new, _ = old_and_new_digits
    scores = fitted_digits.transform(X_new, return_scores=True)[1]
    own = fitted_digits.transform(X, return_scores=True)[1]
    assert 0.95 < np.median(own) < 1.1
    assert 0.95 < np.median(scores) < 1.15
    assert np.quantile(own, 0.99) < 1.6
    noise = np.random.default_rng(0).uniform(0, 16, size=(50, 64))
    assert fitted_digits.transform(noise, return_scores=True)[1].min() > np.quantile(scores, 0.95)
    farther = [fitted_digits.transform(X_new[:1] * factor, return_scores=True)[1][0] for factor in (1, 2, 4, 1e6)]
    assert (np.diff(farther) > 0).all()
    constant = kullback.TSNE(perplexity=3, max_iter=20).fit(np.ones((20, 2)))
    assert list(constant.transform([[1.0, 1.0], [2.0, 1.0]], return_scores=True)[1]) == [1, np.inf]
    with pytest.raises(TypeError, match="return_scores must be True or False, got 'yes'"):
        fitted_digits.transform(X_new, return_scores="yes")


def test_scores_are_ratios_of_distances(blobs):
    """A score is the distance to the last neighbour, divided by the median of those of the neighbours."""
    X, model = blobs
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


@pytest.mark.parametrize("form", [np.array, np.float32, sparse.csr_matrix, "DataFrame"])
def test_a_fitted_map_is_its_own(blobs, form):
    """Neither the positions that fit_transform returned nor the data belong to the map any more."""
    data = blobs[0]
    X = form(data) if callable(form) else pytest.importorskip("pandas").DataFrame(data)
    model = kullback.TSNE(perplexity=5, random_state=0, max_iter=60)
    Y = model.fit_transform(X)
    before, expected, points = Y.copy(), model.transform(data[:20] + 0.5), model.point_kl_
    model.fit(X)
    Y /= 100
    points /= 100
    if sparse.issparse(X):
        X.data -= 5
    else:
        X -= 5
    np.testing.assert_array_equal(model.embedding_, before)
    np.testing.assert_array_equal(model.transform(data[:20] + 0.5), expected)
    np.testing.assert_array_equal(model.transform(data), before)  # rows of the map are found again
    model.embedding_ /= 100
    np.testing.assert_array_equal(model.transform(data), before)


def test_an_index_and_an_embedding_are_their_own(blobs):
    """An index without copy=False and an embedding do not see what becomes of their input."""
    data = blobs[0]
    X = data.copy()
    index, shared = NeighborIndex(X), NeighborIndex(X, copy=False)
    joint = affinities.perplexity(X, 5).P
    start = np.random.default_rng(0).normal(size=(len(X), 2))
    expected = Embedding(joint, start).optimize(3).positions
    embedding = Embedding(joint, start)
    joint.indices[:] = 0
    joint.data[:] = 0
    start[:] = 0
    X[:] = 0
    np.testing.assert_array_equal(embedding.optimize(3).positions, expected)
    assert index.find(index.cast(data)).tolist() == list(range(len(X)))
    assert shared.find(shared.cast(data[:1])).tolist() != [0]
    distances = sparse.csr_array(np.array([[0, 1.0, 2.0], [1.0, 0, 3.0], [2.0, 3.0, 0]]))
    graph = kullback.neighbors.neighbor_graph(distances, 2, metric="precomputed")
    distances.data[:] = 0
    assert graph.distances.tolist() == [1, 2, 1, 3, 2, 3]

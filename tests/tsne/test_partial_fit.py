"""``TSNE.partial_fit``: old points stay where they are, and new ones settle among them."""

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.neighbors import KNeighborsClassifier

import kullback
from kullback import reference as ref
from kullback.tsne import placement
from kullback.tsne.rates import Rates


def test_partial_fit_anchors_the_old_points(old_and_new_digits):
    """Old positions keep their bits, new points join their class, and the loss is that of all points."""
    X, y, X_new, _ = old_and_new_digits
    model = kullback.TSNE(random_state=0, max_iter=300).fit(X[:800])
    before, n_iter = model.embedding_.copy(), model.n_iter_
    model.partial_fit(X[800:])
    assert model.embedding_.shape == (1200, 2)
    np.testing.assert_array_equal(model.embedding_[:800], before)
    assert KNeighborsClassifier(1).fit(before, y[:800]).score(model.embedding_[800:], y[800:1200]) > 0.9
    assert model.n_iter_ == model.loss_.iteration[-1] == n_iter + 250
    expected = ref.tsne_loss(model.affinities_.P, model.embedding_)
    assert model.kl_divergence_ == model.loss_.kl_divergence[-1] == pytest.approx(expected.kl_divergence, rel=2e-2)
    fresh = kullback.TSNE(random_state=0, max_iter=550).fit(X)
    np.testing.assert_allclose(model.affinities_.P.toarray(), fresh.affinities_.P.toarray(), rtol=1e-5, atol=1e-12)
    assert model.kl_divergence_ < 1.25 * fresh.kl_divergence_
    np.testing.assert_array_equal(model.transform(X), model.embedding_)  # the new rows are now rows of the map
    grown = model.embedding_.copy()
    model.partial_fit(X_new)
    np.testing.assert_array_equal(model.embedding_[:1200], grown)
    assert model.transform(X_new).shape == (200, 2)


def test_partial_fit_gives_a_new_class_a_place_of_its_own(old_and_new_digits):
    """Digits of a class that the map does not hold settle together."""
    X, y, _, _ = old_and_new_digits
    known = y != 3
    model = kullback.TSNE(random_state=0, max_iter=300).fit(X[known]).partial_fit(X[~known])
    labels = np.concatenate([y[known], y[~known]])
    score = KNeighborsClassifier(1).fit(model.embedding_[::2], labels[::2])
    new = np.flatnonzero(labels == 3)[1::2]
    assert score.score(model.embedding_[new], labels[new]) > 0.8


def test_partial_fit_repeats_on_any_threads(blobs, monkeypatch):
    """The first call is fit. Equal new rows part. The bits do not depend on the number of threads."""
    X, _ = blobs
    options = {"perplexity": 8, "max_iter": 60, "random_state": 0}
    first = kullback.TSNE(**options).partial_fit(X)
    np.testing.assert_array_equal(first.embedding_, kullback.TSNE(**options).fit_transform(X))
    more = np.vstack([X[:3], X[:3], X[3:9] + 0.5, np.repeat(X[:1] + 1, 3, axis=0)])
    maps = [kullback.TSNE(**options, n_jobs=n).fit(X).partial_fit(more).embedding_ for n in (1, 2, 3)]
    assert len({map_.tobytes() for map_ in maps}) == 1
    # Equal rows attract each other, and after many iterations float32 may not tell them apart.
    monkeypatch.setattr(placement, "GROW_ITER", 3)
    parted = kullback.TSNE(**options).fit(X).partial_fit(more).embedding_
    assert len(np.unique(parted, axis=0)) == len(parted)
    sparse_map = kullback.TSNE(**options).fit(sparse.csr_matrix(X)).partial_fit(sparse.csr_matrix(more))
    assert sparse_map.embedding_.shape == (len(X) + len(more), 2)
    with pytest.raises(ValueError, match="4 features"):
        first.partial_fit(X[:, 1:])


def test_growing_takes_the_steps_of_the_reference(blobs, monkeypatch):
    """Three iterations of new points beside fixed ones are three steps of the reference's descent."""
    X, model = blobs
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
        rates = Rates(exaggeration=1, inverse_sum_q=1 / sum_q, learning_rate=86, momentum=0.8, max_step=5)
        centre, new = np.zeros(2), Y[80:]  # new is a view, which is moved in place
        ref.descend(new, velocity, gains, attraction[80:], repulsion[80:], rates, centre)
    # Positions of magnitude 20 in float32 have moved by less than 1.
    np.testing.assert_allclose(grown[80:], Y[80:], rtol=0, atol=1e-4)
    assert np.abs(Y[80:] - start).max() > 1e-2


def test_other_tails(blobs):
    """A map of heavier tails places points with its own kernel, and audits are of the map that has grown."""
    X, _ = blobs
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
    # The tolerance is that of dof = 1 in test_new_points.py.
    np.testing.assert_allclose(model.transform(row)[0], expected, rtol=0, atol=1e-3)
    before = model.exact_kl_
    model.partial_fit(row)
    assert model.exact_kl_ != before
    assert model.point_kl_.shape == (81,)
    assert model.exact_kl_ == pytest.approx(model.kl_divergence_, rel=1e-5)  # 81 points are summed exactly

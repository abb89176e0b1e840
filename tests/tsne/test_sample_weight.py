"""Affinities, new points and ``TSNE`` of points with masses: those of repeated rows, where these can be compared."""

import numpy as np
import pytest
from scipy import sparse

from kullback import TSNE, affinities, gradient, neighbors
from kullback import reference as ref
from kullback.neighbors import NeighborIndex
from kullback.tsne.placement import ReferenceMap


def scatter(n_points, n_features, dtype=np.float64, spread=4.0):
    """Return data, integer masses from 1 to 5, and the rows that these stand for."""
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(n_points, n_features)) * spread).astype(dtype)
    masses = rng.integers(1, 6, size=n_points)
    return X, masses, np.repeat(X, masses, axis=0)


def grouped(P_rows, masses):
    """Return the P of rows, summed by point."""
    owner = np.repeat(np.arange(len(masses)), masses)
    sums = sparse.csr_array((np.ones(len(owner)), (owner, np.arange(len(owner)))))
    return (sums @ P_rows @ sums.T).toarray()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("all_neighbors", [False, True])
def test_affinities_are_those_of_repeated_rows(dtype, all_neighbors):
    """P is that of the rows, summed by point: with all neighbours, and with those up to three times the perplexity.

    Entropies are met to 1e-9, and P therefore to about as much of itself.
    """
    X, masses, rows = scatter(60, 5, dtype)
    for perplexity in (15, 40):
        found = affinities.perplexity(X, perplexity, masses=masses, n_neighbors=59 if all_neighbors else None)
        of_rows = affinities.perplexity(rows, perplexity, n_neighbors=len(rows) - 1 if all_neighbors else None)
        expected = grouped(of_rows.P, masses)
        rel = 1e-6 if dtype == np.float32 else 1e-8
        np.testing.assert_allclose(found.P.toarray(), expected, rtol=0, atol=rel * expected.max())
        np.testing.assert_allclose(found.row_perplexity, perplexity, rtol=1e-5)
        assert abs(found.P - found.P.T).max() == 0
        if all_neighbors:
            twin = ref.affinities.perplexity(X, perplexity, masses=masses)
            np.testing.assert_allclose(found.P.toarray(), twin, atol=rel * expected.max())


def test_affinities_of_real_masses():
    """Masses below 1 count as so much of a row, and light points get as many neighbours as make the perplexity."""
    rng = np.random.default_rng(0)
    X, masses = rng.normal(size=(300, 4)), 10 ** rng.uniform(-1.5, 1, 300)
    found = affinities.perplexity(X, 20, masses=masses)
    np.testing.assert_allclose(found.row_perplexity, 20, rtol=1e-6)
    assert not found.P.diagonal()[masses <= 1].any()
    every = affinities.perplexity(X, 20, masses=masses, n_neighbors=299).P.toarray()
    np.testing.assert_allclose(every, ref.affinities.perplexity(X, 20, masses=masses), atol=1e-8 * every.max())
    ones = affinities.perplexity(X, 20, masses=np.ones(300))
    assert ones.P.data.tobytes() == affinities.perplexity(X, 20).P.data.tobytes()
    graph = neighbors.neighbor_graph(X, 299)
    again = affinities.perplexity(graph, 20, masses=masses)
    np.testing.assert_allclose(again.P.toarray(), found.P.toarray(), atol=1e-12)


def test_perplexity_counts_rows():
    """A perplexity above the total is refused, and one that points reach by themselves is warned of."""
    X, masses, _ = scatter(60, 5)
    with pytest.raises(ValueError, match="less than the sum of the masses, 6, because it counts rows, got 30"):
        affinities.perplexity(X, 30, masses=np.full(60, 0.1))
    with pytest.warns(UserWarning, match=r"counts rows, and .*% of P is between rows of one point; .* mean mass is 10"):
        affinities.perplexity(X, 10, masses=np.full(60, 10.0))
    with pytest.warns(UserWarning, match=r"fewer rows than perplexity = 40; points .* 60 of 60"):
        affinities.perplexity(X, 40, masses=masses, n_neighbors=5)


def test_new_points_among_repeated_rows():
    """New points settle in a map with masses where they settle in a map of its rows, by all points and by a grid."""
    for n_points in (80, 1100):
        X, masses, rows = scatter(n_points, 2, spread=8)
        Y = X + 0.1
        new = X[:20] + 0.3
        maps = [
            ReferenceMap(NeighborIndex(X), affinities.perplexity(X, 30).neighbors, Y, masses=masses),
            ReferenceMap(NeighborIndex(rows), affinities.perplexity(rows, 30).neighbors, np.repeat(Y, masses, axis=0)),
        ]
        (found, _), (expected, _) = (one.place(new) for one in maps)
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_estimator_takes_sample_weight():
    """``sample_weight`` are the masses of all that follows: the loss, its audits, new points and a map that grows."""
    X, masses, _ = scatter(200, 4)
    model = TSNE(perplexity=30, max_iter=300, random_state=0).fit(X, sample_weight=masses.tolist())
    options = {"masses": masses, "exact": True}
    expected = gradient.tsne_loss(model.affinities_.P, model.embedding_, **options).kl_divergence
    assert model.exact_kl_ == pytest.approx(expected, rel=1e-12)
    assert model.kl_divergence_ == pytest.approx(expected, rel=1e-4)
    assert model.point_kl_.sum() == pytest.approx(expected, rel=1e-4)
    assert model.learning_rate_ == masses.sum()
    assert np.isfinite(model.gradient_error_)
    assert np.isfinite(model.transform(X[:5] + 0.1)).all()
    grown = model.partial_fit(X[:20] + 1, sample_weight=masses[:20]).partial_fit(X[20:30] + 1)
    all_masses = np.concatenate([masses, masses[:20], np.ones(10)])
    expected = gradient.tsne_loss(grown.affinities_.P, grown.embedding_, masses=all_masses, exact=True).kl_divergence
    assert grown.exact_kl_ == pytest.approx(expected, rel=1e-12)
    assert grown.kl_divergence_ == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("init", ["pca", "spectral", "random"])
def test_weights_of_one_change_no_map(init):
    """Weights that are all 1 give the bits of no weights, and other weights work with every start and method."""
    X, masses, _ = scatter(100, 4, np.float32)
    for method in ("auto", "exact", "barnes_hut"):
        model = TSNE(perplexity=20, max_iter=30, random_state=0, init=init, method=method)
        expected = model.fit_transform(X)
        assert model.fit_transform(X, sample_weight=np.ones(100)).tobytes() == expected.tobytes()
        assert model.fit_transform(X, sample_weight=masses).tobytes() != expected.tobytes()


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
def test_estimator_refuses_bad_weights(weight):
    """The message names the argument and the row, before any work; the model is not fitted."""
    X, _, _ = scatter(50, 4)
    weights = np.ones(50)
    weights[7] = weight
    model = TSNE(perplexity=5)
    with pytest.raises(ValueError, match=r"sample_weight must be in .* for point 7"):
        model.fit(X, sample_weight=weights)
    with pytest.raises(ValueError, match="less than the sum of sample_weight, 5"):
        model.fit(X, sample_weight=np.full(50, 0.1))
    assert not hasattr(model, "embedding_")
    fitted = TSNE(perplexity=5, max_iter=10).fit(X)
    with pytest.raises(ValueError, match=r"sample_weight must be in .* for point 7"):
        fitted.partial_fit(X, sample_weight=weights)

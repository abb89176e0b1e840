"""``kullback.affinities``: P against the reference, its laws, and data that break a bandwidth search."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from kullback import _kernels, affinities
from kullback.reference import affinities as reference


@pytest.fixture(scope="module")
def digits():
    """Return 400 of scikit-learn's digits."""
    return load_digits().data[:400]


@pytest.fixture
def at_level(level, monkeypatch):
    """Run the affinities on the kernels of one SIMD level."""
    for stem in ("perplexity", "symmetrize"):
        monkeypatch.setattr(_kernels, stem, _kernels.load(stem, level), raising=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [1, 5, 30, 399])
def test_against_reference(at_level, digits, dtype, value):
    """P is the reference's; distances are computed in float32."""
    found = affinities.perplexity(digits.astype(dtype), value)
    assert found.P.dtype == dtype
    expected = reference.perplexity(digits, value)
    # distances are off by 1e-6 relative, beta d^2 reaches about 20
    np.testing.assert_allclose(found.P.toarray(), expected, rtol=1e-3 if value > 1 else 1, atol=1e-9)
    values = expected[expected > 0]
    assert found.entropy == pytest.approx(-np.sum(values * np.log(values)), rel=1e-6)


def test_laws(digits):
    """P is symmetric to the bit, sums to 1, has no diagonal and sorted columns; rows have the perplexity."""
    found = affinities.perplexity(digits, 20)
    P = found.P
    assert P.has_canonical_format
    assert abs(P - P.T).max() == 0
    assert P.sum() == pytest.approx(1, abs=1e-13)
    assert P.diagonal().sum() == 0
    assert (P.data >= 0).all()
    np.testing.assert_allclose(found.row_perplexity, 20, rtol=1e-8)
    assert found.n_points == 400
    assert found.neighbors.shape == (400, 400)


def test_threads_change_no_bit(digits):
    """P has the same bytes on 1, 2, 3 and 5 threads."""
    runs = [affinities.perplexity(digits, 20, n_threads=n).P for n in (1, 2, 3, 5)]
    assert len({run.data.tobytes() + run.indices.tobytes() for run in runs}) == 1


def test_one_graph_serves_many_perplexities(digits):
    """The neighbour graph given back gives the P that the data give."""
    wide = affinities.perplexity(digits, 30)
    np.testing.assert_array_equal(
        affinities.perplexity(wide.neighbors, 30, metric="precomputed").P.toarray(), wide.P.toarray()
    )
    narrow = affinities.perplexity(wide.neighbors, 10, metric="precomputed")
    np.testing.assert_array_equal(narrow.P.toarray(), affinities.perplexity(digits, 10).P.toarray())


def test_precomputed_forms(digits):
    """Dense distances and scikit-learn's neighbour graph, with self or without, give the same P."""
    expected = affinities.perplexity(digits, 15).P.toarray()
    dense = np.sqrt(((digits[:, None] - digits) ** 2).sum(axis=2))
    search = NearestNeighbors(n_neighbors=60).fit(digits)
    graphs = [search.kneighbors_graph(mode="distance"), search.kneighbors_graph(digits, mode="distance")]
    for given in (dense, *graphs, sparse.csr_array(graphs[0]), graphs[0].sorted_indices()):
        found = affinities.perplexity(given, 15, metric="precomputed").P.toarray()
        np.testing.assert_allclose(
            found, expected, rtol=1e-3, atol=1e-8
        )  # ties at the last neighbour may differ


def test_ragged_graph():
    """Rows with fewer neighbours than the perplexity are uniform over those they have."""
    dense = np.zeros((5, 5))
    dense[0, 1] = 1
    dense[1, [0, 2, 3, 4]] = [1, 2, 3, 4]
    dense[2:, 1] = 2
    found = affinities.perplexity(sparse.csr_array(dense), 2, metric="precomputed")
    assert found.P.sum() == pytest.approx(1)
    np.testing.assert_allclose(found.row_perplexity, [1, 2, 1, 1, 1])
    assert found.bandwidths[0] == 0


@pytest.mark.parametrize(
    "X",
    [
        np.zeros((50, 3)),
        np.repeat(np.arange(5.0), 10)[:, None],
        np.r_[np.zeros(40), 1e30][:, None],
        np.r_[np.zeros(40), np.ones(40) * 1e300][:, None],
        np.arange(50.0)[:, None] * 1e-320,
        np.arange(50.0)[:, None] * 1e-160,
        np.exp(np.arange(-600, 600, 20.0))[:, None],
        np.array([[0.0], [1.0]]),
        np.arange(3.0)[:, None],
        np.arange(40.0)[:, None] * np.ones((1, 3000)),
    ],
    ids=[
        "constant",
        "duplicates",
        "outlier",
        "two blobs",
        "subnormal",
        "tiny",
        "all scales",
        "two",
        "three",
        "wide",
    ],
)
def test_hard_data(X):
    """P is finite and sums to 1, whatever the data."""
    value = min(8, len(X) - 1)
    found = affinities.perplexity(X, value)
    assert np.isfinite(found.P.data).all()
    assert found.P.sum() == pytest.approx(1, abs=1e-6)
    assert np.isfinite(found.entropy)
    assert (found.row_perplexity >= value * (1 - 1e-5)).all()


def test_errors(digits):
    """A perplexity out of range, and data that are no numbers."""
    with pytest.raises(ValueError, match=r"perplexity must be less than n_points = 400, got 400"):
        affinities.perplexity(digits, 400)
    with pytest.raises(ValueError, match="perplexity must be in"):
        affinities.perplexity(digits, 0.5)
    with pytest.raises(TypeError, match="perplexity must be a real number"):
        affinities.perplexity(digits, "30")
    with pytest.raises(ValueError, match="X must be finite, got NaN"):
        affinities.perplexity(np.where(digits == 0, np.nan, digits), 10)
    with pytest.raises(ValueError, match="X must have shape"):
        affinities.perplexity(np.ones(5), 2)

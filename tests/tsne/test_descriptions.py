"""What a graph says about its data, against data of which it is known."""

import pickle
import warnings

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import skew

import kullback
from kullback import affinities
from kullback.neighbors import Graph, neighbor_graph


def draw_torus(n_points, n_dimensions):
    """Return distances between points spread evenly over a torus, which has no boundary."""
    X = np.random.default_rng(n_dimensions).random((n_points, n_dimensions))
    between = np.abs(X[:, None] - X)
    return np.sqrt((np.minimum(between, 1 - between) ** 2).sum(axis=2))


@pytest.mark.parametrize("n_dimensions", [1, 2, 4])
def test_dimension_of_a_torus(n_dimensions):
    """The estimate is the dimension, to three standard errors: 1 / sqrt(n k) of it, as neighbours share points more."""
    graph = neighbor_graph(draw_torus(1_000, n_dimensions), 12, metric="precomputed")
    assert graph.describe().dimension == pytest.approx(n_dimensions, rel=0.08)


def test_dimension_does_not_depend_on_features_or_scale():
    """A plane that is rolled up in many features has two dimensions, at any scale and in float32."""
    rng = np.random.default_rng(0)
    angle, height = 9 * rng.random(3_000) ** 0.5 + 3, 10 * rng.random(3_000)
    X = np.c_[angle * np.cos(angle), angle * np.sin(angle), height] @ rng.normal(size=(3, 20))
    expected = neighbor_graph(X, 10).describe()
    assert expected.dimension == pytest.approx(2, abs=0.2)
    for scale in (1e-300, 1e-3, 1e250):
        assert neighbor_graph(X * scale, 10).describe().dimension == pytest.approx(expected.dimension, rel=1e-6)
    assert neighbor_graph(X.astype(np.float32), 10).describe().dimension == pytest.approx(expected.dimension, rel=1e-3)


def test_the_formulas_on_few_points():
    """Numbers of a graph that is worked out by hand."""
    e = np.e
    lists = np.array([[1, 2], [2, 3], [1, 3], [1, 0]]), np.array([[1, e], [0, e**2], [0, 0], [2, 2 * e**3]])
    found = neighbor_graph(lists, 2).describe()
    assert found.dimension == pytest.approx(2 / (1 + 3))  # the pairs at distance 0 are left out
    assert found.hubness == pytest.approx(skew([1, 3, 2, 2]))
    assert (found.n_parts, found.n_duplicates) == (1, 2)
    assert all(isinstance(value, (int, float)) for value in found)
    rows = sparse.csr_array(([1.0, 2, 4, 1, 1], [1, 2, 3, 0, 1], [0, 3, 4, 5, 5]), shape=(4, 4)).toarray()
    rows[3, 2] = 5
    uneven = neighbor_graph(sparse.csr_array(rows), 3, metric="precomputed").describe()  # rows of 3, 1, 1 and 1
    assert uneven.dimension == pytest.approx(2 / np.log(4 * 2))
    assert uneven.n_parts == 1


def test_hubs():
    """A star has a hub, a ring has none, and noise has the more hubs the more features it has."""
    star = np.array([[1], *[[0]] * 29]), np.ones((30, 1))
    assert neighbor_graph(star, 1).describe().hubness == pytest.approx(skew([29, 1, *[0] * 28]))
    i = np.arange(30)[:, None]
    assert neighbor_graph(((i + np.array([1, -1])) % 30, np.ones((30, 2))), 2).describe() == (0, np.inf, 1, 0)
    noise = np.random.default_rng(0).normal(size=(1_000, 60))
    few, many = (neighbor_graph(noise[:, :d], 10).describe().hubness for d in (2, 60))
    assert few < 1 < 2 < many


def test_parts_and_duplicates():
    """Far groups are parts, also where edges lead in one direction only, and copies are duplicates."""
    X = np.random.default_rng(0).normal(size=(40, 3))
    found = neighbor_graph(np.vstack([X, X + 100, X + 1e6, X[:5]]), 8).describe()
    assert (found.n_parts, found.n_duplicates) == (3, 10)
    chain = np.array([[1], [2], [3], [2]]), np.ones((4, 1))
    assert neighbor_graph(chain, 1).describe().n_parts == 1
    constant = neighbor_graph(np.ones((20, 2)), 4).describe()
    assert np.isnan(constant.dimension)
    assert constant.n_duplicates == 20


def test_affinities_describe_their_neighbours():
    """Affinities say what their graph says, also after pickling; a given matrix has no neighbours."""
    X = np.random.default_rng(0).normal(size=(200, 4))
    graph = neighbor_graph(X, 15)
    joint = affinities.perplexity(graph, 5)
    assert joint.describe() == pickle.loads(pickle.dumps(joint)).describe() == graph.describe()
    assert Graph(*graph).describe() == graph.describe()
    with pytest.raises(ValueError, match="affinities of a given matrix have no neighbors to describe"):
        affinities.given(np.ones((4, 4))).describe()


def test_a_warning_tells_of_copies():
    """A fit warns where many rows have copies alone as neighbours, and of nothing where few have or all."""
    X = np.random.default_rng(0).normal(size=(60, 3))
    options = {"perplexity": 3, "max_iter": 1}
    with pytest.warns(UserWarning, match=r"30 of 70 rows have no neighbours but copies of themselves") as caught:
        kullback.TSNE(**options).fit(np.vstack([X[1:41], np.repeat(X[:1], 30, axis=0)]))
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rows in (X, np.vstack([X, X, X]), np.vstack([X[1:], np.repeat(X[:1], 25, axis=0)]), np.ones((60, 3))):
            kullback.TSNE(**options).fit(rows)

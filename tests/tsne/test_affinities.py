"""``kullback.affinities``: P against the reference, its laws, and data that break a bandwidth search."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

import kullback
from kullback import _kernels
from kullback.reference import affinities as reference
from kullback.tsne import affinities, neighbors


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
    """P is that of the reference, to the rounding of float32 distances."""
    found = affinities.perplexity(digits.astype(dtype), value)
    assert found.P.dtype == dtype
    expected = reference.perplexity(digits, value)
    # Distances have a relative error of 1e-6, and beta d^2 reaches about 20.
    np.testing.assert_allclose(found.P.toarray(), expected, rtol=1e-3 if value > 1 else 1, atol=1e-9)
    values = expected[expected > 0]
    assert found.entropy == pytest.approx(-np.sum(values * np.log(values)), rel=1e-6)


def test_laws(digits):
    """P is symmetric to the bit, sums to 1 and has an empty diagonal, and rows have the perplexity."""
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
    """The neighbour graph that is given back leads to the P of the data."""
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
        )  # of several last neighbours at one distance, another may be taken


def test_ragged_graph():
    """Rows with fewer neighbours than the perplexity are uniform over those they have."""
    dense = np.zeros((5, 5))
    dense[0, 1] = 1
    dense[1, [0, 2, 3, 4]] = [1, 2, 3, 4]
    dense[2:, 1] = 2
    with pytest.warns(UserWarning, match="X holds fewer .* perplexity = 2: row 0 has 1; .*: 4 of 5"):
        found = affinities.perplexity(sparse.csr_array(dense), 2, metric="precomputed")
    assert found.P.sum() == pytest.approx(1)
    np.testing.assert_allclose(found.row_perplexity, [1, 2, 1, 1, 1])
    assert found.bandwidths[0] == 0


def test_fewer_neighbours_than_the_perplexity(digits):
    """A warning has both numbers and names the parameter that caused it; as many neighbours suffice."""
    X = digits[:60]
    graph = neighbors.neighbor_graph(X, 15)
    by_cause = {
        "n_neighbors = 15 is less than perplexity = 30; .*: 60 of 60": lambda: affinities.perplexity(
            X, 30, n_neighbors=15
        ),
        "X holds fewer neighbours than perplexity = 15.5: row 0 has 15": lambda: affinities.perplexity(graph, 15.5),
        "X holds fewer neighbours than perplexity = 16: row 0 has 15": lambda: affinities.perplexity(
            neighbors.nearest_neighbors(X, 15), 16
        ),
        "X holds fewer neighbours than the largest of perplexities = 20: row 0 has 15": lambda: affinities.multiscale(
            graph, [5, 20]
        ),
        "perplexity = 59.5 is more than the 59 other points": lambda: affinities.perplexity(X, 59.5),
        "X holds fewer neighbours than perplexity = 30: row 0 has 15": lambda: kullback.TSNE(
            metric="precomputed", init="random", max_iter=1
        ).fit(affinities.perplexity(graph, 15).neighbors),
    }
    for cause, call in by_cause.items():
        with pytest.warns(UserWarning, match=cause):
            call()
    for full in (affinities.perplexity(graph, 15), affinities.perplexity(X, 59), affinities.multiscale(graph, [15, 2])):
        assert full.P.sum() == pytest.approx(1)


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
    """P is finite and sums to 1 for all data."""
    value = min(8, len(X) - 1)
    found = affinities.perplexity(X, value)
    assert np.isfinite(found.P.data).all()
    assert found.P.sum() == pytest.approx(1, abs=1e-6)
    assert np.isfinite(found.entropy)
    assert (found.row_perplexity >= value * (1 - 1e-5)).all()


def test_errors(digits):
    """A perplexity out of range and data that are no numbers are refused."""
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


def conditionals(X, k, perplexity):
    """Return the reference's neighbours, distances and conditional probabilities."""
    indices, distances = reference.nearest_neighbors(X, k)
    return indices, distances, reference.conditional_probabilities(distances, perplexity)[0]


def test_multiscale_is_the_mean_over_perplexities(digits):
    """The conditional probabilities are means over one graph of three times the largest perplexity."""
    found = affinities.multiscale(digits, [5, 30])
    indices, _, narrow = conditionals(digits, 90, 5)
    wide = conditionals(digits, 90, 30)[2]
    expected = reference.joint_probabilities(indices, (narrow + wide) / 2)
    np.testing.assert_allclose(found.P.toarray(), expected, rtol=1e-3, atol=1e-9)
    assert found.bandwidths.shape == (400, 2)
    assert (found.bandwidths[:, 0] < found.bandwidths[:, 1]).all()
    same = affinities.multiscale(digits, [20])
    np.testing.assert_allclose(same.P.toarray(), affinities.perplexity(digits, 20).P.toarray(), rtol=1e-14)
    with pytest.raises(TypeError, match="perplexities must be a sequence"):
        affinities.multiscale(digits, 30)


def test_uniform(digits):
    """Each of k neighbours has the weight 1 / k."""
    found = affinities.uniform(digits, 15)
    indices = reference.nearest_neighbors(digits, 15)[0]
    expected = reference.joint_probabilities(indices, np.full(indices.shape, 1 / 15))
    np.testing.assert_allclose(found.P.toarray(), expected, atol=1e-17)
    np.testing.assert_allclose(found.row_perplexity, 15)
    assert affinities.uniform(digits[:4], 15).P.sum() == pytest.approx(1)


@pytest.mark.parametrize("sigma", [1e-100, 0.1, 10, 1e300])
def test_fixed_sigma(digits, sigma):
    """With a tiny bandwidth only the nearest neighbour has a weight, and with a huge one all have the same."""
    found = affinities.fixed_sigma(digits, sigma, n_neighbors=20)
    indices, distances, _ = conditionals(digits, 20, 5)
    with np.errstate(over="ignore"):
        exponents = ((distances / sigma) ** 2 - (distances[:, :1] / sigma) ** 2) / 2
    exponents[distances == distances[:, :1]] = 0
    weights = np.exp(-np.minimum(exponents, 708))
    expected = reference.joint_probabilities(indices, weights / weights.sum(axis=1, keepdims=True))
    # Distances have an error of 1e-7, and their squares over sigma^2 reach 1e5.
    np.testing.assert_allclose(found.P.toarray(), expected, rtol=2e-2, atol=1e-9)
    with pytest.raises(ValueError, match=r"sigma must be in \(0, inf\], got 0"):
        affinities.fixed_sigma(digits, 0)


def test_lists_of_neighbors(digits):
    """Lists (indices, distances), as other libraries return them, may have any order within a row."""
    indices, distances = reference.nearest_neighbors(digits, 60)
    expected = affinities.perplexity(digits, 20).P.toarray()
    for order in (slice(None), slice(None, None, -1)):
        found = affinities.perplexity((indices[:, order], distances[:, order]), 20)
        np.testing.assert_allclose(found.P.toarray(), expected, rtol=1e-3, atol=1e-8)
    with_self = (np.c_[np.arange(400), indices], np.c_[np.zeros(400), distances])
    np.testing.assert_allclose(affinities.perplexity(with_self, 20).P.toarray(), expected, rtol=1e-3, atol=1e-8)
    for bad, message in (
        ((indices,), "tuple of 1"),
        ((indices, distances[:, :5]), "both of shape"),
        ((indices + 1, distances), r"indices in \[0, 400\), got 1 to 400"),
        ((indices, -distances), "distances of at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            affinities.perplexity(bad, 20)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.coo_array])
def test_given(digits, form):
    """A joint P is returned as it is. Anything else is made symmetric and divided by its sum."""
    P = affinities.perplexity(digits, 10).P
    found = affinities.given(form(P.toarray()))
    np.testing.assert_allclose(found.P.toarray(), P.toarray(), rtol=1e-12)
    assert found.entropy == pytest.approx(affinities.perplexity(digits, 10).entropy, rel=1e-12)
    skew = np.triu(np.ones((4, 4)), 0) * 7
    joint = affinities.given(form(skew))
    np.testing.assert_allclose(joint.P.toarray(), (1 - np.eye(4)) / 12)
    np.testing.assert_allclose(joint.row_perplexity, [3, 2, 1, 0])
    for bad, message in ((np.eye(3), "positive number off its diagonal"), (-np.ones((2, 2)), "at least 0")):
        with pytest.raises(ValueError, match=message):
            affinities.given(form(bad))


@pytest.mark.parametrize("strength", [0, 0.4, 1])
def test_supervise(digits, strength):
    """Pairs of different known classes get less weight, missing labels are unknown, and what is given stays."""
    labels = load_digits().target[:400].copy()
    labels[:50] = -1
    old = affinities.perplexity(digits, 10)
    before = old.P.toarray()
    found = affinities.supervise(old, labels, strength)
    known = labels >= 0
    differ = (labels[:, None] != labels) & known[:, None] & known
    expected = np.where(differ, (1 - strength) * before, before)
    np.testing.assert_allclose(found.P.toarray(), expected / expected.sum(), rtol=1e-12)
    np.testing.assert_array_equal(old.P.toarray(), before)
    assert abs(found.P - found.P.T).max() == 0
    names = np.where(known, np.array(list("abcdefghij"))[labels], "?")
    again = affinities.supervise(old.P, names, strength, unknown="?").P.toarray()
    np.testing.assert_allclose(again, found.P.toarray(), rtol=1e-12)
    objects = np.where(known, names, None)
    objects[:10] = np.nan
    for gaps in (objects, np.ma.masked_array(names, ~known)):
        again = affinities.supervise(old.P, gaps, strength, unknown=None).P.toarray()
        np.testing.assert_allclose(again, found.P.toarray(), rtol=1e-12)
    with pytest.raises(ValueError, match=r"strength must be in \[0, 1\], got 2"):
        affinities.supervise(old, labels, 2)
    with pytest.raises(ValueError, match="labels must leave some neighbours of the same class"):
        affinities.supervise(old, np.arange(400), 1)


@pytest.mark.parametrize(
    "form",
    [
        lambda y: y.astype(bool),
        lambda y: y.astype(np.uint8),
        lambda y: y.astype(np.uint64),
        lambda y: np.where(y, "+", "-"),
        lambda y: np.where(y, "+", "-").astype(object),
        lambda y: y.astype(np.float32),
        lambda y: ["yes" if label else "no" for label in y],
    ],
)
def test_labels_of_any_type(digits, form):
    """The type of the labels changes nothing: unknown=-1 is not cast to it."""
    labels = load_digits().target[:400] % 2
    old = affinities.perplexity(digits, 10)
    expected = affinities.supervise(old, labels).P
    assert abs(expected - old.P).max() > 0
    np.testing.assert_array_equal(affinities.supervise(old, form(labels)).P.toarray(), expected.toarray())
    with pytest.raises(TypeError, match="unknown must be a number where labels are numbers, got 'none'"):
        affinities.supervise(old, labels, unknown="none")


def test_a_graph_serves_every_function(digits):
    """A graph gives the affinities of the data, for as many neighbours as it has or fewer."""
    graph = neighbors.neighbor_graph(digits, 90)
    for make in (
        lambda X: affinities.perplexity(X, 30),
        lambda X: affinities.perplexity(X, 7),
        lambda X: affinities.multiscale(X, [3, 20]),
        lambda X: affinities.uniform(X, 15),
        lambda X: affinities.fixed_sigma(X, 10, n_neighbors=40),
    ):
        found, expected = make(graph), make(digits)
        assert (found.P != expected.P).nnz == 0
        assert (found.neighbors != expected.neighbors).nnz == 0
    with pytest.raises(ValueError, match="perplexity must be less than n_points = 400"):
        affinities.perplexity(graph, 400)
    found = affinities.perplexity(graph, 30)
    for part in (found.neighbors.data, found.neighbors.indices, found.neighbors.indptr):
        assert not any(np.may_share_memory(part, given) for given in graph)


def test_a_ragged_graph_is_cut_row_by_row():
    """Rows with fewer neighbours than are wanted keep all of them."""
    graph = neighbors.Graph(
        np.array([1, 2, 3, 0, 0, 1, 0], np.int32), np.array([1.0, 2, 3, 1, 2, 4, 3]), np.array([0, 3, 4, 6, 7])
    )
    found = affinities.uniform(graph, 2)
    np.testing.assert_array_equal(found.row_perplexity.round(12), [2, 1, 2, 1])
    np.testing.assert_array_equal(found.neighbors.toarray()[0], [0, 1, 2, 0])


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1, 1e30, 1e300])
@pytest.mark.parametrize("value", [2, 15, 80])
def test_bandwidths_converge_at_any_scale(value, scale):
    """Entropies are log(perplexity) to 1e-5 in every row, with pairs and triples of duplicates among the data."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4)) * rng.lognormal(size=(200, 1))
    X[:20], X[20:40] = X[40:60], X[60:80]
    X[80:90] = X[90:100] = X[40:50]
    dense = np.sqrt(((X[:, None] - X) ** 2).sum(axis=2)) * scale
    found = affinities.perplexity(dense, value, metric="precomputed")
    nearest = np.sort(dense + np.where(np.eye(200), np.inf, 0), axis=1)
    ties = (nearest == nearest[:, :1]).sum(
        axis=1
    )  # the least perplexity of a row is its number of equally near neighbours
    np.testing.assert_allclose(np.log(found.row_perplexity), np.log(np.maximum(value, ties)), atol=1e-5)


def test_scanpys_graph(digits):
    """Scanpy's ``obsp["distances"]`` serve: k - 1 distances a row, in which zeros of duplicates may be missing."""
    indices, distances = reference.nearest_neighbors(digits, 29)
    stored = sparse.csr_matrix((distances.ravel(), indices.ravel(), np.arange(401) * 29), shape=(400, 400))
    expected = affinities.perplexity((indices, distances), 9).P.toarray()
    np.testing.assert_allclose(affinities.perplexity(stored, 9, metric="precomputed").P.toarray(), expected)
    uneven = stored.copy()
    uneven.data[::50] = 0
    uneven.eliminate_zeros()
    assert affinities.perplexity(uneven, 9, metric="precomputed").P.sum() == pytest.approx(1)
    joint = affinities.given(stored.power(2) > 0)  # like obsp["connectivities"], which may be any weights
    assert joint.P.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"columns": [1, 2, 0, 3]}, ValueError, r"X must have columns in \[0, 3\), got 0 to 3"),
        ({"columns": [-1, 2, 0, 1]}, ValueError, r"X must have columns in \[0, 3\), got -1 to 2"),
        ({"columns": [1, 2, 0]}, ValueError, "X must have columns and distances of one shape"),
        ({"columns": [1.0, 2, 0, 1]}, TypeError, "X must have integer columns"),
        ({"distances": [2.0, 1, 1, 1]}, ValueError, "X must have rows that are sorted by distance"),
        ({"distances": [-1.0, 1, 1, 1]}, ValueError, "X must have distances of at least 0, got -1"),
        ({"distances": [np.nan, 1, 1, 1]}, ValueError, "X's distances must be finite, got NaN"),
        ({"row_starts": [0, 2, 3]}, ValueError, "X must have rows of at least 1 neighbour"),
        ({"row_starts": [0, 2, 2, 4]}, ValueError, "X must have rows of at least 1 neighbour"),
        ({"row_starts": [0, 5, 3, 4]}, ValueError, "X must have rows of at least 1 neighbour"),
        ({"row_starts": [1, 2, 3, 4]}, ValueError, "X must have rows of at least 1 neighbour"),
    ],
)
def test_a_graph_that_is_none_is_refused(change, error, message):
    """Indices that are out of range are refused before they reach a kernel."""
    good = {"columns": [1, 2, 0, 1], "distances": [1.0, 2, 1, 1], "row_starts": [0, 2, 3, 4]}
    assert affinities.perplexity(neighbors.Graph(**good), 1).P.sum() == pytest.approx(1)
    with pytest.raises(error, match=message):
        affinities.perplexity(neighbors.Graph(**(good | change)), 1)

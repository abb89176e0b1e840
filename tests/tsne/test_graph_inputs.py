"""Graphs as users have them: P and distances in every format, type and order; what is wrong is refused by name."""

import numpy as np
import pytest
from scipy import sparse

import kullback
from kullback import affinities, gradient, neighbors
from kullback import reference as ref
from kullback.tsne import Embedding, initialization

N = 30
Y = np.random.default_rng(0).normal(size=(N, 2))


def draw_affinities():
    """Return a joint distribution whose float16 values are exact, as CSR."""
    rng = np.random.default_rng(1)
    pairs = np.triu(rng.random((N, N)) < 0.4, 1)
    pairs[np.arange(N - 1), np.arange(1, N)] = True  # connected
    P = np.zeros((N, N))
    P[pairs] = 2.0**-10
    P[0, 1] += 0.5 - P.sum()
    return sparse.csr_array(P + P.T)


P = draw_affinities()


def parts(data=None, indices=None, indptr=None):
    """Return P with other arrays, which SciPy keeps as they are."""
    matrix = P.copy()
    matrix.data = P.data if data is None else data
    matrix.indices = P.indices if indices is None else indices
    matrix.indptr = P.indptr if indptr is None else indptr
    return matrix


def turn_rows(matrix):
    """Return the matrix with its rows from back to front; it goes on saying of itself that they are sorted."""
    turned = matrix.copy()
    assert turned.has_sorted_indices
    assert turned.has_canonical_format
    for start, end in zip(turned.indptr[:-1], turned.indptr[1:], strict=True):
        turned.data[start:end] = turned.data[start:end][::-1].copy()
        turned.indices[start:end] = turned.indices[start:end][::-1].copy()
    return turned


def repeat_elements(matrix):
    """Return the matrix with each element in two halves at one place."""
    data, indices = np.repeat(matrix.data / 2, 2), np.repeat(matrix.indices, 2)
    return sparse.csr_array((data, indices, matrix.indptr * 2), shape=matrix.shape)


def store_zeros(matrix):
    """Return the matrix with all its zeros stored."""
    full = sparse.csr_array(np.ones(matrix.shape))
    full.data[:] = matrix.toarray().reshape(-1)
    return full


def read_only(matrix):
    """Return the matrix in memory that cannot be written to."""
    matrix = turn_rows(matrix)
    for array in (matrix.data, matrix.indices, matrix.indptr):
        array.flags.writeable = False
    return matrix


SAME = {
    "dense": lambda: P.toarray(),
    "nested lists": lambda: P.toarray().tolist(),
    "Fortran order": lambda: np.asfortranarray(P.toarray()),
    "dense float16": lambda: P.toarray().astype(np.float16),
    "dense long double": lambda: P.toarray().astype(np.longdouble),
    "float16": lambda: parts(data=P.data.astype(np.float16)),
    "float32": lambda: P.astype(np.float32),
    "long double": lambda: P.astype(np.longdouble),
    "big endian": lambda: parts(data=P.data.astype(">f8")),
    "int64 indices": lambda: parts(indices=P.indices.astype(np.int64), indptr=P.indptr.astype(np.int64)),
    "unsorted rows": lambda: turn_rows(P),
    "duplicates": lambda: repeat_elements(P),
    "stored zeros": lambda: store_zeros(P),
    "read only": lambda: read_only(P),
    **{form: lambda form=form: P.asformat(form) for form in ("coo", "csc", "lil", "dok", "bsr", "dia")},
    "matrix": lambda: sparse.csr_matrix(P),
}

READERS = {
    "attractive_forces": lambda P: gradient.attractive_forces(P, Y),
    "attractive_forces of float32": lambda P: gradient.attractive_forces(P, Y.astype(np.float32)),
    "tsne_gradient": lambda P: gradient.tsne_gradient(P, Y),
    "tsne_loss": lambda P: np.array(gradient.tsne_loss(P, Y)),
    "point_kl": lambda P: gradient.point_kl(P, Y),
    "Embedding": lambda P: Embedding(P, Y).optimize(3).positions,
    "spectral": lambda P: initialization.spectral(P, random_state=0),
    "given": lambda P: affinities.given(P).P.toarray(),
    "supervise": lambda P: affinities.supervise(P, np.arange(N) % 2).P.toarray(),
    "reference attraction": lambda P: ref.attractive_forces(P, Y),
    "reference gradient": lambda P: ref.tsne_gradient(P, Y),
    "reference loss": lambda P: np.array(ref.tsne_loss(P, Y)),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("make", SAME.values(), ids=SAME)
def test_one_distribution_in_every_form(read, make):
    """Format, dtype, order, stored zeros and elements in parts change nothing, and what is given is not written to."""
    given = make()
    names = [name for name in ("data", "indices", "indptr") if isinstance(getattr(given, name, None), np.ndarray)]
    before = [getattr(given, name).tobytes() for name in names]
    np.testing.assert_allclose(read(given), read(P), rtol=1e-6, atol=1e-9)
    assert [getattr(given, name).tobytes() for name in names] == before


@pytest.mark.parametrize("metric", ["precomputed", "euclidean"])
@pytest.mark.parametrize("name", ["unsorted rows", "duplicates", "int64 indices", "float16", "read only", "coo", "csc"])
def test_distances_and_data_in_every_form(name, metric):
    """The same of sparse distances and of sparse data: an element in two parts is no second neighbour."""
    given = SAME[name]()
    expected, found = (neighbors.neighbor_graph(X, 3, metric=metric) for X in (P, given))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    index = neighbors.NeighborIndex(P, metric=metric)
    for one, other in zip(index.search(P, 3), index.search(given, 3), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    maps = [
        kullback.TSNE(
            perplexity=2, metric=metric, init="random", random_state=0, max_iter=3, early_exaggeration_iter=2
        ).fit_transform(X)
        for X in (P, given)
    ]
    np.testing.assert_allclose(*maps, rtol=1e-5, atol=1e-6)


WRONG = {
    "a self loop": (lambda P: P.__setitem__((3, 3), 0.5 * P.max()), "P must be 0 on its diagonal, got"),
    "a negative number": (lambda P: P.__setitem__((3, 4), -0.25), "P must hold finite, non-negative probabilities"),
    "NaN": (lambda P: P.__setitem__((3, 4), np.nan), "P must hold finite, non-negative probabilities"),
    "a sum of 2": (lambda P: P.__imul__(2), "P must sum to 1, got 2"),
}


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, sparse.coo_array])
@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("name", list(READERS)[:7])
def test_what_is_no_joint_distribution(name, change, message, form):
    """Self loops, negative numbers, NaN and other sums are refused before any work."""
    wrong = P.toarray()
    change(wrong)
    with pytest.raises(ValueError, match=message):
        READERS[name](form(wrong))


@pytest.mark.parametrize("dtype", [complex, bool])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("name", list(READERS)[:7])
def test_types_that_are_no_probabilities(name, form, dtype):
    """Complex numbers are not cut to their real part, and booleans are no probabilities."""
    with pytest.raises(TypeError, match="P must hold real numbers, got dtype"):
        READERS[name](form(P.toarray().astype(dtype)))


@pytest.mark.parametrize("name", ["tsne_gradient", "Embedding", "spectral"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_an_asymmetric_matrix_has_no_such_gradient(name, dtype):
    """The gradient of t-SNE holds for symmetric P; the error names two elements and the remedy."""
    upper = np.triu(2 * P.toarray()).astype(dtype)
    with pytest.raises(ValueError, match=r"P must be symmetric, got 0.\d+ at \(0, 1\) and 0.0 at \(1, 0\); kullback"):
        READERS[name](upper)
    rounded = P.toarray() * (1 + 1e-5 * np.random.default_rng(0).normal(size=(N, N)))
    READERS[name](rounded)


def test_attraction_and_loss_of_an_asymmetric_matrix():
    """These are defined for any joint distribution, and are those of the twins."""
    upper = sparse.csr_array(np.triu(2 * P.toarray()))
    np.testing.assert_allclose(gradient.attractive_forces(upper, Y), ref.attractive_forces(upper, Y), rtol=1e-12)
    np.testing.assert_allclose(gradient.tsne_loss(upper, Y), ref.tsne_loss(upper, Y), rtol=1e-12)


@pytest.mark.parametrize("n_empty", [1, 5])
def test_points_without_a_neighbour(n_empty):
    """Empty rows feel no attraction; the spectral start lays such points beside the others."""
    lonely = P.toarray()
    lonely[:n_empty] = lonely[:, :n_empty] = 0
    lonely = sparse.csr_array(lonely / lonely.sum())
    assert not gradient.attractive_forces(lonely, Y)[:n_empty].any()
    np.testing.assert_allclose(gradient.tsne_gradient(lonely, Y), ref.tsne_gradient(lonely, Y), atol=1e-12)
    np.testing.assert_allclose(gradient.tsne_loss(lonely, Y), ref.tsne_loss(lonely, Y), rtol=1e-12)
    assert not gradient.point_kl(lonely, Y)[:n_empty].any()
    assert np.isfinite(Embedding(lonely, Y).optimize(3).positions).all()
    starts = [initialization.spectral(matrix, random_state=0) for matrix in (lonely, store_zeros(lonely))]
    assert np.isfinite(starts[0]).all()
    np.testing.assert_allclose(*starts, atol=1e-9)
    with pytest.raises(ValueError, match="X must hold at least 1 neighbour in every row, got none in row 0"):
        neighbors.neighbor_graph(lonely, 3, metric="precomputed")

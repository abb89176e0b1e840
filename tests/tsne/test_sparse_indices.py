"""Sparse matrices whose indices lie outside of them, which SciPy lets pass: they are refused before a kernel runs."""

import numpy as np
import pytest
from scipy import sparse

import kullback
from kullback import affinities, gradient, neighbors
from kullback.tsne import Embedding, initialization

Y = np.random.default_rng(0).normal(size=(30, 2))

READERS = [
    lambda P: gradient.attractive_forces(P, Y),
    lambda P: gradient.tsne_loss(P, Y),
    lambda P: gradient.point_kl(P, Y),
    lambda P: Embedding(P, Y),
    lambda P: initialization.spectral(P),
    lambda P: initialization.pca(P),
    lambda P: affinities.given(P),
    lambda P: affinities.supervise(P, np.arange(30) % 2),
    lambda P: affinities.supervise(affinities.Affinities(P, None, None, None), np.arange(30) % 2),
    lambda P: affinities.perplexity(P, 5, metric="precomputed"),
    lambda P: neighbors.neighbor_graph(P, 5, metric="precomputed"),
    lambda P: neighbors.nearest_neighbors(P, 5),
    lambda P: neighbors.NeighborIndex(np.eye(30)).search(P, 5),
    lambda P: kullback.TSNE(perplexity=5, metric="precomputed", init="random").fit(P),
]


def make(change, form=sparse.csr_array):
    """Return a joint distribution of 30 points, one of whose indices is changed."""
    P = form(np.ones((30, 30)) - np.eye(30)) / 870
    name, slot, value = change
    setattr(P, name, getattr(P, name).copy())
    getattr(P, name)[slot] = value
    return P


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("indices", 3, -1), r"must have indices in \[0, 30\), got -1 to 29"),
        (("indices", 3, 30), r"must have indices in \[0, 30\), got 0 to 30"),
        (("indptr", 5, 10**6), "must have an indptr of 31 numbers that grow from 0, up to its 870 values"),
        (("indptr", 0, 1), "must have an indptr of 31 numbers"),
    ],
)
def test_indices_are_checked(read, change, message):
    """Whatever reads a sparse matrix names the argument and the indices."""
    with pytest.raises(ValueError, match=message):
        read(make(change))


@pytest.mark.parametrize("form", [sparse.csc_array, sparse.csr_matrix, sparse.coo_array])
def test_other_formats(form):
    """The same holds before SciPy turns another format into CSR."""
    if form is sparse.coo_array:
        P = form(np.ones((30, 30)))
        P.row[3] = -1
    else:
        P = make(("indices", 3, -1), form)
    with pytest.raises(ValueError, match=r"P must have indices in \[0, 30\), got -1 to 29"):
        affinities.given(P)


def test_room_for_more_values():
    """Values behind the last row are no part of a matrix."""
    P = sparse.csr_array(np.ones((30, 30)) - np.eye(30)) / 870
    expected = affinities.given(P).P.toarray()
    P.indptr[-1] -= 29
    assert affinities.given(P).P.sum() == pytest.approx(1)
    assert abs(affinities.given(P).P.toarray() - expected).max() > 0


def test_rows_with_wide_indices_have_the_distances_of_others():
    """SciPy gives indices of 64 bits to what is made of them; scikit-learn's Manhattan distance takes none."""
    rng = np.random.default_rng(0)
    places = np.repeat(np.arange(270), 5), rng.integers(250_000, size=1350)  # so wide that it is never dense
    wide = sparse.csr_array((rng.random(1350), places), shape=(270, 250_000))
    narrow = wide.copy()
    narrow.indices, narrow.indptr = wide.indices.astype(np.int32), wide.indptr.astype(np.int32)
    assert wide.indices.dtype == np.int64
    found = [neighbors.nearest_neighbors(X, 3, metric="manhattan", n_threads=1) for X in (wide, narrow)]
    np.testing.assert_array_equal(*(indices for indices, _ in found))
    np.testing.assert_array_equal(*(distances for _, distances in found))

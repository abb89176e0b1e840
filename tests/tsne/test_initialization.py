"""Where the descent starts: the scale, the signs, the jitter and the seeds."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import eigsh
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from threadpoolctl import ThreadpoolController

from kullback import _threads, affinities
from kullback.tsne import initialization


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, lambda X: X.astype(np.float32)])
@pytest.mark.parametrize("scale", [1e-30, 1, 1e30])
def test_pca_is_scikit_learns(form, scale):
    """The components are scikit-learn's, up to sign, scaled to a standard deviation of 1e-4."""
    X = load_digits().data
    found = initialization.pca(form(X * scale), 2, random_state=0)
    expected = PCA(2).fit_transform(X)
    expected *= 1e-4 / expected[:, 0].std() * np.sign((expected * found).sum(axis=0))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-8)  # 1e-4 of the standard deviation


def test_wide_data_and_missing_components():
    """Above 2,000 features a randomised method finds the same components. One component alone has its usual scale."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3)) @ (rng.normal(size=(3, 2500)) * [[9], [3], [1]])
    expected = PCA(2, svd_solver="full").fit_transform(X)
    for form in (X, sparse.csr_matrix(X)):
        found = initialization.pca(form, 2, random_state=0)
        expected *= np.sign((expected * found).sum(axis=0))
        np.testing.assert_allclose(found, expected * 1e-4 / expected[:, 0].std(), atol=1e-8)
    one = initialization.pca(np.arange(5.0)[:, None], 2, random_state=0)
    assert one.shape == (5, 2)
    assert one[:, 0].std() == pytest.approx(1e-4, rel=1e-5)


def test_seeds():
    """Equal seeds give equal starts, and other seeds give others."""
    assert np.array_equal(initialization.random(9, 2, random_state=3), initialization.random(9, 2, random_state=3))
    assert not np.array_equal(initialization.random(9, 2, random_state=3), initialization.random(9, 2, random_state=4))
    assert initialization.random(4000, 3, random_state=0).std() == pytest.approx(1e-4, rel=0.05)
    X = np.repeat(np.arange(4.0), 3)[:, None]
    assert np.array_equal(initialization.pca(X, random_state=1), initialization.pca(X, random_state=1))


def test_points_that_coincide_are_parted():
    """Duplicates get a jitter, and other points none. Constant data become noise of the size of the jitter."""
    X = np.array([[0.0, 0], [1, 2], [1, 2], [3, 1]])
    found = initialization.rescale(X, random_state=0)
    plain = (X - X.mean(axis=0)) * 1e-4 / X[:, 0].std()
    np.testing.assert_allclose(found[[0, 3]], plain[[0, 3]], rtol=1e-6)
    assert len(np.unique(found, axis=0)) == 4
    assert np.abs(found[1:3] - plain[1:3]).max() < 1e-5
    constant = initialization.pca(np.full((30, 3), 7.0), random_state=0)
    assert len(np.unique(constant, axis=0)) == 30
    assert 0 < np.abs(constant).max() < 1e-4


def test_no_warnings_or_overflow_at_extremes():
    """One outlier at 1e30, subnormal data and n < n_components give finite starts."""
    for X in (
        np.array([[0.0, 0], [1, 1], [1e30, 2]]),
        np.arange(6.0).reshape(3, 2) * 1e-320,
        np.array([[1.0], [2.0]]),
    ):
        assert np.isfinite(initialization.pca(X, 3, random_state=0)).all()


def ring(n_points, gap=0):
    """Return P of points on a circle, each tied to the next one. ``gap`` leaves out ties, which opens the circle."""
    step = np.arange(n_points - gap)
    weights = sparse.coo_array((np.ones(len(step)), (step, (step + 1) % n_points)), shape=(n_points, n_points))
    return sparse.csr_array((weights + weights.T) / (2 * len(step)))


@pytest.mark.parametrize("n_points", [40, 700])
def test_spectral_unrolls_a_chain(n_points):
    """The first eigenvector of an open chain is a cosine, in the chain's order, positive at one known end."""
    found = initialization.spectral(ring(n_points, gap=1), 2, random_state=0)
    assert found.dtype == np.float32
    assert found[:, 0].std() == pytest.approx(1e-4, rel=1e-5)
    # An end of the chain has half the degree, so eigenvectors of the random walk are cosines of period n - 1.
    expected = np.cos(np.pi * np.arange(n_points) / (n_points - 1))
    expected *= 1e-4 / expected.std()
    np.testing.assert_allclose(found[:, 0], expected, atol=2e-8)  # a residual of 1e-6 at gaps of 1e-5


@pytest.mark.parametrize("n_points", [60, 500, 1200])
def test_spectral_is_the_generalised_eigenvector(n_points):
    """Each component solves P y = lambda D y, for the largest lambda below 1, and its sign is fixed."""
    P = affinities.perplexity(load_digits().data[:n_points], 15)
    found = initialization.spectral(P, 2, random_state=0).astype(float)
    degrees = P.P.sum(axis=1)
    scale = sparse.diags_array(degrees**-0.5)
    largest = np.sort(eigsh(scale @ P.P @ scale, 3, which="LA")[0])[::-1]
    for k in range(2):
        y = found[:, k] - degrees @ found[:, k] / degrees.sum()  # rescale has subtracted the plain mean
        # The residual may be 1e-6 of the vector, and float32 positions add another 1e-7.
        assert np.linalg.norm(P.P @ y - largest[k + 1] * degrees * y) < 1e-5 * np.linalg.norm(degrees * y)
        assert found[np.abs(y).argmax(), k] > 0


@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_spectral_keeps_parts_of_a_graph_apart(n_components):
    """Parts that are not connected do not overlap, no two points coincide, and the bits repeat."""
    sizes = (30, 12, 2, 1100)
    P = sparse.block_diag([ring(n, gap=n < 3) * n for n in sizes], format="csr")
    P /= P.sum()
    found = initialization.spectral(P, n_components, random_state=0)
    assert np.array_equal(found, initialization.spectral(P, n_components, random_state=0))
    if n_components > 1:  # in one dimension, a few of so many float32 numbers are equal again after the jitter
        assert len(np.unique(found, axis=0)) == sum(sizes)
    ends = np.cumsum([0, *sizes])
    middles = [found[a:b].mean(axis=0) for a, b in pairwise(ends)]
    for i, (a, b) in enumerate(pairwise(ends)):
        radius = np.sqrt(((found[a:b] - middles[i]) ** 2).sum(axis=1)).mean()
        for other in middles[:i] + middles[i + 1 :]:
            assert np.linalg.norm(other - middles[i]) > radius


def test_given_positions_are_kept_but_for_duplicates():
    """The scale and the place are kept, coinciding points part by 1e-6, and the given array is not changed."""
    Y = np.array([[5.0, 0], [1, 2], [1, 2], [3, 1]])
    before = Y.copy()
    found = initialization.part_coinciding(Y, random_state=0)
    assert np.array_equal(found[[0, 3]], Y[[0, 3]])
    assert len(np.unique(found, axis=0)) == 4
    assert np.abs(found - Y).max() < 1e-5
    assert np.array_equal(Y, before)
    assert len(np.unique(initialization.part_coinciding(np.zeros((20, 2)), random_state=0), axis=0)) == 20
    for scale in (1e2, 1e37):  # the rounding of float32 there is far larger than the usual jitter
        parted = initialization.part_coinciding(np.full((300, 2), scale), random_state=0)
        assert len(np.unique(parted, axis=0)) == 300
        np.testing.assert_allclose(parted, scale, rtol=1e-5)


@pytest.mark.parametrize(("shape", "serial"), [((40, 3), True), ((40, 1100), False)])
def test_blas_has_one_thread_for_small_data_only(monkeypatch, shape, serial):
    """Small principal components leave no spinning threads behind. The setting is restored, also after an error."""
    _threads._controller.cache_clear()  # it knows the libraries that were there when it was made, faiss's perhaps not
    controller = ThreadpoolController()
    seen = []

    def look(*arguments):
        seen.extend(library["num_threads"] for library in controller.info() if library["user_api"] == "blas")
        raise ArithmeticError

    monkeypatch.setattr(initialization, "_scores", look)
    with controller.limit(limits=2, user_api="blas"):
        with pytest.raises(ArithmeticError):
            initialization.pca(np.ones(shape), 2)
        after = [library["num_threads"] for library in controller.info() if library["user_api"] == "blas"]
    assert seen
    assert set(seen) == ({1} if serial else set(after))
    assert set(after) == {2}

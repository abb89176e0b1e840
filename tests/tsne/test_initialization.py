"""Where the descent starts: scale, sign, jitter, seeds."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

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
    """Above 2,000 features a randomised method finds the same; components that are missing are noise."""
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
    """One seed, one start."""
    assert np.array_equal(
        initialization.random(9, 2, random_state=3), initialization.random(9, 2, random_state=3)
    )
    assert not np.array_equal(
        initialization.random(9, 2, random_state=3), initialization.random(9, 2, random_state=4)
    )
    assert initialization.random(4000, 3, random_state=0).std() == pytest.approx(1e-4, rel=0.05)
    X = np.repeat(np.arange(4.0), 3)[:, None]
    assert np.array_equal(initialization.pca(X, random_state=1), initialization.pca(X, random_state=1))


def test_points_that_coincide_are_parted():
    """Duplicates get a jitter, others none; constant data become noise of that size."""
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
    """One outlier at 1e30, subnormal data and n < n_components stay finite."""
    for X in (
        np.array([[0.0, 0], [1, 1], [1e30, 2]]),
        np.arange(6.0).reshape(3, 2) * 1e-320,
        np.array([[1.0], [2.0]]),
    ):
        assert np.isfinite(initialization.pca(X, 3, random_state=0)).all()

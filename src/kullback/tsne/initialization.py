"""Where the descent starts: principal components, noise, or given positions, all small.

Points that coincide would never part, as they feel the same forces: they get a jitter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .._arrays import FloatArray, check_data, check_integer, check_positions

START_STD = 1e-4
"""Standard deviation of the first component at the start: Kobak and Berens (2019), and scikit-learn."""

JITTER = 0.01
"""Standard deviation of the jitter of coinciding points, as a share of START_STD."""

COVARIANCE_FEATURES = 2000
"""Up to so many features, the covariance matrix is decomposed in full; above, a randomised method is used."""


def random(n_points: int, n_components: int = 2, *, random_state: Any = None) -> FloatArray:
    """Return Gaussian noise of standard deviation 1e-4, float32, shape (n_points, n_components)."""
    generator = _generator(random_state)
    return (START_STD * generator.standard_normal((n_points, n_components))).astype(np.float32)


def pca(X: Any, n_components: int = 2, *, random_state: Any = None) -> FloatArray:
    """Return the first principal components of X, rescaled.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_points, n_features)
        Data, at any scale.
    n_components : int >= 1, default 2
        Components. Where the data have fewer than that, the others are noise.
    random_state : int, RandomState or None, default None
        Seed of the jitter, and of the randomised method above 2,000 features.

    Returns
    -------
    ndarray of shape (n_points, n_components), float32
        As from `rescale`. The largest loading of each component is positive, which fixes the sign.
    """
    n_components = check_integer(n_components, "n_components", low=1)
    X = check_data(X, "X")
    generator = _generator(random_state)
    n_found = min(n_components, *X.shape)
    scores = _sparse_scores(X, n_found, generator) if sparse.issparse(X) else _scores(X, n_found, generator)
    components = np.zeros((X.shape[0], n_components))
    components[:, :n_found] = scores
    return rescale(components, random_state=generator)


def rescale(positions: npt.ArrayLike, *, std: float = START_STD, random_state: Any = None) -> FloatArray:
    """Centre positions, scale their first component to a standard deviation, and part points that coincide.

    Parameters
    ----------
    positions : array-like of shape (n_points, n_components)
        Any positions; where the first component is constant, the scale is that of all components.
    std : float, default 1e-4
        Standard deviation of the first component.
    random_state : int, RandomState or None, default None
        Seed of the jitter, of a hundredth of ``std``, that coinciding points get. Others are left as they
        are.

    Returns
    -------
    ndarray of shape (n_points, n_components), float32
    """
    generator = _generator(random_state)
    centred = np.array(check_positions(positions, "positions"), dtype=np.float64)
    centred /= max(np.abs(centred).max(), np.finfo(np.float64).tiny)
    centred -= centred.mean(axis=0)
    # rounding leaves about eps where a component is constant
    spread = next((s for s in (centred[:, 0].std(), centred.std()) if s > 1e-13), 0.0)
    scaled = (centred * (std / spread) if spread else np.zeros_like(centred)).astype(np.float32)
    _, first, counts = np.unique(scaled, axis=0, return_inverse=True, return_counts=True)
    again = counts[first.reshape(-1)] > 1
    noise = JITTER * std * generator.standard_normal((int(again.sum()), scaled.shape[1]))
    scaled[again] += noise.astype(np.float32)
    return scaled


def _generator(random_state: Any) -> np.random.RandomState:
    from sklearn.utils import check_random_state

    generator: np.random.RandomState = check_random_state(random_state)
    return generator


def _scores(X: FloatArray, n_components: int, generator: np.random.RandomState) -> FloatArray:
    largest = np.abs(X).max()
    if not largest > 0:
        return np.zeros((X.shape[0], n_components))
    rows = X / largest  # squares of neither 1e30 nor 1e-40 leave the range of a float
    rows -= rows.mean(axis=0)
    rows /= max(np.abs(rows).max(), np.finfo(rows.dtype).tiny)
    if X.shape[1] <= COVARIANCE_FEATURES:
        loadings = np.linalg.eigh(rows.T @ rows)[1][:, : -n_components - 1 : -1]
    else:
        from sklearn.utils.extmath import randomized_svd

        loadings = randomized_svd(rows, n_components, n_iter=7, random_state=generator)[2].T
    return np.asarray(rows @ _fix_signs(loadings))


def _sparse_scores(X: Any, n_components: int, generator: np.random.RandomState) -> FloatArray:
    """Return the scores of a sparse matrix, which is centred only in products with vectors."""
    largest = np.abs(X.data).max(initial=0)
    if not largest > 0:
        return np.zeros((X.shape[0], n_components))
    X = (X / largest).astype(np.float64)
    mean = np.asarray(X.mean(axis=0)).reshape(-1)
    if X.shape[1] <= COVARIANCE_FEATURES:
        covariance = (X.T @ X).toarray() - X.shape[0] * np.outer(mean, mean)
        loadings = np.linalg.eigh(covariance)[1][:, : -n_components - 1 : -1]
    else:
        from sklearn.decomposition import PCA

        n_components = min(n_components, min(X.shape) - 1)
        loadings = (
            PCA(n_components, svd_solver="arpack", random_state=generator)
            .fit(sparse.csr_matrix(X))
            .components_.T
        )
    loadings = _fix_signs(loadings)
    scores = np.zeros((X.shape[0], loadings.shape[1]))
    scores[:] = X @ loadings - mean @ loadings
    return scores


def _fix_signs(loadings: FloatArray) -> FloatArray:
    """Make the loading of largest magnitude in each component positive."""
    largest = np.abs(loadings).argmax(axis=0)
    signs = np.sign(loadings[largest, np.arange(loadings.shape[1])])
    signs[signs == 0] = 1
    return np.asarray(loadings * signs)

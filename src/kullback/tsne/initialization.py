"""Where the descent starts: principal components, the graph's eigenvectors, noise, or given positions, all small.

Points that coincide would never part, as they feel the same forces: they get a jitter.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from .._arrays import FloatArray, check_affinities, check_data, check_integer, check_positions
from .._threads import serial_blas
from .affinities import Affinities

START_STD = 1e-4
"""Standard deviation of the first component at the start: Kobak and Berens (2019), and scikit-learn."""

JITTER = 0.01
"""Standard deviation of the jitter of coinciding points, as a share of START_STD."""

COVARIANCE_FEATURES = 2000
"""Up to so many features, the covariance matrix is decomposed in full; above, a randomised method is used."""

SERIAL_PRODUCTS = 1e9
"""Up to so many products of numbers, some 50 ms, principal components leave BLAS on one thread: what its other
threads save is less than what they take from the descent while they spin (digits: 0.37 -> 0.28 s in all)."""

DENSE_EIGENVECTORS = 64
"""Up to so many points, the eigenvectors of a graph are those of a dense matrix."""

PRECISE_EIGENVECTORS = 10_000
"""Up to so many points, eigenvectors have a residual of 1e-6; above, of 1e-4, which takes a fifth of the time."""


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
    score = _sparse_scores if sparse.issparse(X) else _scores
    with serial_blas() if max(X.shape) * X.shape[1] ** 2 <= SERIAL_PRODUCTS else nullcontext():
        scores = score(X, n_found, generator)
    components = np.zeros((X.shape[0], n_components))
    components[:, :n_found] = scores
    return rescale(components, random_state=generator)


def spectral(P: Any, n_components: int = 2, *, random_state: Any = None) -> FloatArray:
    """Return Laplacian eigenmaps of the graph of affinities, rescaled: Belkin and Niyogi (2003).

    Parameters
    ----------
    P : Affinities, sparse matrix or array-like of shape (n_points, n_points)
        Joint probabilities: symmetric, non-negative, no diagonal, sum 1.
    n_components : int >= 1, default 2
        Eigenvectors ``D^(-1/2) v`` of the largest eigenvalues below the first of ``D^(-1/2) P D^(-1/2)``, D the row
        sums. Where a connected part has fewer, the others are 0. Their residual is 1e-6, above 10,000
        points 1e-4: where the leading eigenvalues are nearer to each other than that, as on long curves, they
        are mixtures of smooth eigenvectors.
    random_state : int, RandomState or None, default None
        Seed of the jitter.

    Returns
    -------
    ndarray of shape (n_points, n_components), float32
        As from `rescale`. In each eigenvector the entry of largest magnitude is positive. Parts of a graph that
        is not connected lie beside each other, the largest in the middle, on areas in proportion to their
        points: on a spiral, or on a line for one component.
    """
    n_components = check_integer(n_components, "n_components", low=1)
    P = P.P if isinstance(P, Affinities) else P
    n_points = P.shape[0] if hasattr(P, "shape") else len(P)
    values, columns, row_starts = check_affinities(P, n_points, np.float64, "P")
    graph = sparse.csr_array((values, columns, row_starts), shape=(n_points, n_points))
    n_parts, part_of = sparse.csgraph.connected_components(graph, directed=False)
    if n_parts == 1:
        return rescale(_eigenmap(graph, n_components), random_state=random_state)
    positions = np.zeros((n_points, n_components))
    sizes = np.bincount(part_of)
    by_part = np.split(np.argsort(part_of, kind="stable"), np.cumsum(sizes)[:-1])
    inside = 0
    for rank, part in enumerate(np.argsort(-sizes, kind="stable")):
        members = by_part[part]
        own = _eigenmap(graph[members][:, members], n_components)
        spread = float(np.sqrt(np.mean(np.sum((own - own.mean(axis=0)) ** 2, axis=1))))
        if n_components == 1:
            centre, reach = np.array([inside + sizes[part] / 2]), sizes[part] / 4
        else:  # points at equal distances of area and of the golden angle fill a disc evenly: Vogel (1979)
            angle, radius = rank * np.pi * (3 - 5**0.5), np.sqrt(inside + sizes[part] / 2 if rank else 0)
            centre = np.zeros(n_components)
            centre[:2] = radius * np.cos(angle), radius * np.sin(angle)
            reach = np.sqrt(sizes[part]) / 2
        positions[members] = centre + own * (reach / spread if spread > 0 else 0)
        inside += sizes[part]
    return rescale(positions, random_state=random_state)


def part_coinciding(positions: npt.ArrayLike, *, random_state: Any = None) -> FloatArray:
    """Return positions as they are, but for those that coincide, which are parted by a jitter.

    Parameters
    ----------
    positions : array-like of shape (n_points, n_components)
        Any positions, which are neither centred nor scaled.
    random_state : int, RandomState or None, default None
        Seed of the jitter: a hundredth of the standard deviation of the positions, and of 1e-4 at the most.

    Returns
    -------
    ndarray of shape (n_points, n_components), float32
    """
    parted = np.array(check_positions(positions, "positions"), dtype=np.float32)
    spread = float(parted.std(dtype=np.float64)) or START_STD
    return _jitter(parted, JITTER * min(spread, START_STD), _generator(random_state))


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
    return _jitter(scaled, JITTER * std, generator)


def _jitter(positions: FloatArray, std: float, generator: np.random.RandomState) -> FloatArray:
    """Part points that coincide, in place."""
    _, first, counts = np.unique(positions, axis=0, return_inverse=True, return_counts=True)
    again = counts[first.reshape(-1)] > 1
    noise = std * generator.standard_normal((int(again.sum()), positions.shape[1]))
    positions[again] += noise.astype(np.float32)
    return positions


def _eigenmap(graph: Any, n_components: int) -> FloatArray:
    """Return the leading eigenvectors of a connected graph's random walk but for the constant one."""
    n_points = graph.shape[0]
    root = np.sqrt(graph.sum(axis=1))
    scale = sparse.diags_array(1 / root)
    normalised = scale @ graph @ scale
    constant = root / np.linalg.norm(root)  # the first eigenvector, of eigenvalue 1: taken out, not searched for
    n_found = min(n_components, n_points - 1)
    if n_points <= DENSE_EIGENVECTORS:
        dense = normalised.toarray() - 2 * np.outer(constant, constant)
        values, vectors = linalg.eigh(dense, subset_by_index=[n_points - n_found, n_points - 1])
    else:
        from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

        # eigenvalues reach from -1 to 1: with 1 added, the largest are also those of largest magnitude
        def apply(vector: FloatArray) -> FloatArray:
            vector = vector.reshape(-1)
            return np.asarray(normalised @ vector + vector - 2 * constant * (constant @ vector))

        operator = LinearOperator((n_points, n_points), matvec=apply, dtype=np.float64)
        options = {"v0": np.cos(np.arange(n_points)), "ncv": min(n_points - 1, 32 + 4 * n_found)}
        tol = 1e-6 if n_points <= PRECISE_EIGENVECTORS else 1e-4
        try:
            values, vectors = eigsh(operator, n_found, tol=tol, maxiter=300, **options)
        except ArpackNoConvergence:  # many parts that hardly hang together: any smooth vectors will do
            values, vectors = eigsh(operator, n_found, tol=0.1, maxiter=2000, **options)
    vectors = vectors[:, np.argsort(values)[::-1]] / root[:, None]
    components = np.zeros((n_points, n_components))
    components[:, :n_found] = _fix_signs(vectors)
    return components


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
            PCA(n_components, svd_solver="arpack", random_state=generator).fit(sparse.csr_matrix(X)).components_.T
        )
    loadings = _fix_signs(loadings)
    scores = np.zeros((X.shape[0], loadings.shape[1]))
    scores[:] = X @ loadings - mean @ loadings
    return scores


def _fix_signs(loadings: FloatArray) -> FloatArray:
    """Make the loading of largest magnitude in each component positive."""
    magnitudes = np.abs(loadings)
    # the first of those that are as good as the largest: where two are equal, rounding shall not choose
    largest = (magnitudes >= 0.999 * magnitudes.max(axis=0)).argmax(axis=0)
    signs = np.sign(loadings[largest, np.arange(loadings.shape[1])])
    signs[signs == 0] = 1
    return np.asarray(loadings * signs)

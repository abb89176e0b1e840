"""Where the descent starts: at principal components, eigenvectors of the graph, noise, or given positions.

All starts are small. Points that coincide would never part, because they feel the same forces. So they get a jitter.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from .._arrays import FloatArray
from .._checks.data import check_data, check_positions
from .._checks.graphs import check_affinities
from .._checks.scalars import check_integer
from .._threads import serial_blas
from .affinities import Affinities

START_STD = 1e-4
"""Standard deviation of the first component at the start, as in Kobak and Berens (2019) and in scikit-learn."""

JITTER = 0.01
"""Standard deviation of the jitter of coinciding points, as a share of START_STD."""

ROUNDINGS = 16
"""The standard deviation of the jitter is at least so many times the distance between two numbers of float32."""

COVARIANCE_FEATURES = 2000
"""Up to so many features, the covariance matrix is decomposed in full. Above, a randomised method is used."""

SERIAL_PRODUCTS = 1e9
"""Up to so many products of numbers, which take some 50 ms, principal components are computed with BLAS on one thread.
Its other threads save less time than they take from the descent while they spin. On digits this brought the whole fit
from 0.37 to 0.28 s."""

DENSE_EIGENVECTORS = 64
"""Up to so many points, the eigenvectors of a graph are those of a dense matrix."""

PRECISE_EIGENVECTORS = 10_000
"""Up to so many points, eigenvectors have a residual of 1e-6. Above, it is 1e-4, which takes a fifth of the time."""

SMALLEST_SPREAD = 1e-13
"""A standard deviation below this one, of numbers up to 1, is the rounding of a constant component."""


def random(n_points: int, n_components: int = 2, *, random_state: Any = None) -> FloatArray:
    """Return Gaussian noise.

    Parameters
    ----------
    n_points : int
        Number of points.
    n_components : int, default 2
        Dimensions of the map.
    random_state : int, RandomState or None, default None
        Seed of the noise.

    Returns
    -------
    ndarray of shape (n_points, n_components), float32
        Noise with a standard deviation of 1e-4.

    Examples
    --------
    >>> from kullback.tsne import initialization
    >>> initialization.random(100, random_state=0).shape
    (100, 2)
    """
    generator = _generator(random_state)
    return (START_STD * generator.standard_normal((n_points, n_components))).astype(np.float32)


def pca(X: Any, n_components: int = 2, *, random_state: Any = None) -> FloatArray:
    """Return the first principal components of X, rescaled.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_points, n_features)
        Data, at any scale.
    n_components : int >= 1, default 2
        Number of components. If the data have fewer, the others are 0.
    random_state : int, RandomState or None, default None
        Seed of the jitter, and of the randomised method above 2,000 features.

    Returns
    -------
    ndarray of shape (n_points, n_components), float32
        Positions as `rescale` returns them. The largest loading of each component is positive, which fixes its sign.

    Raises
    ------
    ValueError, TypeError
        If data are not finite or have fewer than 2 rows.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from kullback.tsne import initialization
    >>> positions = initialization.pca(load_digits().data, random_state=0)
    >>> positions.shape, round(float(positions[:, 0].std()), 6)
    ((1797, 2), 0.0001)
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
    """Return Laplacian eigenmaps of the graph of affinities, rescaled.

    Parameters
    ----------
    P : Affinities, sparse matrix or array-like of shape (n_points, n_points)
        Joint probabilities: symmetric, non-negative, with an empty diagonal and a sum of 1.
    n_components : int >= 1, default 2
        Number of eigenvectors. If a connected part of the graph has fewer, the others are 0.
    random_state : int, RandomState or None, default None
        Seed of the jitter.

    Returns
    -------
    ndarray of shape (n_points, n_components), float32
        Positions as `rescale` returns them. In each eigenvector the entry of largest magnitude is positive. If the
        graph is not connected, its parts lie beside each other on areas in proportion to their numbers of points. They
        are on a spiral with the largest part in the middle, or on a line if there is one component.

    Notes
    -----
    With D the row sums of P, the positions are ``D^(-1/2) v`` for the eigenvectors v of ``D^(-1/2) P D^(-1/2)`` that
    belong to the largest eigenvalues but the first. The residual of an eigenvector is 1e-6, and 1e-4 above 10,000
    points. If the leading eigenvalues are nearer to each other than that, as they are on long curves, the result is a
    mixture of smooth eigenvectors.

    References
    ----------
    Belkin and Niyogi (2003), "Laplacian eigenmaps for dimensionality reduction and data representation".

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from kullback import affinities
    >>> from kullback.tsne import initialization
    >>> initialization.spectral(affinities.perplexity(load_digits().data, 30), random_state=0).shape
    (1797, 2)
    """
    n_components = check_integer(n_components, "n_components", low=1)
    any_masses = None
    if isinstance(P, Affinities):  # those of points with masses have a diagonal
        P, any_masses = P.P, np.full(P.n_points, np.inf)
    n_points = P.shape[0] if hasattr(P, "shape") else len(P)
    values, columns, row_starts = check_affinities(
        P, "P", n_points, np.float64, copy=True, symmetric=True, masses=any_masses
    )
    graph = sparse.csr_array((values, columns, row_starts), shape=(n_points, n_points))
    graph.eliminate_zeros()  # for SciPy a pair of weight 0 is an edge
    n_parts, part_of = sparse.csgraph.connected_components(graph, directed=False)
    if n_parts == 1:
        return rescale(_eigenmap(graph, n_components), random_state=random_state)
    return rescale(_lay_out_parts(graph, part_of, n_components), random_state=random_state)


def part_coinciding(positions: npt.ArrayLike, *, random_state: Any = None) -> FloatArray:
    """Return positions as they are, except that points that coincide are parted by a jitter.

    Parameters
    ----------
    positions : array-like of shape (n_points, n_components)
        Any positions. They are neither centred nor scaled.
    random_state : int, RandomState or None, default None
        Seed of the jitter. Its standard deviation is a hundredth of that of the positions, and at most 1e-6, or 16
        roundings of a position where that is more.

    Returns
    -------
    ndarray of shape (n_points, n_components), float32
        The positions.

    Examples
    --------
    >>> from kullback.tsne import initialization
    >>> positions = initialization.part_coinciding([[0.0, 0.0], [0.0, 0.0], [2.0, 3.0]], random_state=0)
    >>> bool((positions[0] != positions[1]).all()), positions[2].tolist()
    (True, [2.0, 3.0])
    """
    parted = np.array(check_positions(positions, "positions"), dtype=np.float32)
    spread = float(parted.std(dtype=np.float64)) or START_STD
    return _jitter(parted, JITTER * min(spread, START_STD), _generator(random_state))


def rescale(positions: npt.ArrayLike, *, std: float = START_STD, random_state: Any = None) -> FloatArray:
    """Centre positions, scale their first component to a standard deviation, and part points that coincide.

    Parameters
    ----------
    positions : array-like of shape (n_points, n_components)
        Any positions.
    std : float, default 1e-4
        Standard deviation of the first component. If that component is constant, it is that of all coordinates.
    random_state : int, RandomState or None, default None
        Seed of the jitter of coinciding points. Its standard deviation is a hundredth of ``std``.

    Returns
    -------
    ndarray of shape (n_points, n_components), float32
        New positions.

    Examples
    --------
    >>> from kullback.tsne import initialization
    >>> initialization.rescale([[1.0, 5.0], [3.0, 5.0]], std=1)
    array([[-1.,  0.],
           [ 1.,  0.]], dtype=float32)
    """
    generator = _generator(random_state)
    centred = np.array(check_positions(positions, "positions"), dtype=np.float64)
    centred /= max(np.abs(centred).max(), np.finfo(np.float64).tiny)
    centred -= centred.mean(axis=0)
    spread = next((s for s in (centred[:, 0].std(), centred.std()) if s > SMALLEST_SPREAD), 0.0)
    scaled = (centred * (std / spread) if spread else np.zeros_like(centred)).astype(np.float32)
    return _jitter(scaled, JITTER * std, generator)


def _jitter(positions: FloatArray, std: float, generator: np.random.RandomState) -> FloatArray:
    """Part points that coincide by noise, in place, and return the positions.

    Where the noise would be lost in the rounding of large positions, it is larger.
    """
    while True:
        _, place, counts = np.unique(positions, axis=0, return_inverse=True, return_counts=True)
        coinciding = counts[place.reshape(-1)] > 1
        if not coinciding.any():
            break
        least = ROUNDINGS * np.spacing(np.abs(positions[coinciding])).astype(np.float64)
        noise = np.maximum(std, least) * generator.standard_normal(least.shape)
        positions[coinciding] += noise.astype(np.float32)
    return positions


def _lay_out_parts(graph: Any, part_of: npt.NDArray[np.int32], n_components: int) -> FloatArray:
    """Return the eigenmaps of the connected parts of a graph beside each other, the largest part first.

    The centres of the parts are at equal distances of area and of the golden angle, which fills a disc evenly (Vogel
    1979).
    """
    positions = np.zeros((len(part_of), n_components))
    sizes = np.bincount(part_of)
    by_part = np.split(np.argsort(part_of, kind="stable"), np.cumsum(sizes)[:-1])
    n_inside = 0  # points of the parts that have been laid out
    for rank, part in enumerate(np.argsort(-sizes, kind="stable")):
        members = by_part[part]
        own = _eigenmap(graph[members][:, members], n_components)
        spread = float(np.sqrt(np.mean(np.sum((own - own.mean(axis=0)) ** 2, axis=1))))
        if n_components == 1:
            centre, reach = np.array([n_inside + sizes[part] / 2]), sizes[part] / 4
        else:
            angle, radius = rank * np.pi * (3 - 5**0.5), np.sqrt(n_inside + sizes[part] / 2 if rank else 0)
            centre = np.zeros(n_components)
            centre[:2] = radius * np.cos(angle), radius * np.sin(angle)
            reach = np.sqrt(sizes[part]) / 2
        positions[members] = centre + own * (reach / spread if spread > 0 else 0)
        n_inside += sizes[part]
    return positions


def _eigenmap(graph: Any, n_components: int) -> FloatArray:
    """Return the leading eigenvectors of the random walk on a connected graph, without the constant one.

    The largest eigenvalue is 1, and its eigenvector is known. It is subtracted, so that it is not searched for.
    """
    n_points = graph.shape[0]
    if n_points == 1:
        return np.zeros((1, n_components))
    root = np.sqrt(graph.sum(axis=1))
    scale = sparse.diags_array(1 / root)
    normalised = scale @ graph @ scale
    constant = root / np.linalg.norm(root)
    n_found = min(n_components, n_points - 1)
    if n_points <= DENSE_EIGENVECTORS:
        dense = normalised.toarray() - 2 * np.outer(constant, constant)
        values, vectors = linalg.eigh(dense, subset_by_index=[n_points - n_found, n_points - 1])
    else:
        values, vectors = _leading_eigenvectors(normalised, constant, n_found)
    vectors = vectors[:, np.argsort(values)[::-1]] / root[:, None]
    components = np.zeros((n_points, n_components))
    components[:, :n_found] = _fix_signs(vectors)
    return components


def _leading_eigenvectors(normalised: Any, constant: FloatArray, n_found: int) -> tuple[FloatArray, FloatArray]:
    """Return eigenvalues, raised by 1, and eigenvectors of a sparse matrix, without the constant one, by Lanczos.

    Eigenvalues reach from -1 to 1. With 1 added to each, the largest ones are also those of largest magnitude.
    """
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    n_points = len(constant)

    def apply(vector: FloatArray) -> FloatArray:
        vector = vector.reshape(-1)
        return np.asarray(normalised @ vector + vector - 2 * constant * (constant @ vector))

    operator = LinearOperator((n_points, n_points), matvec=apply, dtype=np.float64)
    options = {"v0": np.cos(np.arange(n_points)), "ncv": min(n_points - 1, 32 + 4 * n_found)}
    tol = 1e-6 if n_points <= PRECISE_EIGENVECTORS else 1e-4
    try:
        values, vectors = eigsh(operator, n_found, tol=tol, maxiter=300, **options)
    except ArpackNoConvergence:  # the graph has many parts that hardly hang together: any smooth vectors will do
        values, vectors = eigsh(operator, n_found, tol=0.1, maxiter=2000, **options)
    return values, vectors


def _generator(random_state: Any) -> np.random.RandomState:
    """Return the random generator of a seed."""
    from sklearn.utils import check_random_state

    generator: np.random.RandomState = check_random_state(random_state)
    return generator


def _scores(X: FloatArray, n_components: int, generator: np.random.RandomState) -> FloatArray:
    """Return the scores of the first principal components."""
    largest = np.abs(X).max()
    if not largest > 0:
        return np.zeros((X.shape[0], n_components))
    rows = X / largest  # so that squares stay in the range of a float, be data of the order of 1e30 or 1e-40
    rows -= rows.mean(axis=0)
    rows /= max(np.abs(rows).max(), np.finfo(rows.dtype).tiny)
    if X.shape[1] <= COVARIANCE_FEATURES:
        loadings = np.linalg.eigh(rows.T @ rows)[1][:, : -n_components - 1 : -1]
    else:
        from sklearn.utils.extmath import randomized_svd

        loadings = randomized_svd(rows, n_components, n_iter=7, random_state=generator)[2].T
    return np.asarray(rows @ _fix_signs(loadings))


def _sparse_scores(X: Any, n_components: int, generator: np.random.RandomState) -> FloatArray:
    """Return the scores of a sparse matrix, whose products are centred. To centre itself would make it dense."""
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
    # Of those that are nearly as large as the largest, take the first, so that rounding does not choose between equals.
    largest = (magnitudes >= 0.999 * magnitudes.max(axis=0)).argmax(axis=0)
    signs = np.sign(loadings[largest, np.arange(loadings.shape[1])])
    signs[signs == 0] = 1
    return np.asarray(loadings * signs)

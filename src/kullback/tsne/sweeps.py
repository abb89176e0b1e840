"""Many maps of one data set: which of their parts depend on a setting, and which do not."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning

from .._arrays import FloatArray
from .._checks.data import check_data, check_distances
from .._checks.scalars import check_integer, check_real, check_recall
from .._recall import TARGET
from .._threads import resolve_threads
from . import affinities, initialization
from .affinities import Affinities
from .embedding import Embedding
from .neighbors import Metric, nearest_neighbors, neighbor_graph
from .parameters import check_metric, check_start
from .progress import progress_bar
from .repulsion import check_method, choose_accuracy
from .schedules import CLASSIC_EXPLORATION_ITER

SETTINGS_DTYPE = np.dtype(
    [("perplexity", float), ("exaggeration", float), ("seed", np.int64), ("kl_divergence", float)]
)

EARLY_EXAGGERATION = 12.0
"""Factor on P at the start of the first map of each seed, as in `TSNE`."""

Setting = tuple[int, float, float]  # seed, perplexity, exaggeration


@dataclass(frozen=True, eq=False)
class Sweep:
    """Maps of one data set, and how far they agree.

    Attributes
    ----------
    settings : ndarray of records (perplexity, exaggeration, seed, kl_divergence)
        One record for each map, in the order given: seeds change last, exaggerations first. The KL divergence is in
        nats.
    maps : ndarray of shape (n_maps, n_points, n_components), float32
        The maps. They are moved, turned and mirrored, but not scaled, to lie as near as they can to the first one.
    stability : ndarray of shape (n_points,), float64
        Share of a point's nearest neighbours in one map that are its nearest neighbours in another map, the mean over
        all pairs of maps. It is 1 if the point's surroundings do not depend on the settings, and NaN if there is only
        one map.
    spread : ndarray of shape (n_points,), float64
        How far a point moves from map to map: the root mean square distance of its positions from their mean, in maps
        scaled to a root mean square radius of 1.
    """

    settings: npt.NDArray[Any]
    maps: FloatArray
    stability: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]


def sweep(
    X: Any,
    *,
    perplexities: Sequence[float] = (30.0,),
    exaggerations: Sequence[float] = (1.0,),
    seeds: Sequence[int] = (0,),
    n_components: int = 2,
    metric: Metric = "euclidean",
    metric_params: dict[str, Any] | None = None,
    recall: float = TARGET,
    init: str = "pca",
    max_iter: int = 750,
    warm_iter: int = 250,
    method: str = "auto",
    angle: float = 0.5,
    n_neighbors: int = 15,
    progress: bool = False,
    n_jobs: int | None = None,
) -> Sweep:
    """Embed the rows of X with every combination of settings, from one neighbour graph.

    The first map of each seed is made from the start: with 250 iterations of early exaggeration by 12, and then the
    others. It has the largest perplexity and the largest exaggeration. The other maps follow in falling order of both.
    Each starts from the map before it, and takes ``warm_iter`` iterations without early exaggeration.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_points, n_features)
        Data. With ``metric="precomputed"``: distances.
    perplexities : sequence of floats in [1, n_points), default (30,)
        Perplexities of the affinities.
    exaggerations : sequence of floats > 0, default (1,)
        Factors on P after early exaggeration.
    seeds : sequence of ints, default (0,)
        Each adds its own Gaussian noise, as large as the start itself, to the start.
    n_components : int, default 2
        Dimensions of the maps.
    metric, metric_params, recall : optional
        As in `kullback.neighbors.nearest_neighbors`.
    init : {"pca", "spectral", "random"}, default "pca"
        The start before noise is added. ``"random"`` is noise alone.
    max_iter : int >= 1, default 750
        Iterations of the first map of each seed.
    warm_iter : int >= 1, default 250
        Iterations of the other maps.
    method, angle : optional
        As in `TSNE`.
    n_neighbors : int >= 1, default 15
        Number of neighbours that ``stability`` compares. There are fewer if there are fewer points.
    progress : bool, default False
        Whether to show a progress bar over the maps on standard error.
    n_jobs : int, optional
        Number of threads. None and -1 mean all. The bits of the result do not depend on it.

    Returns
    -------
    Sweep
        The maps, their settings, and how far they agree. After Ctrl-C these are the maps that were finished, and a
        ConvergenceWarning says so.

    Raises
    ------
    ValueError, TypeError
        If data are not finite, or an option is out of its range.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> import kullback
    >>> found = kullback.sweep(load_digits().data[:300], perplexities=[10, 30], seeds=[0, 1])
    >>> found.maps.shape, found.stability.shape
    ((4, 300, 2), (300,))
    """
    threads = resolve_threads(n_jobs, name="n_jobs")
    X = check_distances(X, "X") if isinstance(metric, str) and metric == "precomputed" else check_data(X, "X")
    n_points = X.shape[0]
    perplexities, exaggerations, seeds = _check_settings(perplexities, exaggerations, seeds, n_points)
    _check_choices(n_components, metric, metric_params, recall, init, method, angle)
    max_iter, warm_iter = check_integer(max_iter, "max_iter", low=1), check_integer(warm_iter, "warm_iter", low=1)
    n_neighbors = min(check_integer(n_neighbors, "n_neighbors", low=1), n_points - 1)

    k = max(1, int(min(3 * max(perplexities), n_points - 1)))
    graph = neighbor_graph(X, k, metric=metric, metric_params=metric_params, recall=recall, n_threads=threads,
                           random_state=seeds[0])  # fmt: skip
    falling = sorted(set(perplexities), reverse=True)
    affinities_of = {value: affinities.perplexity(graph, value, n_threads=threads) for value in falling}
    start = _make_start(X, affinities_of[falling[0]], init, n_components, seeds[0])
    starts = {
        seed: start + initialization.random(n_points, n_components, random_state=seed) for seed in dict.fromkeys(seeds)
    }
    total = len(starts) * len(affinities_of) * len(set(exaggerations))
    found: dict[Setting, tuple[FloatArray, float]] = {}
    with progress_bar(total, "sweep", "map", show=progress) as bar:
        options = {"method": method, "theta": angle, "n_threads": threads}
        for setting, positions, kl in _embed_all(starts, affinities_of, exaggerations, max_iter, warm_iter, options):
            found[setting] = positions, kl
            if bar is not None:
                bar.update()
    if not found:
        raise KeyboardInterrupt("interrupted before the first map was finished")
    if len(found) < total:
        warnings.warn(f"interrupted; {len(found)} maps of {total} were finished", ConvergenceWarning, stacklevel=2)
    order = [setting for setting in product(seeds, perplexities, exaggerations) if setting in found]
    return _compare(found, order, n_neighbors, threads)


def _check_settings(
    perplexities: Any, exaggerations: Any, seeds: Any, n_points: int
) -> tuple[list[float], list[float], list[int]]:
    """Return perplexities, exaggerations and seeds as lists of numbers in their ranges."""
    perplexities = _check_list(perplexities, "perplexities", lambda value, name: check_real(value, name, low=1))
    exaggerations = _check_list(
        exaggerations, "exaggerations", lambda value, name: check_real(value, name, low=0, open_low=True)
    )
    seeds = _check_list(seeds, "seeds", lambda value, name: check_integer(value, name, low=0))
    if max(perplexities) >= n_points:
        raise ValueError(f"perplexities must be less than n_points = {n_points}, got {max(perplexities):g}")
    return perplexities, exaggerations, seeds


def _check_choices(
    n_components: Any, metric: Any, metric_params: Any, recall: Any, init: Any, method: Any, angle: Any
) -> None:
    """Check the options of all maps before any work."""
    check_start(init, metric)
    check_metric(metric, metric_params)
    check_recall(recall)
    check_integer(n_components, "n_components", low=1)
    check_method(method, n_components, choose_accuracy(check_real(angle, "angle", low=0, high=1), None, n_components))


def _check_list(values: Any, name: str, check: Callable[[Any, str], Any]) -> list[Any]:
    """Return the values of a sequence, each checked."""
    if isinstance(values, str) or not np.iterable(values) or not len(list(values)):
        raise TypeError(f"{name} must be a sequence of numbers, got {values!r}")
    return [check(value, f"every one of {name}") for value in values]


def _make_start(X: Any, largest: Affinities, init: str, n_components: int, seed: int) -> FloatArray:
    """Return the positions to which the noise of each seed is added. ``largest`` has the largest perplexity."""
    if init == "pca":
        return initialization.pca(X, n_components, random_state=seed)
    if init == "spectral":
        return initialization.spectral(largest, n_components, random_state=seed)
    return np.zeros((X.shape[0], n_components), np.float32)


def _embed_all(
    starts: dict[int, FloatArray],
    affinities_of: dict[float, Affinities],
    exaggerations: list[float],
    max_iter: int,
    warm_iter: int,
    options: dict[str, Any],
) -> Iterator[tuple[Setting, FloatArray, float]]:
    """Yield the setting, the positions and the KL divergence of each map. Ctrl-C ends it.

    Parameters
    ----------
    starts : dict
        Positions at which the first map of each seed starts.
    affinities_of : dict
        Affinities by perplexity, the largest one first.
    exaggerations : list of float
        Factors on P after early exaggeration.
    max_iter, warm_iter : int
        Iterations of the first map of each seed, and of the others.
    options : dict
        Keyword arguments of `Embedding`.
    """
    for seed, positions in starts.items():
        early, late = min(CLASSIC_EXPLORATION_ITER, max_iter), max(0, max_iter - CLASSIC_EXPLORATION_ITER)
        for perplexity, joint in affinities_of.items():
            embedding = Embedding(joint, positions, **options)
            for exaggeration in sorted(set(exaggerations), reverse=True):
                for n_iter, factor in ((early, EARLY_EXAGGERATION), (late, exaggeration)):
                    if n_iter and embedding.optimize(n_iter, exaggeration=factor).stop_reason == "interrupt":
                        return
                early, late = 0, warm_iter
                found = embedding.positions
                if exaggeration == max(exaggerations):  # where the next perplexity starts
                    positions = found
                yield (seed, perplexity, exaggeration), found, float(embedding.loss["kl_divergence"][-1])


def _compare(
    found: dict[Setting, tuple[FloatArray, float]], order: list[Setting], n_neighbors: int, n_threads: int
) -> Sweep:
    """Return maps in the given order, aligned to the first one, and how far they agree."""
    settings = np.array(
        [(perplexity, exaggeration, seed, found[seed, perplexity, exaggeration][1])
         for seed, perplexity, exaggeration in order],
        dtype=SETTINGS_DTYPE,
    )  # fmt: skip
    maps = np.stack([found[setting][0] for setting in order])
    for i in range(len(maps)):
        maps[i] = align(maps[i], maps[0])
    return Sweep(settings.view(np.recarray), maps, _stability(maps, n_neighbors, n_threads), _spread(maps))


def align(positions: npt.ArrayLike, reference: npt.ArrayLike) -> FloatArray:
    """Return positions centred, turned and mirrored, but not scaled, to lie as near as they can to a reference.

    Distances between points do not change, and neither does any loss.

    Parameters
    ----------
    positions, reference : array-like of shape (n_points, n_components)
        Maps of the same points.

    Returns
    -------
    ndarray of shape (n_points, n_components), float64
        The positions, with the sum of squared distances to the centred reference at its minimum.

    Raises
    ------
    ValueError
        If the shapes differ.

    References
    ----------
    Schoenemann (1966), "A generalized solution of the orthogonal Procrustes problem".

    Examples
    --------
    >>> from kullback.tsne import align
    >>> align([[0, 1], [0, -1]], [[3, 0], [1, 0]]).round(6) + 0.0
    array([[ 1.,  0.],
           [-1.,  0.]])
    """
    moved, fixed = (np.asarray(y, dtype=np.float64) for y in (positions, reference))
    if moved.ndim != 2 or moved.shape != fixed.shape:
        raise ValueError(f"positions must have the shape of reference, {fixed.shape}, got {moved.shape}")
    moved, fixed = moved - moved.mean(axis=0), fixed - fixed.mean(axis=0)
    # These products are not left to BLAS, whose rounding may depend on its threads.
    left, _, right = np.linalg.svd(np.einsum("ni,nj->ij", moved, fixed))
    return np.asarray(np.einsum("ni,ij->nj", moved, left @ right))


def _stability(maps: FloatArray, n_neighbors: int, n_threads: int) -> npt.NDArray[np.float64]:
    """Return ``Sweep.stability``."""
    n_maps, n_points = maps.shape[:2]
    if n_maps == 1:
        return np.full(n_points, np.nan)
    lists = [nearest_neighbors(y, n_neighbors, method="exact", n_threads=n_threads)[0] for y in maps]
    shared = np.zeros(n_points)
    for a, b in combinations(lists, 2):
        both = np.sort(np.concatenate([a, b], axis=1), axis=1)  # a neighbour in both lists comes twice in a row
        shared += np.count_nonzero(both[:, 1:] == both[:, :-1], axis=1)
    return np.asarray(shared / (n_neighbors * (n_maps * (n_maps - 1) // 2)))


def _spread(maps: FloatArray) -> npt.NDArray[np.float64]:
    """Return ``Sweep.spread``."""
    centred = maps - maps.mean(axis=1, keepdims=True, dtype=np.float64)
    radii = np.sqrt(np.mean(np.sum(centred**2, axis=2), axis=1))
    scaled = centred / np.where(radii > 0, radii, 1)[:, None, None]
    return np.asarray(np.sqrt(np.mean(np.sum((scaled - scaled.mean(axis=0)) ** 2, axis=2), axis=0)))

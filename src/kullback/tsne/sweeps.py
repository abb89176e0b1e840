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
from .._checks.scalars import check_choice, check_integer, check_real
from .._threads import resolve_threads
from . import affinities, initialization
from .affinities import Affinities
from .embedding import Embedding
from .estimator import EXPLORATION_ITER
from .neighbors import Metric, nearest_neighbors, neighbor_graph

SETTINGS_DTYPE = np.dtype(
    [("perplexity", float), ("exaggeration", float), ("seed", np.int64), ("kl_divergence", float)]
)


@dataclass(frozen=True, eq=False)
class Sweep:
    """Maps of one data set, and how far they agree.

    Attributes
    ----------
    settings : ndarray of records (perplexity, exaggeration, seed, kl_divergence)
        One for each map: seeds outermost, exaggerations innermost, in the order given.
    maps : ndarray of shape (n_maps, n_points, n_components), float32
        Moved, turned and mirrored, but not scaled, to lie as near as they can to the first.
    stability : ndarray of shape (n_points,)
        Share of a point's nearest neighbours in one map that are its nearest in another, the mean over all pairs
        of maps: 1 where its surroundings do not depend on the settings. NaN where there is one map only.
    spread : ndarray of shape (n_points,)
        How far a point moves from map to map: the root mean square distance of its positions from their mean,
        in maps scaled to a root mean square radius of 1.
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

    For each seed, the first map is made from the start: 250 iterations of early exaggeration by 12, then the
    others. It has the largest perplexity and the largest exaggeration; the next ones start from the map before
    them, in falling order of both, and take ``warm_iter`` iterations without early exaggeration.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_points, n_features)
        Data, or distances where ``metric="precomputed"``.
    perplexities : sequence of floats in [1, n_points), default (30,)
        Perplexities of the affinities.
    exaggerations : sequence of floats > 0, default (1,)
        Factors on P after early exaggeration.
    seeds : sequence of ints, default (0,)
        Each adds its own Gaussian noise, of the size of the start itself, to the start.
    n_components : int, default 2
        Dimensions of the maps.
    metric, metric_params : optional
        As in `kullback.neighbors.nearest_neighbors`.
    init : {"pca", "spectral", "random"}, default "pca"
        The start before the noise; ``"random"`` is noise alone.
    max_iter : int >= 1, default 750
        Iterations of the first map of each seed.
    warm_iter : int >= 1, default 250
        Iterations of the others.
    method, angle : optional
        As in `TSNE`.
    n_neighbors : int >= 1, default 15
        Neighbours that ``stability`` compares; fewer where there are fewer points.
    progress : bool, default False
        A bar over the maps on standard error.
    n_jobs : int, optional
        Threads; None or -1 for all. The result does not depend on it, bit for bit.

    Returns
    -------
    Sweep
        Maps, their settings and the agreement of each point. After Ctrl-C: of the maps that were finished, with
        a warning.
    """
    threads = resolve_threads(n_jobs, name="n_jobs")
    X = check_distances(X, "X") if isinstance(metric, str) and metric == "precomputed" else check_data(X, "X")
    n_points = X.shape[0]
    perplexities = _check_list(perplexities, "perplexities", lambda value, name: check_real(value, name, low=1))
    exaggerations = _check_list(
        exaggerations, "exaggerations", lambda value, name: check_real(value, name, low=0, open_low=True)
    )
    seeds = _check_list(seeds, "seeds", lambda value, name: check_integer(value, name, low=0))
    if max(perplexities) >= n_points:
        raise ValueError(f"perplexities must be less than n_points = {n_points}, got {max(perplexities):g}")
    check_choice(init, "init", ("pca", "spectral", "random"))
    if init == "pca" and isinstance(metric, str) and metric == "precomputed":
        raise ValueError('init must be "spectral" or "random" where metric="precomputed", got "pca"')
    max_iter, warm_iter = (check_integer(n, name, low=1) for n, name in (
        (max_iter, "max_iter"), (warm_iter, "warm_iter")))  # fmt: skip
    n_neighbors = min(check_integer(n_neighbors, "n_neighbors", low=1), n_points - 1)

    k = max(1, int(min(3 * max(perplexities), n_points - 1)))
    graph = neighbor_graph(X, k, metric=metric, metric_params=metric_params, n_threads=threads, random_state=seeds[0])
    falling = sorted(set(perplexities), reverse=True)
    affinity_of = {value: affinities.perplexity(graph, value, n_threads=threads) for value in falling}
    if init == "pca":
        start = initialization.pca(X, n_components, random_state=seeds[0])
    elif init == "spectral":
        start = initialization.spectral(affinity_of[falling[0]], n_components, random_state=seeds[0])
    else:
        start = np.zeros((n_points, check_integer(n_components, "n_components", low=1)), np.float32)

    starts = {
        seed: start + initialization.random(n_points, n_components, random_state=seed) for seed in dict.fromkeys(seeds)
    }
    total = len(starts) * len(affinity_of) * len(set(exaggerations))
    found: dict[tuple[int, float, float], tuple[FloatArray, float]] = {}
    with _bar(total, progress) as bar:
        options = {"method": method, "theta": angle, "n_threads": threads}
        for key, positions, kl in _run(starts, affinity_of, exaggerations, max_iter, warm_iter, options):
            found[key] = positions, kl
            bar.update()
    if not found:
        raise KeyboardInterrupt("interrupted before the first map was finished")
    if len(found) < total:
        warnings.warn(f"interrupted; {len(found)} maps of {total} were finished", ConvergenceWarning, stacklevel=2)

    keys = [key for key in product(seeds, perplexities, exaggerations) if key in found]
    settings = np.array([(p, e, s, found[s, p, e][1]) for s, p, e in keys], dtype=SETTINGS_DTYPE)
    maps = np.stack([found[key][0] for key in keys])
    for i in range(len(maps)):
        maps[i] = align(maps[i], maps[0])
    return Sweep(settings.view(np.recarray), maps, _stability(maps, n_neighbors, threads), _spread(maps))


def _run(
    starts: dict[int, FloatArray], affinity_of: dict[float, Affinities], exaggerations: list[float], max_iter: int,
    warm_iter: int, options: dict[str, Any],
) -> Iterator[tuple[tuple[int, float, float], FloatArray, float]]:  # fmt: skip
    """Yield seed, perplexity and exaggeration, positions and KL of each map; end after Ctrl-C."""
    for seed, positions in starts.items():
        early, late = min(EXPLORATION_ITER, max_iter), max(0, max_iter - EXPLORATION_ITER)
        for perplexity, given in affinity_of.items():
            embedding = Embedding(given, positions, **options)
            for exaggeration in sorted(set(exaggerations), reverse=True):
                for n_iter, factor in ((early, 12.0), (late, exaggeration)):
                    if n_iter and embedding.optimize(n_iter, exaggeration=factor).stop_reason == "interrupt":
                        return
                early, late = 0, warm_iter
                found = embedding.positions
                if exaggeration == max(exaggerations):
                    positions = found
                yield (seed, perplexity, exaggeration), found, float(embedding.loss["kl_divergence"][-1])


def align(positions: npt.ArrayLike, reference: npt.ArrayLike) -> FloatArray:
    """Return positions centred, turned and mirrored, but not scaled, to lie as near as they can to a reference.

    Parameters
    ----------
    positions, reference : array-like of shape (n_points, n_components)
        Maps of the same points.

    Returns
    -------
    ndarray of shape (n_points, n_components), float64
        Distances between points are kept, and so is every loss: Schoenemann (1966), "A generalized solution of the
        orthogonal Procrustes problem".
    """
    moved, fixed = (np.asarray(y, dtype=np.float64) for y in (positions, reference))
    if moved.ndim != 2 or moved.shape != fixed.shape:
        raise ValueError(f"positions must have the shape of reference, {fixed.shape}, got {moved.shape}")
    moved, fixed = moved - moved.mean(axis=0), fixed - fixed.mean(axis=0)
    # not by BLAS, whose rounding may depend on its threads
    left, _, right = np.linalg.svd(np.einsum("ni,nj->ij", moved, fixed))
    return np.asarray(np.einsum("ni,ij->nj", moved, left @ right))


def _stability(maps: FloatArray, n_neighbors: int, n_threads: int) -> npt.NDArray[np.float64]:
    n_maps, n_points = maps.shape[:2]
    if n_maps == 1:
        return np.full(n_points, np.nan)
    lists = [nearest_neighbors(y, n_neighbors, method="exact", n_threads=n_threads)[0] for y in maps]
    shared = np.zeros(n_points)
    for a, b in combinations(lists, 2):
        both = np.sort(np.concatenate([a, b], axis=1), axis=1)  # a neighbour in both stands twice in a row
        shared += np.count_nonzero(both[:, 1:] == both[:, :-1], axis=1)
    return np.asarray(shared / (n_neighbors * (n_maps * (n_maps - 1) // 2)))


def _spread(maps: FloatArray) -> npt.NDArray[np.float64]:
    centred = maps - maps.mean(axis=1, keepdims=True, dtype=np.float64)
    radii = np.sqrt(np.mean(np.sum(centred**2, axis=2), axis=1))
    scaled = centred / np.where(radii > 0, radii, 1)[:, None, None]
    return np.asarray(np.sqrt(np.mean(np.sum((scaled - scaled.mean(axis=0)) ** 2, axis=2), axis=0)))


def _check_list(values: Any, name: str, check: Callable[[Any, str], Any]) -> list[Any]:
    if isinstance(values, str) or not np.iterable(values) or not len(list(values)):
        raise TypeError(f"{name} must be a sequence of numbers, got {values!r}")
    return [check(value, f"every one of {name}") for value in values]


def _bar(total: int, show: bool) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total, desc="sweep", unit="map", disable=not show)

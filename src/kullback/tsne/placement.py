"""New points in a map that is finished: placed one by one, or added to it for good.

The loss of a new point is the loss of t-SNE as a function of one more point (ext/placement.pyx has the formula).
Policar et al. (2021), "Embedding to reference t-SNE space addresses batch effects in single-cell classification",
place points likewise, but divide each one's repulsion by its own sum of w rather than by the mean of the map.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_random_state

from .. import _kernels
from .._arrays import FloatArray, check_positions, check_positions_out
from .._kernels import attraction, descent, placement
from .._threads import resolve_threads
from ..divergence import Decomposition
from . import affinities
from .gradient import tsne_loss
from .initialization import START_STD
from .neighbors import Graph, NeighborIndex
from .rates import Rates
from .repulsion import EXACT_POINTS, FFTRepulsion, Spline, make_repulsion

NEW_PERPLEXITY = 10.0
"""Effective neighbours of a new point, at most. On MNIST, 1-neighbour accuracy in the map was 0.974 at 5 and 10,
0.972 at 15 and 0.970 at 30, as it was of all points embedded together."""

SPACING = 0.25
"""Of the grid of the potential: with splines of order 6 its error is below 1e-3 of the repulsion."""

MARGIN = 5.0
"""How far beyond the map new points may go, where w has fallen to 1 / 26."""

MAX_EVALUATIONS = 200
"""For a new point at most; on MNIST half of them end before 30, and 99 % before 150."""

TOLERANCE = 1e-6
"""Shortest step, as a share of the map's extent: about the rounding of its float32 positions."""

CHUNK_ELEMENTS = 2**22
"""Of new rows at a time: 32 MB in float64."""

GROW_ITER = 250
"""Iterations that new points take to settle among each other."""


class ReferenceMap:
    """A finished map and what it takes to place new points in it.

    Parameters
    ----------
    index : NeighborIndex
        The rows of the map's data.
    neighbors : scipy.sparse.csr_array of shape (n_points, n_points)
        Distances to their neighbours, rows sorted, as in `kullback.affinities.Affinities`.
    positions : array-like of shape (n_points, n_components)
        The map.
    perplexity : float > 0
        That of the map; new points have the same, or 10 where it is more.
    method : str, default "auto"
        ``"exact"`` sums the repulsion of new points over all points of the map, as do more than three components
        and maps of up to 1,000 points; else it is read off a grid. In `grow` it is that of the descent.
    theta : float, default 0.5
        Accuracy of the descent in `grow`.
    dof : float > 0, default 1
        Of the map's kernel.
    """

    def __init__(
        self,
        index: NeighborIndex,
        neighbors: Any,
        positions: npt.ArrayLike,
        *,
        perplexity: float = 30.0,
        method: str = "auto",
        theta: float = 0.5,
        dof: float = 1.0,
    ) -> None:
        self.index, self.perplexity = index, min(perplexity, NEW_PERPLEXITY)
        self.method, self.theta, self.dof = method, theta, dof
        self.positions = np.asarray(positions)
        self.n_neighbors = max(1, math.floor(min(3 * self.perplexity, index.shape[0])))
        counts = np.diff(neighbors.indptr)
        last = neighbors.indptr[:-1] + np.minimum(counts, self.n_neighbors) - 1
        self.reach = np.asarray(neighbors.data[last], dtype=np.float64)
        self._field: _Field | None = None
        self._scores: npt.NDArray[np.float64] | None = None
        self._neighbors = neighbors

    def place(
        self, X: Any, *, out: Any = None, n_threads: int | None = None
    ) -> tuple[FloatArray, npt.NDArray[np.float64]]:
        """Return the positions of new rows and their scores, chunk by chunk; see `TSNE.transform`.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_rows, n_features)
            New rows, or their distances to the rows of the map where these are distances.
        out : ndarray of shape (n_rows, n_components), float32 or float64, optional
            Where to put the positions.
        n_threads : int, optional
            Default: all. The bits of the result do not depend on it.
        """
        n_threads = resolve_threads(n_threads)
        X = X if hasattr(X, "shape") else np.asarray(X)
        if len(X.shape) != 2:
            raise ValueError(f"X must have shape (n_rows, {self.index.shape[1]}), got shape {X.shape}")
        n_rows, n_features = X.shape
        shape = (n_rows, self.positions.shape[1])
        out = np.empty(shape, np.float32) if out is None else check_positions_out(out, shape)
        scores = np.empty(n_rows)
        step = max(64, CHUNK_ELEMENTS // n_features)
        for start in range(0, n_rows, step):
            part = slice(start, start + step)
            out[part], scores[part] = self._place_chunk(self.index.cast(X[part]), n_threads)
        return out, scores

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_field": None}  # made again when it is needed, with the same bits

    def _place_chunk(self, rows: Any, n_threads: int) -> tuple[FloatArray, npt.NDArray[np.float64]]:
        known = self.index.find(rows)
        positions, scores = self.positions[known], np.empty(len(known))
        if (known >= 0).any():
            scores[known >= 0] = self._training_scores()[known[known >= 0]]
        new = np.flatnonzero(known < 0)
        if len(new):
            graph = self.index.search(rows[new], self.n_neighbors, n_threads=n_threads)
            graph = graph._replace(distances=graph.distances.astype(np.float64))
            if self._field is None:
                self._field = _Field(self.positions, self.method, self.dof, n_threads)
            conditional = _conditional(graph, self.perplexity, n_threads)
            positions[new] = self._field.place(conditional, graph, n_threads)[0]
            scores[new] = self._score(graph)
        return positions, scores

    def _score(self, graph: Graph) -> npt.NDArray[np.float64]:
        """Return how far the last neighbour is, over the median of the same of all neighbours."""
        starts = graph.row_starts
        counts = np.diff(starts)
        reach = graph.distances[starts[1:] - 1]
        if (counts == counts[0]).all():
            usual = np.median(self.reach[graph.columns].reshape(len(counts), -1), axis=1)
        else:
            usual = np.array([np.median(self.reach[row]) for row in np.split(graph.columns, starts[1:-1])])
        scores = np.where(reach > 0, np.inf, 1.0)
        with np.errstate(over="ignore"):
            np.divide(reach, usual, out=scores, where=usual > 0)
        return scores

    def _training_scores(self) -> npt.NDArray[np.float64]:
        if self._scores is None:
            neighbors = self._neighbors
            counts = np.minimum(np.diff(neighbors.indptr), self.n_neighbors)
            starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
            rank = np.arange(starts[-1]) - np.repeat(starts[:-1], counts)
            slots = np.repeat(neighbors.indptr[:-1], counts) + rank
            graph = Graph(neighbors.indices[slots], neighbors.data[slots].astype(np.float64), starts)
            self._scores = self._score(graph)
        return self._scores


class _Field:
    """The repulsion that a map has on new points."""

    def __init__(self, positions: FloatArray, method: str, dof: float, n_threads: int) -> None:
        self.positions = np.ascontiguousarray(check_positions(positions, "positions"), dtype=np.float64)
        n_points, n_components = self.positions.shape
        self.dof = dof
        low, high = self.positions.min(axis=0), self.positions.max(axis=0)
        self.tolerance = TOLERANCE * float((high - low).max())
        self.box = np.stack([low - MARGIN, high + MARGIN])
        engine = make_repulsion(
            self.positions.shape, np.float64, method="exact" if method == "exact" else "auto", theta=0.5,
            tolerance=1e-3, dof=dof, n_threads=n_threads,
        )  # fmt: skip
        sum_q = engine(self.positions, np.empty_like(self.positions))
        self.mean_sum = max(sum_q, np.finfo(float).tiny) / n_points
        self.potential, self.spacing = np.empty((1, 1, 0)), 1.0
        if method != "exact" and n_points > EXACT_POINTS and n_components <= 3:
            spline = Spline(placement.SPLINE_ORDER, SPACING)
            grid = FFTRepulsion(self.positions.shape, np.float64, spline, dof, n_threads)
            self.potential = grid.sum_potential(self.positions, *self.box)
            self.spacing = grid.spacing

    def place(
        self, conditional: FloatArray, graph: Graph, n_threads: int, *, start: FloatArray | None = None,
        max_iter: int = MAX_EVALUATIONS,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:  # fmt: skip
        """Return positions, half the gradient and the loss there."""
        n_new, n_components = len(graph.row_starts) - 1, self.positions.shape[1]
        positions = np.empty((n_new, n_components)) if start is None else start.copy()
        slopes, losses, scratch = np.empty_like(positions), np.empty(n_new), np.empty((n_new, 2 * n_components))
        rows = conditional, graph.columns, graph.row_starts
        if start is None:
            placement.start_points(*rows, self, scratch, positions, n_threads)
        placement.place_points(*rows, self, max_iter, scratch, positions, slopes, losses, n_threads)
        return positions, slopes, losses


def _conditional(graph: Graph, perplexity: float, n_threads: int) -> FloatArray:
    """Return affinities of new rows to their neighbours: each row by itself, on a scale of its own."""
    distances, starts = graph.distances, graph.row_starts
    n_rows = len(starts) - 1
    largest = distances[starts[1:] - 1]  # rows are sorted
    scaled = np.ldexp(distances, -np.repeat(np.frexp(largest)[1], np.diff(starts)))
    conditional: FloatArray = np.empty_like(scaled)
    _kernels.perplexity.search_bandwidths(
        scaled, starts, perplexity, conditional, np.empty(n_rows), np.empty(n_rows), n_threads
    )
    return conditional


# ---- Growing -------------------------------------------------------------------------------------


def grow(
    reference: ReferenceMap, joint: affinities.Affinities, start: FloatArray, *, n_threads: int, random_state: Any
) -> tuple[FloatArray, Decomposition]:
    """Return the positions of all points and the loss, after the descent of new points beside the old ones.

    Parameters
    ----------
    reference : ReferenceMap
        The map of the old points, which keep their positions bit for bit.
    joint : Affinities
        Of the old points and then the new ones.
    start : ndarray of shape (n_new, n_components), float32
        Where the new points start.
    n_threads : int
        Threads; the result does not depend on it.
    random_state : int, RandomState or None
        Seed of the jitter of new points that start where another point is.
    """
    n_old, n_new = len(reference.positions), len(start)
    positions = np.concatenate([start, reference.positions]).astype(np.float32)  # new points first
    _, group, counts = np.unique(positions, axis=0, return_inverse=True, return_counts=True)
    again = np.flatnonzero(counts[group.reshape(-1)[:n_new]] > 1)
    noise = check_random_state(random_state).standard_normal((len(again), positions.shape[1]))
    positions[again] += (START_STD * noise).astype(np.float32)

    P = joint.P[n_old:]
    columns = np.where(P.indices < n_old, P.indices + n_new, P.indices - n_old).astype(np.int32)
    starts = np.concatenate([P.indptr, np.full(n_old, P.indptr[-1])]).astype(np.int64)
    values = P.data.astype(np.float32)
    moving = positions[:n_new]
    velocity, gains = np.zeros_like(moving), np.ones_like(moving)
    attracted, repelled = np.empty_like(positions), np.empty_like(positions)
    sums = np.empty((-(-n_new // descent.BLOCK_POINTS), positions.shape[1] + 1))
    engine: dict[str, Any] = {"method": reference.method, "theta": reference.theta, "dof": reference.dof}
    repel = make_repulsion(positions.shape, np.float32, **engine, n_threads=n_threads)
    for _ in range(GROW_ITER):
        attraction.accumulate_attraction(values, columns, starts, positions, reference.dof, attracted, n_threads)
        sum_q = repel(positions, repelled)
        rates = Rates(1.0, 1 / sum_q, n_old + n_new, momentum=0.8, max_step=5.0)
        fixed = np.zeros(positions.shape[1])  # the centre, which must stay where it is
        descent.descend(moving, velocity, gains, attracted[:n_new], repelled[:n_new], rates, fixed, sums, n_threads)
    grown = np.concatenate([reference.positions, moving])
    return grown, tsne_loss(joint.P, grown, **engine, n_threads=n_threads)


# ---- Dask ----------------------------------------------------------------------------------------


def is_dask(X: object) -> bool:
    """Return whether X is a dask array, without importing dask."""
    return type(X).__module__.startswith("dask.array") and hasattr(X, "map_blocks")


def place_blocks(reference: ReferenceMap, X: Any, *, n_threads: int) -> tuple[Any, Any]:
    """Return positions and scores of a dask array's rows as dask arrays: each block of rows is a task."""
    import dask.array
    from dask.delayed import delayed

    delay: Any = delayed
    join: Any = dask.array.concatenate
    read: Any = dask.array.from_delayed
    X = X.rechunk({1: -1})
    n_components = reference.positions.shape[1]
    shared = delay(reference, traverse=False)
    tasks = [delay(_place_block, nout=2, pure=False)(shared, block, n_threads) for block in X.to_delayed().reshape(-1)]
    shapes = [(length, n_components) for length in X.chunks[0]]
    positions = [read(task[0], shape, dtype=np.float32) for task, shape in zip(tasks, shapes, strict=True)]
    scores = [read(task[1], shape[:1], dtype=np.float64) for task, shape in zip(tasks, shapes, strict=True)]
    return join(positions), join(scores)


def _place_block(reference: ReferenceMap, rows: Any, n_threads: int) -> tuple[FloatArray, npt.NDArray[np.float64]]:
    return reference.place(rows, n_threads=n_threads)

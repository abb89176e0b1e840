"""New points in a finished map: placed one by one, or added to it for good.

The loss of a new point is the loss of t-SNE as a function of one more point (ext/tsne/placement.pyx has the formula).
Policar et al. (2021), "Embedding to reference t-SNE space addresses batch effects in single-cell classification",
place points likewise, but divide each point's repulsion by its own sum of w, and not by the mean of the map.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_random_state

from .._arrays import FloatArray
from .._checks.data import check_masses, check_positions
from .._checks.outputs import check_positions_out
from .._checks.scalars import check_dof
from .._kernels import attraction, descent, placement
from .._threads import resolve_threads, useful_threads
from ..divergence import Decomposition
from . import affinities
from .affinity_graphs import rows_within
from .fft_repulsion import MOST_NODES, FFTRepulsion, Spline, grid_nodes, kernel_width, self_force
from .gradient import tsne_loss
from .initialization import START_STD
from .joint import conditional_of_new_rows
from .masses import Masses, empty_without, total_mass
from .neighbors import Graph, NeighborIndex
from .rates import DESCENT_POINTS_PER_THREAD, Rates
from .repulsion import EXACT_POINTS, POINTS_PER_THREAD, make_repulsion

LARGEST_PERPLEXITY = 10.0
"""Effective neighbours of a new point, at most. On MNIST, 1-neighbour accuracy in the map was 0.974 at 5 and 10,
0.972 at 15 and 0.970 at 30. It was 0.970 as well when all points were embedded together."""

SPACING = 0.25
"""Spacing of the grid of the potential. With splines of order 6, its error is below 1e-3 of the repulsion."""

MARGIN = 5.0
"""How far beyond the map new points may go. There w has fallen to 1 / 26."""

MAX_EVALUATIONS = 200
"""Evaluations of the loss of a new point, at most. On MNIST half of the points end before 30, and 99 % before 150."""

TOLERANCE = 1e-6
"""Shortest step, as a share of the map's extent: about the rounding of its float32 positions."""

NEW_POINTS_PER_THREAD = 16
"""New points that are worth a thread. They take it about a millisecond."""

LEAST_CHUNK_ROWS, CHUNK_ELEMENTS = 64, 2**22
"""New rows are placed in chunks of so many elements, which take 32 MB in float64, but of at least so many rows."""

GROW_ITER = 250
"""Iterations that new points take to settle among each other."""

GROW_MOMENTUM, GROW_MAX_STEP = 0.8, 5.0
"""The defaults of `Embedding.optimize`, as is the learning rate, the number of points."""


class ReferenceMap:
    """A finished map, and what it takes to place new points in it.

    Parameters
    ----------
    index : NeighborIndex
        The data of the map.
    neighbors : scipy.sparse.csr_array of shape (n_points, n_points)
        Distances to their neighbours, with sorted rows, as in `kullback.affinities.Affinities`.
    positions : array-like of shape (n_points, n_components)
        The map.
    perplexity : float > 0, default 30
        Perplexity of the map. New points have the same, but at most 10.
    method : str, default "auto"
        With ``"exact"``, with more than three components, or with up to 1,000 points, the repulsion of a new point is
        summed over all points of the map. Otherwise it is read off a grid. In `grow` it is the method of the descent.
    theta : float, default 0.5
        Accuracy of the descent in `grow`.
    dof : float in [1e-6, 1e9], default 1
        Degrees of freedom of the map's kernel.
    masses : array-like of shape (n_points,), optional
        How many rows each point of the map stands for.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from kullback import TSNE, affinities
    >>> from kullback.neighbors import NeighborIndex
    >>> from kullback.tsne.placement import ReferenceMap
    >>> X = load_digits().data
    >>> index = NeighborIndex(X[:500])
    >>> Y = TSNE(random_state=0).fit_transform(X[:500])
    >>> positions, scores = ReferenceMap(index, affinities.perplexity(index, 30).neighbors, Y).place(X[500:600])
    >>> positions.shape
    (100, 2)
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
        masses: npt.ArrayLike | None = None,
    ) -> None:
        self.masses = check_masses(masses, "masses", index.shape[0])
        self.index, self.perplexity = index, min(perplexity, LARGEST_PERPLEXITY)
        self.method, self.theta, self.dof = method, theta, check_dof(dof)
        self.positions = np.array(positions)  # its own, whatever becomes of the others
        self.n_neighbors = max(1, math.floor(min(3 * self.perplexity, index.shape[0])))
        counts = np.diff(neighbors.indptr)
        last = neighbors.indptr[:-1] + np.minimum(counts, self.n_neighbors) - 1
        self.outer_distances = np.asarray(neighbors.data[last], dtype=np.float64)
        self._field: _Field | None = None
        self._scores: npt.NDArray[np.float64] | None = None
        self._neighbors = neighbors

    def place(
        self, X: Any, *, out: Any = None, n_threads: int | None = None
    ) -> tuple[FloatArray, npt.NDArray[np.float64]]:
        """Return the positions of new rows and their scores.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_rows, n_features)
            New rows. If the rows of the map are distances, these are distances to them.
        out : ndarray of shape (n_rows, n_components), float32 or float64, optional
            Array to write the positions to.
        n_threads : int, optional
            Number of threads, by default all. The bits of the result do not depend on it.

        Returns
        -------
        positions : ndarray of shape (n_rows, n_components), float32
            Positions in the map, or ``out`` if it is given.
        scores : ndarray of shape (n_rows,), float64
            As in `TSNE.transform`.

        Raises
        ------
        ValueError, TypeError
            If rows are not finite or have another number of features, or ``out`` does not fit.
        """
        n_threads = resolve_threads(n_threads)
        X = X if hasattr(X, "shape") else np.asarray(X)
        if len(X.shape) != 2:
            raise ValueError(f"X must have shape (n_rows, {self.index.shape[1]}), got shape {X.shape}")
        n_rows, n_features = X.shape
        shape = (n_rows, self.positions.shape[1])
        out = np.empty(shape, np.float32) if out is None else check_positions_out(out, shape)
        scores = np.empty(n_rows)
        step = max(LEAST_CHUNK_ROWS, CHUNK_ELEMENTS // n_features)
        for start in range(0, n_rows, step):
            chunk = slice(start, start + step)
            out[chunk], scores[chunk] = self._place_chunk(self.index.cast(X[chunk]), n_threads)
        return out, scores

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_field": None}  # it is made again when it is needed, with the same bits

    def _place_chunk(self, rows: Any, n_threads: int) -> tuple[FloatArray, npt.NDArray[np.float64]]:
        """Return the positions and the scores of rows that fit into memory together."""
        known = self.index.find(rows)
        positions, scores = self.positions[known], np.empty(len(known))
        if (known >= 0).any():
            scores[known >= 0] = self._scores_of_map()[known[known >= 0]]
        new = np.flatnonzero(known < 0)
        if len(new):
            graph = self.index.search(rows[new], self.n_neighbors, n_threads=n_threads)
            graph = graph._replace(distances=graph.distances.astype(np.float64))
            if self._field is None:
                self._field = _Field(self.positions, self.method, self.dof, n_threads, self.masses)
            near = None
            if self.masses is not None:
                near = rows_within(self.masses[graph.columns], graph.row_starts, 3 * self.perplexity)
            conditional = conditional_of_new_rows(graph, self.perplexity, n_threads, near)
            positions[new] = self._field.place(conditional, graph, n_threads)[0]
            scores[new] = self._score(graph)
        return positions, scores

    def _score(self, graph: Graph) -> npt.NDArray[np.float64]:
        """Return the distance of each row's last neighbour, divided by the median of those of its neighbours."""
        starts = graph.row_starts
        counts = np.diff(starts)
        outer = graph.distances[starts[1:] - 1]  # rows are sorted
        if (counts == counts[0]).all():
            usual = np.median(self.outer_distances[graph.columns].reshape(len(counts), -1), axis=1)
        else:
            usual = np.array([np.median(self.outer_distances[row]) for row in np.split(graph.columns, starts[1:-1])])
        scores = np.where(outer > 0, np.inf, 1.0)
        with np.errstate(over="ignore"):
            np.divide(outer, usual, out=scores, where=usual > 0)
        return scores

    def _scores_of_map(self) -> npt.NDArray[np.float64]:
        """Return the scores of the rows of the map itself."""
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
    """The repulsion that the points of a map exert on new points.

    Parameters
    ----------
    positions, method, dof, masses
        As in `ReferenceMap`.
    n_threads : int
        Number of threads.
    """

    def __init__(
        self, positions: FloatArray, method: str, dof: float, n_threads: int, masses: Masses | None = None
    ) -> None:
        self.positions = np.ascontiguousarray(check_positions(positions, "positions"), dtype=np.float64)
        n_points = len(self.positions)
        self.masses = empty_without(masses, np.float64)
        self.dof = dof
        low, high = self.positions.min(axis=0), self.positions.max(axis=0)
        self.tolerance = TOLERANCE * float((high - low).max())
        self.box = np.stack([low - MARGIN, high + MARGIN])
        engine = make_repulsion(
            self.positions.shape, np.float64, method="exact" if method == "exact" else "auto", theta=0.5,
            tolerance=1e-3, dof=dof, n_threads=n_threads,
        )  # fmt: skip
        sum_q = engine(self.positions, np.empty_like(self.positions), masses)
        self.mean_sum = max(sum_q / total_mass(masses, n_points), float(np.finfo(float).tiny))
        self.potential, self.spacing = np.empty((1, 1, 0)), 1.0
        spacing = self._widest_spacing(dof)
        if method != "exact" and n_points > EXACT_POINTS and spacing > 0:
            spline = Spline(placement.SPLINE_ORDER, spacing)
            grid = FFTRepulsion(self.positions.shape, np.float64, spline, dof, n_threads)
            self.potential = grid.sum_potential(self.positions, self.box[0], self.box[1], masses)
            self.spacing = grid.spacing

    def _widest_spacing(self, dof: float) -> float:
        """Return the spacing of a grid that the map fits into, or 0 where none keeps an error of 1 % of the potential.

        Then the repulsion of a new point is summed over all points.
        """
        spans = (self.box[1] - self.box[0]).tolist()
        for spacing in (SPACING, 2 * SPACING) if len(spans) <= 3 else ():
            between = spacing * kernel_width(dof)
            thin = self_force(placement.SPLINE_ORDER, between, dof) > 0.01 * self.mean_sum
            if grid_nodes(spans, between) <= MOST_NODES and not thin:
                return spacing
        return 0.0

    def place(
        self, conditional: FloatArray, graph: Graph, n_threads: int, *, start: FloatArray | None = None,
        max_iter: int = MAX_EVALUATIONS,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:  # fmt: skip
        """Return the positions of new points, half the gradient there, and the loss there.

        Parameters
        ----------
        conditional : ndarray of shape (n_edges,), float64
            Conditional probabilities of the new points, in the order of the graph.
        graph : Graph
            Neighbours of the new points in the map.
        n_threads : int
            Number of threads.
        start : ndarray of shape (n_new, n_components), float64, optional
            Where the new points start. By default each starts at the best of its neighbours' positions.
        max_iter : int, default 200
            Evaluations of the loss of a point, at most.
        """
        n_new, n_components = len(graph.row_starts) - 1, self.positions.shape[1]
        positions = np.empty((n_new, n_components)) if start is None else start.copy()
        slopes, losses, scratch = np.empty_like(positions), np.empty(n_new), np.empty((n_new, 2 * n_components))
        rows = conditional, graph.columns, graph.row_starts
        n_threads = useful_threads(n_threads, n_new, NEW_POINTS_PER_THREAD)
        if start is None:
            placement.start_points(*rows, self, scratch, positions, n_threads)
        placement.place_points(*rows, self, max_iter, scratch, positions, slopes, losses, n_threads)
        return positions, slopes, losses


# ---- Growing -------------------------------------------------------------------------------------


def grow(
    reference: ReferenceMap, joint: affinities.Affinities, start: FloatArray, *, masses: Masses | None, n_threads: int,
    random_state: Any,
) -> tuple[FloatArray, Decomposition]:  # fmt: skip
    """Return the positions of all points and the loss, after the descent of new points beside the old ones.

    Parameters
    ----------
    reference : ReferenceMap
        The map of the old points, which keep their positions bit for bit.
    joint : Affinities
        Affinities of the old points followed by the new ones.
    start : ndarray of shape (n_new, n_components), float32
        Positions at which the new points start.
    masses : ndarray of shape (n_old + n_new,), or None
        How many rows each point stands for.
    n_threads : int
        Number of threads. The bits of the result do not depend on it.
    random_state : int, RandomState or None
        Seed of the jitter of new points that start where another point is.

    Returns
    -------
    positions : ndarray of shape (n_old + n_new, n_components)
        Positions of all points.
    loss : Decomposition
        The loss of all points.
    """
    n_old, n_new = len(reference.positions), len(start)
    positions = np.concatenate([start, reference.positions]).astype(np.float32)  # new points come first
    _, place, counts = np.unique(positions, axis=0, return_inverse=True, return_counts=True)
    coinciding = np.flatnonzero(counts[place.reshape(-1)[:n_new]] > 1)
    noise = check_random_state(random_state).standard_normal((len(coinciding), positions.shape[1]))
    positions[coinciding] += (START_STD * noise).astype(np.float32)

    # The rows of the old points are empty, as they are not attracted.
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
    in_order = None if masses is None else np.roll(masses, n_new).astype(np.float32)
    force_threads = useful_threads(n_threads, n_new, POINTS_PER_THREAD)
    step_threads = useful_threads(n_threads, n_new, DESCENT_POINTS_PER_THREAD)
    for _ in range(GROW_ITER):
        attraction.accumulate_attraction(values, columns, starts, positions, reference.dof, attracted, force_threads)
        if in_order is not None:  # the step of a point is that of one of its rows
            attracted[:n_new] /= in_order[:n_new, None]
        sum_q = repel(positions, repelled, in_order)
        if not sum_q > 0:
            raise ArithmeticError(f"the points are so far apart that Z = {sum_q} at dof = {reference.dof:g}")
        n_rows = total_mass(masses, n_old + n_new)
        rates = Rates(1.0, 1 / sum_q, n_rows, momentum=GROW_MOMENTUM, max_step=GROW_MAX_STEP)
        centre = np.zeros(positions.shape[1])  # it must stay where it is
        descent.descend(moving, velocity, gains, attracted[:n_new], repelled[:n_new], rates, centre, sums, step_threads)
    grown = np.concatenate([reference.positions, moving])
    return grown, tsne_loss(joint.P, grown, masses=masses, **engine, n_threads=n_threads)


# ---- Dask ----------------------------------------------------------------------------------------


def is_dask(X: object) -> bool:
    """Return whether X is a dask array, without importing dask."""
    return type(X).__module__.startswith("dask.array") and hasattr(X, "map_blocks")


def place_blocks(reference: ReferenceMap, X: Any, *, n_threads: int) -> tuple[Any, Any]:
    """Return the positions and the scores of a dask array's rows as dask arrays. Each block of rows is a task."""
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
    """Return the positions and the scores of a block of rows."""
    return reference.place(rows, n_threads=n_threads)

"""The descent: an embedding of fixed affinities that can be optimised step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays import (
    FloatArray,
    check_affinities,
    check_integer,
    check_positions,
    check_real,
    check_tolerance,
)
from .._kernels import attraction, descent
from .._repulsion import EXACT_POINTS, POINTS_PER_THREAD, ZOrder, make_repulsion
from .._threads import resolve_threads, useful_threads
from ..divergence import Decomposition
from ..gradient import entropy_of, loss_of

LOSS_DTYPE = np.dtype(
    [("iteration", np.int64), ("entropy", float), ("cross_entropy", float), ("kl_divergence", float)]
)

CHECK_EVERY = 50
"""Iterations between two records of the loss, as in scikit-learn, and between two sorts of the points."""


class Embedding:
    """Positions of points, their P, and the state of the descent.

    Parameters
    ----------
    P : sparse matrix, sparse array or array-like of shape (n_points, n_points)
        Joint probabilities: symmetric, non-negative, no diagonal, sum 1.
    init : array-like of shape (n_points, n_components)
        Where the descent starts. It is copied.
    method, theta, tolerance, dof, n_threads
        As in `kullback.gradient.repulsive_forces`.

    Attributes
    ----------
    n_iter : int
        Iterations so far.
    loss : ndarray of records (iteration, entropy, cross_entropy, kl_divergence)
        The trace of the loss: of the true P, without exaggeration, every 50 iterations and at the end of
        every call of `optimize`.

    Notes
    -----
    Points, P and everything else are kept in Z-order, sorted anew every 50 iterations, so that neighbours
    are near in memory; `positions` gives them in the user's order.
    """

    def __init__(
        self,
        P: Any,
        init: npt.ArrayLike,
        *,
        method: str = "auto",
        theta: float = 0.5,
        tolerance: float | None = None,
        dof: float = 1.0,
        n_threads: int | None = None,
    ) -> None:
        start = check_positions(init, "init")
        n_points, n_components = start.shape
        threads = resolve_threads(n_threads)
        self._n_threads = useful_threads(threads, n_points, POINTS_PER_THREAD)
        self._n_descent_threads = useful_threads(threads, n_points, 50_000)  # bound by memory below that
        self._dof = check_real(dof, "dof", low=0, open_low=True)
        self._repulsion = make_repulsion(
            start.shape, start.dtype, method=method, theta=check_real(theta, "theta", low=0, high=1),
            tolerance=check_tolerance(tolerance), dof=self._dof, n_threads=self._n_threads,
        )  # fmt: skip
        self._affinities = check_affinities(P, n_points, start.dtype, "P")
        self._entropy = entropy_of(self._affinities[0])
        self._order = np.arange(n_points, dtype=np.int32)
        self._z_order = ZOrder(start.shape, self._n_threads) if n_points > EXACT_POINTS and n_components <= 3 else None
        self._positions = start.copy()
        self._velocity = np.zeros_like(start)
        self._gains = np.ones_like(start)
        self._centre = np.zeros(n_components)
        self._attraction = np.empty_like(start)
        self._repelled = np.empty_like(start)
        self._rates = np.empty(5)
        self._block_sums = np.empty((-(-n_points // descent.BLOCK_POINTS), n_components + 1))
        self._row_sums = np.empty(-(-n_points // attraction.BLOCK_ROWS))
        self._loss: list[tuple[int, float, float, float]] = []
        self.n_iter = 0

    @property
    def positions(self) -> FloatArray:
        """The embedding, centred, in the order of the user's points: a copy of shape (n_points, n_components)."""
        positions = np.empty_like(self._positions)
        positions[self._order] = self._positions - self._centre.astype(positions.dtype)
        return positions

    @property
    def n_points(self) -> int:
        """How many points there are."""
        return len(self._positions)

    @property
    def loss(self) -> npt.NDArray[Any]:
        """The trace of the loss so far."""
        return np.array(self._loss, dtype=LOSS_DTYPE)

    def optimize(
        self,
        n_iter: int,
        *,
        exaggeration: float = 1.0,
        learning_rate: float | str = "auto",
        momentum: float = 0.8,
        max_step: float = 5.0,
        n_iter_without_progress: int | None = None,
        min_grad_norm: float = 0.0,
        callback: Callable[[int, float], object] | None = None,
    ) -> Embedding:
        """Run up to ``n_iter`` iterations of gradient descent with gains and momentum.

        Parameters
        ----------
        n_iter : int >= 0
            Iterations to run.
        exaggeration : float > 0, default 1
            Factor on P in the gradient. The loss that is recorded is always that of the true P.
        learning_rate : float > 0 or "auto", default "auto"
            ``"auto"`` is n_points / exaggeration (Belkina et al. 2019).
        momentum : float in [0, 1), default 0.8
            Share of the last step that is kept.
        max_step : float > 0, default 5
            Longest step of a point in one iteration.
        n_iter_without_progress : int >= 0, optional
            Stop when the KL divergence, looked at every 50 iterations, has had no new minimum for so many.
        min_grad_norm : float >= 0, default 0
            Stop when the Euclidean norm of the gradient, looked at every 50 iterations, is not above this.
        callback : callable, optional
            ``callback(n_iter, kl_divergence)`` every 50 iterations; a true value stops the descent.

        Returns
        -------
        Embedding
            self, so that phases can be chained.
        """
        n_iter = check_integer(n_iter, "n_iter", low=0)
        exaggeration = check_real(exaggeration, "exaggeration", low=0, open_low=True)
        momentum = check_real(momentum, "momentum", low=0, high=1)
        max_step = check_real(max_step, "max_step", low=0, open_low=True)
        if isinstance(learning_rate, str) and learning_rate == "auto":
            learning_rate = self.n_points / exaggeration
        learning_rate = check_real(learning_rate, 'learning_rate (a number or "auto")', low=0, open_low=True)

        best_kl, best_iter = np.inf, self.n_iter
        for _ in range(n_iter):
            check = self.n_iter % CHECK_EVERY == 0
            if check:
                self._sort_points()
            sum_q = self._evaluate_forces()
            kl = self._record_loss(sum_q).kl_divergence if check else np.inf
            if not sum_q > 0:
                raise ArithmeticError(
                    f"the points are so far apart that Z = {sum_q} is all rounding after {self.n_iter} iterations; "
                    'lower the learning rate or use method="exact"'
                )
            self._rates[:] = exaggeration, 1 / sum_q, learning_rate, momentum, max_step
            gradient_norm = descent.descend(
                self._positions, self._velocity, self._gains, self._attraction, self._repelled, self._rates,
                self._centre, self._block_sums, self._n_descent_threads,
            )  # fmt: skip
            self.n_iter += 1
            if not check:
                continue
            if kl < best_kl:
                best_kl, best_iter = kl, self.n_iter
            stalled = n_iter_without_progress is not None and self.n_iter - best_iter > n_iter_without_progress
            if stalled or gradient_norm <= min_grad_norm or (callback is not None and callback(self.n_iter, kl)):
                break
        self._record_loss(self._evaluate_forces())
        return self

    def _evaluate_forces(self) -> float:
        attraction.accumulate_attraction(
            *self._affinities, self._positions, self._dof, self._attraction, self._n_threads
        )
        return self._repulsion(self._positions, self._repelled)

    def _record_loss(self, sum_q: float) -> Decomposition:
        log_affinity = attraction.sum_log_affinity(
            *self._affinities, self._positions, self._dof, self._row_sums, self._n_threads
        )
        loss = loss_of(self._entropy, log_affinity, sum_q)
        if not self._loss or self._loss[-1][0] != self.n_iter:
            self._loss.append((self.n_iter, loss.entropy, loss.cross_entropy, loss.kl_divergence))
        return loss

    def _sort_points(self) -> None:
        """Bring points, P and the state of the descent into Z-order."""
        if self._z_order is None:
            return  # so few points that they are all near in memory
        order = self._z_order(self._positions)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order), dtype=order.dtype)
        values, columns, row_starts = self._affinities
        permuted = np.empty_like(values), np.empty_like(columns), np.empty_like(row_starts)
        attraction.permute_rows(*self._affinities, order, rank, *permuted, self._n_threads)
        self._affinities = permuted
        self._order = self._order[order]
        for name in ("_positions", "_velocity", "_gains"):
            setattr(self, name, getattr(self, name)[order])

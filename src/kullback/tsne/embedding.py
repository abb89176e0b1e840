"""The descent: an embedding of fixed affinities that is optimised step by step, and can be stopped, saved and resumed.

The arrays of an embedding are kept in an order in which points that are near in the map are near in memory. Every
50 iterations they are sorted anew along a Z-order curve. What a user sees is in the order of the user's points.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .._arrays import FloatArray
from .._checks.data import check_masses, check_positions
from .._checks.graphs import check_affinities
from .._checks.scalars import check_callback, check_dof, check_integer, check_real, check_tolerance
from .._interrupts import note_interrupts
from .._kernels import attraction, descent
from .._states import load_state, save_state
from .._threads import ProcessLock, in_turn, resolve_threads, running_alone, useful_threads
from ..divergence import Decomposition
from .affinities import Affinities
from .barnes_hut import ZOrder
from .gradient import entropy_of, loss_of
from .masses import mean_row, norm_of_rows, self_terms, total_mass
from .permutations import inverse, permute
from .progress import progress_bar
from .rates import DESCENT_POINTS_PER_THREAD, Rates
from .repulsion import EXACT_POINTS, POINTS_PER_THREAD, get_grid, make_repulsion, set_grid
from .saved_embedding import LOSS_DTYPE, LossRecord, SavedEmbedding, pack, unpack
from .schedules import CLASSIC_GAINS, Schedule, Schedules
from .state import State
from .stop_rules import CHECK_EVERY, StopRules

__all__ = ["CHECK_EVERY", "Embedding", "Schedule", "State"]


class Embedding:
    """Positions of points, their affinities P, and the state of a gradient descent.

    `TSNE` is the estimator that does everything. An embedding is for those who want to run the descent in phases of
    their own, look at it while it runs, or save it and go on later.

    Parameters
    ----------
    P : Affinities, sparse matrix, sparse array or array-like of shape (n_points, n_points)
        Joint probabilities: symmetric, non-negative, with an empty diagonal and a sum of 1.
    init : array-like of shape (n_points, n_components)
        Positions at which the descent starts. They are copied. float32 stays float32, and anything else is taken as
        float64; the descent runs in that precision.
    masses : array-like of shape (n_points,), optional
        How many rows each point stands for, as in `kullback.gradient.repulsive_forces`. A point moves like one of its
        rows, so integers give the descent of repeated rows. The total mass takes the place of n_points.
    method, theta, tolerance, dof, n_threads
        As in `kullback.gradient.repulsive_forces`.

    Attributes
    ----------
    n_iter : int
        Number of iterations so far.
    loss : ndarray of records (iteration, entropy, cross_entropy, kl_divergence)
        Trace of the loss in nats. It is the loss of the true P, without exaggeration. It is recorded every 50
        iterations, at the end of every call of `optimize`, and whenever a callback looks at it.
    stop_reason : str
        Why the last call of `optimize` ended: "iterations" (all of them ran), "tol", "n_iter_without_progress",
        "min_grad_norm", "callback" or "interrupt". It is "" before the first call.

    Raises
    ------
    ValueError, TypeError
        If P is not a joint distribution over the points, positions are not finite, or an option is out of its range.

    References
    ----------
    van der Maaten and Hinton (2008), "Visualizing data using t-SNE", for the loss; Jacobs (1988), "Increased rates of
    convergence through learning rate adaptation", for the gains.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from kullback import affinities
    >>> from kullback.tsne import Embedding, initialization
    >>> X = load_digits().data[:300]
    >>> P = affinities.perplexity(X, 15)
    >>> embedding = Embedding(P, initialization.pca(X, random_state=0))
    >>> _ = embedding.optimize(250, exaggeration=12).optimize(500)
    >>> embedding.n_iter, embedding.stop_reason, embedding.positions.shape
    (750, 'iterations', (300, 2))
    """

    def __init__(
        self,
        P: Any,
        init: npt.ArrayLike,
        *,
        masses: npt.ArrayLike | None = None,
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
        self._n_descent_threads = useful_threads(threads, n_points, DESCENT_POINTS_PER_THREAD)
        self._dof = check_dof(dof)
        self._options: dict[str, Any] = {
            "method": method, "theta": check_real(theta, "theta", low=0, high=1),
            "tolerance": check_tolerance(tolerance), "dof": self._dof,
        }  # fmt: skip
        self._lock, self._is_running = ProcessLock(), False
        self._repulsion = make_repulsion(start.shape, start.dtype, n_threads=self._n_threads, **self._options)
        P = P.P if isinstance(P, Affinities) else P
        self._masses = m = check_masses(masses, "masses", n_points)
        self._affinities = check_affinities(P, "P", n_points, start.dtype, copy=True, symmetric=True, masses=m)
        self._entropy = entropy_of(self._affinities, m)
        self._order = np.arange(n_points, dtype=np.int32)
        # The points of a small map are all near each other in memory, whatever their order.
        sorts = n_points > EXACT_POINTS and n_components <= 3
        self._z_order = ZOrder(start.shape, start.dtype, self._n_threads) if sorts else None
        self._positions = start.copy()
        self._velocity, self._gains = np.zeros_like(start), np.ones_like(start)
        self._centre = np.zeros(n_components)
        self._attraction, self._repelled = np.empty_like(start), np.empty_like(start)
        self._rates = Rates()
        self._block_sums = np.empty((-(-n_points // descent.BLOCK_POINTS), n_components + 1))
        self._row_sums = np.empty(-(-n_points // attraction.BLOCK_ROWS))
        self._loss: list[LossRecord] = []
        self._loss_is_current = False  # whether the last record is the loss at the present positions
        self.n_iter, self.stop_reason = 0, ""

    @property
    @in_turn
    def positions(self) -> FloatArray:
        """The embedding, centred, in the order of the user's points: a copy of shape (n_points, n_components)."""
        positions = np.empty_like(self._positions)
        positions[self._order] = self._positions - self._centre.astype(positions.dtype)
        return positions

    @property
    def n_points(self) -> int:
        """Number of points."""
        return len(self._positions)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last iteration. It is 0 before the first one."""
        return self._rates.learning_rate

    @property
    @in_turn
    def loss(self) -> npt.NDArray[Any]:
        """Trace of the loss so far."""
        return np.array(self._loss, dtype=LOSS_DTYPE)

    def optimize(
        self,
        n_iter: int,
        *,
        exaggeration: Schedule = 1.0,
        learning_rate: Schedule | str = "auto",
        momentum: Schedule = 0.8,
        max_step: float = 5.0,
        gains: tuple[float, float] = CLASSIC_GAINS,
        tol: float | None = None,
        n_iter_without_progress: int | None = None,
        min_grad_norm: float = 0.0,
        callback: Callable[[State], object] | None = None,
        callback_every: int = CHECK_EVERY,
        progress: bool = False,
    ) -> Embedding:
        """Run up to ``n_iter`` iterations of gradient descent with gains and momentum.

        Parameters
        ----------
        n_iter : int >= 0
            Iterations to run.
        exaggeration : float > 0 or callable, default 1
            Factor on P in the gradient. The recorded loss is always that of the true P. A callable gets the number of
            the iteration, counted from the first one of the embedding, and returns the factor. For example,
            ``lambda i: max(1, 12 - 11 * i / 500)`` anneals it. ``learning_rate`` and ``momentum`` may be callables too.
        learning_rate : float > 0, callable or "auto", default "auto"
            ``"auto"`` is n_points / exaggeration at every iteration (Belkina et al. 2019).
        momentum : float in [0, 1] or callable, default 0.8
            Share of the last step that is kept.
        max_step : float > 0, default 5
            Largest distance that a point moves in one iteration, in units of the map.
        gains : pair of float, default (0.2, 0.8)
            The learning rate of a coordinate has a factor, at first 1, which grows by the first number where a step
            goes on downhill, and is multiplied by the second one where it does not.
        tol : float > 0, optional
            Stop when the descent has been at rest for 50 iterations. It is at rest if the KL divergence of the true P
            fell by less than this share of itself during the last 50 iterations, and the gradient did not grow.
        n_iter_without_progress : int >= 0, optional
            Stop when the KL divergence, recorded every 50 iterations, has had no new minimum for so many iterations.
        min_grad_norm : float >= 0, default 0
            Stop when the Euclidean norm of the gradient, looked at every 50 iterations, is not above this value and
            the map has unfolded.
        callback : callable, optional
            ``callback(state)`` is called with a `State` every ``callback_every`` iterations of the embedding. If it
            returns a true value, the descent stops.
        callback_every : int >= 1, default 50
            Iterations between two calls.
        progress : bool, default False
            Whether to show a progress bar on standard error.

        Returns
        -------
        Embedding
            The embedding itself, so that calls can be chained.

        Raises
        ------
        ValueError, TypeError
            If an option is out of its range.
        ArithmeticError
            If the points have moved so far apart that Z is nothing but rounding errors.
        RuntimeError
            If another thread, or the caller of this callback, is in `optimize` of the same embedding.

        Notes
        -----
        Ctrl-C ends the call after the iteration that is running, with ``stop_reason = "interrupt"``. A second Ctrl-C
        raises KeyboardInterrupt. Both hold in the main thread only.

        The KL divergence of a small map is flat, although it is not at rest. So neither ``tol`` nor ``min_grad_norm``
        ends a descent before Z has fallen by a tenth of n (n - 1), nor ``tol`` while the gradient grows.

        One iteration takes O(nnz(P)) time, and the time of `kullback.gradient.repulsive_forces`.
        """
        n_iter = check_integer(n_iter, "n_iter", low=0)
        n_rows = total_mass(self._masses, self.n_points)
        schedules = Schedules(n_rows, exaggeration, learning_rate, momentum, max_step, gains)
        check_callback(callback, "callback")
        callback_every = check_integer(callback_every, "callback_every", low=1)
        n_pairs = n_rows**2 - self_terms(self._masses, self.n_points)
        rules = StopRules(n_pairs, tol, n_iter_without_progress, min_grad_norm)
        phase = "" if callable(exaggeration) or exaggeration == 1 else f", exaggeration {exaggeration:g}"
        with (running_alone(self, "optimize"), note_interrupts() as interrupted,
              progress_bar(n_iter, f"t-SNE{phase}", "it", show=progress) as bar):  # fmt: skip
            first, last, reason = self.n_iter, self.n_iter + n_iter, "iterations"
            while True:
                if self.n_iter < last and self.n_iter % CHECK_EVERY == 0:
                    self._sort_points()
                sum_q = self._evaluate_forces()
                callback_is_due = self.n_iter > first and self.n_iter % callback_every == 0
                if callback_is_due and callback is not None and callback(State(self, sum_q)):
                    last, reason = self.n_iter, "callback"
                rules_are_due = self.n_iter % rules.every == 0
                if rules_are_due or self.n_iter == last:
                    kl = self._record_loss(sum_q).kl_divergence
                    if bar is not None:
                        bar.set_postfix_str(f"KL {kl:.4f}", refresh=False)
                if self.n_iter == last:
                    break
                gradient_norm = self._descend(schedules.rates(self.n_iter, sum_q))
                if bar is not None:
                    bar.update()
                if rules_are_due and (rule := rules.apply(self.n_iter, kl, sum_q, gradient_norm)):
                    last, reason = self.n_iter, rule
                if interrupted.is_set():
                    last, reason = self.n_iter, "interrupt"
        self.stop_reason = "interrupt" if interrupted.is_set() else reason
        return self

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write P, the positions and the state of the descent to a file.

        The file is an npz without pickles. It appears under its name only when it is complete. A descent that `load`
        resumes gives the same bits as one that was never interrupted.

        Parameters
        ----------
        path : str or path-like
            Name of the file. In float32, an element of P takes about 8 bytes, and a coordinate 12.
        """
        state = pack(self._to_saved())
        save_state(path, state.pop("header"), state, compress=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, n_threads: int | None = None) -> Embedding:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or path-like
            Name of the file.
        n_threads : int, optional
            Number of threads, by default all. The bits of further results do not depend on it.

        Returns
        -------
        Embedding
            An embedding that goes on where the saved one was.

        Raises
        ------
        ValueError
            If the file is damaged or truncated, has another version, or does not hold an embedding.
        """
        try:
            return cls._from_saved(unpack(load_state(path)), n_threads)
        except (TypeError, ValueError, OverflowError, MemoryError) as error:
            raise ValueError(f"cannot load {os.fspath(path)!r}: {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        return pack(self._to_saved())

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = self._from_saved(unpack(dict(state)), None).__dict__

    @in_turn
    def _to_saved(self) -> SavedEmbedding:
        """Return everything in the order of the user's points."""
        rank = inverse(self._order)
        values, columns, row_starts = permute(self._affinities, rank, self._order, self._n_threads)
        return SavedEmbedding(
            self._options, self.n_iter, self.stop_reason, values, columns, row_starts, self._order,
            self._positions[rank], self._velocity[rank], self._gains[rank], self._centre.copy(), self._rates,
            get_grid(self._repulsion), self._loss.copy(), None if self._masses is None else self._masses[rank],
        )  # fmt: skip

    @classmethod
    def _from_saved(cls, saved: SavedEmbedding, n_threads: int | None) -> Embedding:
        """Return an embedding that goes on where the saved one was."""
        n_points, order = len(saved.positions), saved.order
        P = sparse.csr_array((saved.values, saved.columns, saved.row_starts), shape=(n_points, n_points))
        embedding = cls(P, saved.positions, masses=saved.masses, n_threads=n_threads, **saved.options)
        embedding._affinities = permute(embedding._affinities, order, inverse(order), embedding._n_threads)
        embedding._order, masses, embedding._gains = order, embedding._masses, saved.gains[order]
        embedding._positions, embedding._velocity = saved.positions[order], saved.velocity[order]
        embedding._masses = None if masses is None else masses[order]
        embedding._centre, embedding._rates = saved.centre, saved.rates
        set_grid(embedding._repulsion, saved.grid)
        embedding._loss = saved.loss
        embedding.n_iter, embedding.stop_reason = saved.n_iter, saved.stop_reason
        return embedding

    @in_turn
    def _evaluate_forces(self) -> float:
        """Compute the attraction and the repulsion at the present positions, and return Z."""
        self._loss_is_current = False
        attraction.accumulate_attraction(
            *self._affinities, self._positions, self._dof, self._attraction, self._n_threads
        )
        if self._masses is not None:  # the step of a point is that of one of its rows
            self._attraction /= self._masses[:, None].astype(self._attraction.dtype)
        sum_q = self._repulsion(self._positions, self._repelled, self._masses)
        if not sum_q > 0:
            raise ArithmeticError(
                f"the points are so far apart that Z = {sum_q} is all rounding after {self.n_iter} iterations;"
                ' lower the learning rate or use method="exact"'
            )
        return sum_q

    @in_turn
    def _descend(self, rates: Rates) -> float:
        """Take a step along the forces, and return the Euclidean norm of the gradient."""
        norm: float = descent.descend(
            self._positions, self._velocity, self._gains, self._attraction, self._repelled, rates,
            self._centre, self._block_sums, self._n_descent_threads,
        )  # fmt: skip
        self._rates, self.n_iter = rates, self.n_iter + 1
        if self._masses is None:
            return norm
        self._centre[:] = mean_row(self._positions, self._masses)
        return norm_of_rows(self._attraction, self._repelled, rates.exaggeration, rates.inverse_sum_q, self._masses)

    @in_turn
    def _record_loss(self, sum_q: float) -> Decomposition:
        """Add the loss at the present positions to the trace, and return it."""
        if self._loss_is_current:
            return Decomposition(*self._loss[-1][1:])
        if self._loss and self._loss[-1][0] == self.n_iter:
            # The last call ended here and recorded the loss. Points may have been sorted since, which rounds anew.
            self._loss.pop()
        log_affinity = attraction.sum_log_affinity(
            *self._affinities, self._positions, self._dof, self._row_sums, self._n_threads
        )
        loss = loss_of(self._entropy, log_affinity, sum_q)
        self._loss.append((self.n_iter, loss.entropy, loss.cross_entropy, loss.kl_divergence))
        self._loss_is_current = True
        return loss

    @in_turn
    def _sort_points(self) -> None:
        """Sort the points, P and the state of the descent along the Z-order curve."""
        if self._z_order is None:
            return
        order = self._z_order(self._positions)
        self._affinities = permute(self._affinities, order, inverse(order), self._n_threads)
        self._order = self._order[order]
        for name in ("_positions", "_velocity", "_gains", *(("_masses",) if self._masses is not None else ())):
            setattr(self, name, getattr(self, name)[order])

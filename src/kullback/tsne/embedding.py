"""The descent: an embedding of fixed affinities that can be optimised step by step, stopped, kept and resumed."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from .._arrays import (
    FloatArray,
    check_affinities,
    check_integer,
    check_positions,
    check_real,
    check_tolerance,
)
from .._interrupts import note_interrupts
from .._kernels import attraction, descent
from .._states import Arrays, load_state, refuse_rest, save_state, take
from .._threads import resolve_threads, useful_threads
from ..divergence import Decomposition
from .affinities import Affinities
from .gradient import entropy_of, loss_of
from .rates import Rates
from .repulsion import EXACT_POINTS, POINTS_PER_THREAD, ZOrder, get_grid, make_repulsion, set_grid

Schedule = float | Callable[[int], float]
"""A number, or a function of the iteration, counted from the first one of the embedding."""

LOSS_DTYPE = np.dtype([("iteration", np.int64), ("entropy", float), ("cross_entropy", float), ("kl_divergence", float)])

CHECK_EVERY = 50
"""Iterations between two records of the loss, as in scikit-learn, and between two sorts of the points."""

REST_EVERY = 10
"""Iterations between two looks at the KL divergence where ``tol`` is set: a look costs about one attraction."""

FORMAT, VERSION = "kullback.tsne.Embedding", 1


class State:
    """An embedding as a callback sees it, after ``iteration`` iterations.

    Attributes
    ----------
    iteration : int
        Iterations so far, of all calls of `Embedding.optimize`.
    exaggeration, learning_rate, momentum : float
        What the last step was taken with.
    loss : Decomposition
        H(P), H(P, Q) and KL of the true P at these positions; computed when it is asked for.
    positions : ndarray of shape (n_points, n_components)
        A copy in the user's order; made when it is asked for.
    gradient_norm : float
        Euclidean norm of the gradient at these positions, with exaggeration; computed when it is asked for.

    Notes
    -----
    It looks at the embedding itself: what is not asked for during the callback is gone after it.
    """

    def __init__(self, embedding: Embedding, sum_q: float) -> None:
        self._embedding, self._sum_q = embedding, sum_q
        self.iteration = embedding.n_iter
        rates = embedding._rates
        self.exaggeration, self.learning_rate, self.momentum = rates.exaggeration, rates.learning_rate, rates.momentum

    @property
    def loss(self) -> Decomposition:
        """The loss of the true P."""
        return self._embedding._record_loss(self._sum_q)

    @property
    def positions(self) -> FloatArray:
        """The positions, centred, in the user's order."""
        return self._embedding.positions

    @property
    def gradient_norm(self) -> float:
        """The norm of 4 (exaggeration * attraction - repulsion / Z)."""
        attracted, repelled = self._embedding._attraction, self._embedding._repelled
        return 4 * float(np.linalg.norm(self.exaggeration * attracted - repelled / self._sum_q))


class Embedding:
    """Positions of points, their P, and the state of the descent.

    Parameters
    ----------
    P : Affinities, sparse matrix, sparse array or array-like of shape (n_points, n_points)
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
        The trace of the loss: of the true P, without exaggeration, every 50 iterations, wherever else it was
        looked at, and at the end of every call of `optimize`.
    stop_reason : str
        Why the last call of `optimize` ended: "iterations" (all of them ran), "tol", "n_iter_without_progress",
        "min_grad_norm", "callback" or "interrupt"; "" before the first.

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
        self._options: dict[str, Any] = {
            "method": method, "theta": check_real(theta, "theta", low=0, high=1),
            "tolerance": check_tolerance(tolerance), "dof": self._dof,
        }  # fmt: skip
        self._repulsion = make_repulsion(start.shape, start.dtype, n_threads=self._n_threads, **self._options)
        P = P.P if isinstance(P, Affinities) else P
        self._affinities = check_affinities(P, n_points, start.dtype, "P")
        self._entropy = entropy_of(self._affinities[0])
        self._order = np.arange(n_points, dtype=np.int32)
        sorts = n_points > EXACT_POINTS and n_components <= 3
        self._z_order = ZOrder(start.shape, start.dtype, self._n_threads) if sorts else None
        self._positions = start.copy()
        self._velocity = np.zeros_like(start)
        self._gains = np.ones_like(start)
        self._centre = np.zeros(n_components)
        self._attraction = np.empty_like(start)
        self._repelled = np.empty_like(start)
        self._rates = Rates()
        self._block_sums = np.empty((-(-n_points // descent.BLOCK_POINTS), n_components + 1))
        self._row_sums = np.empty(-(-n_points // attraction.BLOCK_ROWS))
        self._loss: list[tuple[int, float, float, float]] = []
        self._measured = False  # whether the last record is of the forces as they are
        self.n_iter = 0
        self.stop_reason = ""

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
    def learning_rate(self) -> float:
        """The learning rate of the last iteration; 0 before the first."""
        return self._rates.learning_rate

    @property
    def loss(self) -> npt.NDArray[Any]:
        """The trace of the loss so far."""
        return np.array(self._loss, dtype=LOSS_DTYPE)

    def optimize(
        self,
        n_iter: int,
        *,
        exaggeration: Schedule = 1.0,
        learning_rate: Schedule | str = "auto",
        momentum: Schedule = 0.8,
        max_step: float = 5.0,
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
            Factor on P in the gradient. The loss that is recorded is always that of the true P.
            A callable is given the iteration, counted from the first one of the embedding, and returns the
            number: ``lambda i: max(1, 12 - 11 * i / 500)`` anneals. So for the next two.
        learning_rate : float > 0, callable or "auto", default "auto"
            ``"auto"`` is n_points / exaggeration (Belkina et al. 2019), at every iteration.
        momentum : float in [0, 1] or callable, default 0.8
            Share of the last step that is kept.
        max_step : float > 0, default 5
            Longest step of a point in one iteration.
        tol : float > 0, optional
            Stop when the KL divergence of the true P is at rest: over 50 iterations it has fallen by less than
            this share of itself, the gradient has not grown, and both have held for 50 iterations. See Notes.
        n_iter_without_progress : int >= 0, optional
            Stop when the KL divergence, looked at every 50 iterations, has had no new minimum for so many.
        min_grad_norm : float >= 0, default 0
            Stop when the Euclidean norm of the gradient, looked at every 50 iterations, is not above this and
            the map has left its first plateau.
        callback : callable, optional
            ``callback(state)`` with a `State` after every ``callback_every`` iterations of the embedding;
            a true value stops the descent.
        callback_every : int >= 1, default 50
            Iterations between two calls.
        progress : bool, default False
            A bar on standard error.

        Returns
        -------
        Embedding
            self, so that phases can be chained. Ctrl-C ends the call after the iteration that runs, with
            ``stop_reason = "interrupt"``, in the main thread; a second one raises KeyboardInterrupt.

        Notes
        -----
        A flat KL divergence is no sign of rest while a map is small: where all points are at one place, it is flat
        for as long as the map needs to unfold, and the gradient is near 0, the more so the more points there are.
        There Z is n (n - 1). Neither ``tol`` nor ``min_grad_norm`` ends a descent before Z has fallen by a tenth,
        nor does ``tol`` while the gradient grows, as it does wherever a map leaves a saddle.
        """
        last = self.n_iter + check_integer(n_iter, "n_iter", low=0)
        n_points = self.n_points
        exaggeration_at = _schedule(exaggeration, "exaggeration", open_low=True)
        momentum_at = _schedule(momentum, "momentum", high=1)
        if isinstance(learning_rate, str) and learning_rate == "auto":
            learning_rate_at = None
        else:
            learning_rate_at = _schedule(learning_rate, 'learning_rate (a number or "auto")', open_low=True)
        max_step = check_real(max_step, "max_step", low=0, open_low=True)
        callback_every = check_integer(callback_every, "callback_every", low=1)
        rules = _StopRules(n_points, tol, n_iter_without_progress, min_grad_norm)
        first, reason = self.n_iter, "iterations"
        with note_interrupts() as interrupted, _bar(n_iter, exaggeration, progress) as bar:
            while True:
                if self.n_iter < last and self.n_iter % CHECK_EVERY == 0:
                    self._sort_points()
                sum_q = self._evaluate_forces()
                if not sum_q > 0:
                    raise ArithmeticError(
                        f"the points are so far apart that Z = {sum_q} is all rounding after {self.n_iter} iterations;"
                        ' lower the learning rate or use method="exact"'
                    )
                due = self.n_iter > first and self.n_iter % callback_every == 0
                if due and callback is not None and callback(State(self, sum_q)):
                    last, reason = self.n_iter, "callback"
                check = self.n_iter % rules.every == 0
                if check or self.n_iter == last:
                    kl = self._record_loss(sum_q).kl_divergence
                    if bar is not None:
                        bar.set_postfix_str(f"KL {kl:.4f}", refresh=False)
                if self.n_iter == last:
                    break
                factor = exaggeration_at(self.n_iter)
                rate = n_points / factor if learning_rate_at is None else learning_rate_at(self.n_iter)
                self._rates = Rates(*map(float, (factor, 1 / sum_q, rate, momentum_at(self.n_iter), max_step)))
                gradient_norm = descent.descend(
                    self._positions, self._velocity, self._gains, self._attraction, self._repelled, self._rates,
                    self._centre, self._block_sums, self._n_descent_threads,
                )  # fmt: skip
                self.n_iter += 1
                if bar is not None:
                    bar.update()
                if check and (rule := rules.apply(self.n_iter, kl, sum_q, gradient_norm)):
                    last, reason = self.n_iter, rule
                if interrupted.is_set():
                    last, reason = self.n_iter, "interrupt"
        self.stop_reason = "interrupt" if interrupted.is_set() else reason
        return self

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write P, positions and the state of the descent as an npz without pickle.

        The file appears under its name only when it is complete. `load` goes on from it bit for bit, whenever it
        was written; a rule that stops, such as ``tol``, starts to count again with the next call of `optimize`.

        Parameters
        ----------
        path : str or path-like
            About 8 bytes for each non-zero of P, and 12 for each coordinate, in float32.
        """
        state = self._to_state()
        save_state(path, state.pop("header"), state, compress=False)

    def _to_state(self) -> dict[str, Any]:
        """Return everything as arrays in the user's order, and a header that JSON can hold."""
        rank = _inverse(self._order)
        values, columns, row_starts = self._permute(rank, self._order)
        header = {
            "format": FORMAT, "version": VERSION, "n_iter": self.n_iter, "stop_reason": self.stop_reason,
            "options": self._options,
        }  # fmt: skip
        loss = np.array([row[1:] for row in self._loss], dtype=float).reshape(-1, 3)
        return {
            "header": header, "values": values, "columns": columns, "row_starts": row_starts, "order": self._order,
            "positions": self._positions[rank], "velocity": self._velocity[rank], "gains": self._gains[rank],
            "centre": self._centre, "rates": np.array(self._rates), "grid": np.array(get_grid(self._repulsion)),
            "loss_iterations": np.array([row[0] for row in self._loss], dtype=np.int64), "loss": loss,
        }  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        return self._to_state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = self._from_state(dict(state), None).__dict__

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, n_threads: int | None = None) -> Embedding:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or path-like
            The file.
        n_threads : int, optional
            Default: all. The bits of what follows do not depend on it.

        Raises
        ------
        ValueError
            For a file that is damaged, truncated, of another version or no embedding at all.
        """
        try:
            return cls._from_state(load_state(path), n_threads)
        except (TypeError, ValueError, OverflowError, MemoryError) as error:
            raise ValueError(f"cannot load {os.fspath(path)!r}: {error}") from None

    @classmethod
    def _from_state(cls, state: dict[str, Any], n_threads: int | None) -> Embedding:
        header: Any = state.pop("header")
        keys = {"format", "version", "n_iter", "stop_reason", "options"}
        if not isinstance(header, dict) or set(header) != keys:
            raise ValueError(f"its header must have the keys {sorted(keys)}")
        if (header["format"], header["version"]) != (FORMAT, VERSION):
            raise ValueError(f"it must be {FORMAT} version {VERSION}, got {header['format']} {header['version']}")
        arrays: Arrays = state
        if not isinstance(header["options"], dict) or not isinstance(header["stop_reason"], str):
            raise ValueError("its header must hold options and a reason")
        dtype = str(arrays["positions"].dtype) if "positions" in arrays else ""
        if dtype not in ("float32", "float64"):
            raise ValueError(f"its positions must be float32 or float64, got {dtype}")
        positions = take(arrays, "positions", dtype, (None, None))
        n_points, n_components = positions.shape
        row_starts = take(arrays, "row_starts", "int64", (n_points + 1,))
        columns = take(arrays, "columns", "int32", (None,))
        values = take(arrays, "values", dtype, (len(columns),))
        if row_starts[0] != 0 or row_starts[-1] != len(columns) or (np.diff(row_starts) < 0).any():
            raise ValueError("its rows of P must follow each other and end with its values")
        if len(columns) and (columns.min() < 0 or columns.max() >= n_points):
            raise ValueError(f"its columns of P must be in [0, {n_points})")
        P = sparse.csr_array((values, columns, row_starts), shape=(n_points, n_points))
        new = cls(P, positions, n_threads=n_threads, **header["options"])
        order = take(arrays, "order", "int32", (n_points,))
        if not np.array_equal(np.sort(order), np.arange(n_points)):
            raise ValueError("its order must be a permutation of the points")
        new._affinities = new._permute(order, _inverse(order))
        new._order, new._positions = order, positions[order]
        shape = (n_points, n_components)
        new._velocity = take(arrays, "velocity", dtype, shape)[order]
        new._gains = take(arrays, "gains", dtype, shape)[order]
        new._centre = take(arrays, "centre", "float64", (n_components,))
        rates = take(arrays, "rates", "float64", (5,))
        grid = take(arrays, "grid", "float64", (None,))
        iterations = take(arrays, "loss_iterations", "int64", (None,))
        loss = take(arrays, "loss", "float64", (len(iterations), 3))
        refuse_rest(arrays)
        for name, array in (("velocity", new._velocity), ("gains", new._gains), ("centre", new._centre),
                            ("rates", rates), ("grid", grid), ("loss", loss)):  # fmt: skip
            if not (np.abs(array) <= 1e37).all():
                raise ValueError(f"its {name} must be finite and at most 1e37 in magnitude")
        new._rates = Rates(*rates.tolist())
        new.n_iter = check_integer(header["n_iter"], "n_iter", low=0)
        if new.n_iter >= 2**62:
            raise ValueError(f"its n_iter must be less than 2**62, got {new.n_iter}")
        if len(iterations) and not (iterations[0] >= 0 and (np.diff(iterations) > 0).all()
                                    and iterations[-1] <= new.n_iter):  # fmt: skip
            raise ValueError(f"its trace of the loss must have growing iterations up to {new.n_iter}")
        set_grid(new._repulsion, grid.tolist())
        new._loss = [(i, *row) for i, row in zip(iterations.tolist(), loss.tolist(), strict=True)]
        new.stop_reason = header["stop_reason"]
        return new

    def _evaluate_forces(self) -> float:
        self._measured = False
        attraction.accumulate_attraction(
            *self._affinities, self._positions, self._dof, self._attraction, self._n_threads
        )
        return self._repulsion(self._positions, self._repelled)

    def _record_loss(self, sum_q: float) -> Decomposition:
        if self._measured:
            return Decomposition(*self._loss[-1][1:])
        if self._loss and self._loss[-1][0] == self.n_iter:
            self._loss.pop()  # of a call that ended here: points may have been sorted since, and sums rounded anew
        log_affinity = attraction.sum_log_affinity(
            *self._affinities, self._positions, self._dof, self._row_sums, self._n_threads
        )
        loss = loss_of(self._entropy, log_affinity, sum_q)
        self._loss.append((self.n_iter, loss.entropy, loss.cross_entropy, loss.kl_divergence))
        self._measured = True
        return loss

    def _sort_points(self) -> None:
        """Bring points, P and the state of the descent into Z-order."""
        if self._z_order is None:
            return  # so few points that they are all near in memory
        order = self._z_order(self._positions)
        self._affinities = self._permute(order, _inverse(order))
        self._order = self._order[order]
        for name in ("_positions", "_velocity", "_gains"):
            setattr(self, name, getattr(self, name)[order])

    def _permute(self, order: npt.NDArray[np.int32], rank: npt.NDArray[np.int32]) -> Any:
        """Return P with its rows and columns in another order; ``rank`` is the inverse of ``order``."""
        values, columns, row_starts = self._affinities
        permuted = np.empty_like(values), np.empty_like(columns), np.empty_like(row_starts)
        attraction.permute_rows(*self._affinities, order, rank, *permuted, self._n_threads)
        return permuted


def _inverse(order: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order), dtype=order.dtype)
    return rank


def _schedule(value: Any, name: str, *, high: float = math.inf, open_low: bool = False) -> Callable[[int], float]:
    """Return the number of each iteration, checked: now if it is one number, else when it is asked for."""
    if callable(value):
        return lambda iteration: check_real(
            value(iteration), f"{name} of iteration {iteration}", low=0, high=high, open_low=open_low
        )
    number = check_real(value, name, low=0, high=high, open_low=open_low)
    return lambda iteration: number


class _StopRules:
    """When one call of `Embedding.optimize` ends before its iterations do."""

    WINDOW = 50
    """Iterations over which progress is measured, and for which rest must last."""

    GROWTH = 1.5
    """A gradient that grows more than this in a window is leaving a saddle: it grows exponentially there."""

    PLATEAU = 0.9
    """Share of n (n - 1), Z where all points coincide: above it, the map has not unfolded. The KL divergence of
    coinciding points is no such mark: exaggerated maps of data without clusters stay near it, unfolded or not."""

    def __init__(
        self, n_points: int, tol: float | None, n_iter_without_progress: int | None, min_grad_norm: float
    ) -> None:
        self.tol = None if tol is None else check_real(tol, "tol", low=0, open_low=True)
        self.patience = n_iter_without_progress
        if self.patience is not None:
            self.patience = check_integer(self.patience, "n_iter_without_progress", low=0)
        self.min_grad_norm = check_real(min_grad_norm, "min_grad_norm", low=0)
        self.every = CHECK_EVERY if tol is None else REST_EVERY
        self.plateau = self.PLATEAU * n_points * (n_points - 1)
        self.best_kl, self.best_iteration = math.inf, -1
        self.records: list[tuple[int, float, float]] = []
        self.restless = -1

    def apply(self, iteration: int, kl: float, sum_q: float, gradient_norm: float) -> str:
        """Return the name of the rule that ends the descent, or "" where none does."""
        if self.restless < 0:
            self.restless = iteration
        if kl < self.best_kl:
            self.best_kl, self.best_iteration = kl, iteration
        if self.patience is not None and iteration - self.best_iteration > self.patience:
            return "n_iter_without_progress"
        unfolded = sum_q < self.plateau
        if unfolded and gradient_norm <= self.min_grad_norm:
            return "min_grad_norm"
        if self.tol is None:
            return ""
        self.records.append((iteration, kl, gradient_norm))
        while len(self.records) > 1 and self.records[1][0] <= iteration - self.WINDOW:
            self.records.pop(0)
        before, kl_before, norm_before = self.records[0]
        at_rest = (
            unfolded
            and before <= iteration - self.WINDOW
            and kl_before - kl < self.tol * kl
            and gradient_norm <= self.GROWTH * norm_before
        )
        if not at_rest:
            self.restless = iteration
        return "tol" if iteration - self.restless >= self.WINDOW else ""


def _bar(total: int, exaggeration: object, show: bool) -> Any:
    """Return a progress bar over iterations as a context, or one that gives None."""
    if not show:
        return nullcontext()
    from tqdm.auto import tqdm

    phase = "" if callable(exaggeration) or exaggeration == 1 else f", exaggeration {exaggeration:g}"
    return tqdm(total=total, desc=f"t-SNE{phase}", unit="it")

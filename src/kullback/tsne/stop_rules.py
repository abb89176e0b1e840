"""Rules that end a descent before all of its iterations have run."""

from __future__ import annotations

import math
from typing import NamedTuple

from .._checks.scalars import check_integer, check_real

CHECK_EVERY = 50
"""Iterations between two records of the loss, as in scikit-learn, and between two sorts of the points."""

TOLERANCE_CHECK_EVERY = 10
"""Iterations between two records of the loss when ``tol`` is set. A record costs about as much as one attraction."""

WINDOW = 50
"""Iterations over which progress is measured, and for which the descent must then be at rest."""

SADDLE_GROWTH = 1.5
"""If the gradient grows by more than this factor in a window, the map is leaving a saddle, where it grows
exponentially."""

UNFOLDED = 0.9
"""A map has unfolded when Z is below this share of n (n - 1), which is its value if all points coincide.

The KL divergence of coinciding points would not serve as such a mark: an exaggerated map of data without clusters
stays near it, whether the map has unfolded or not."""


class Record(NamedTuple):
    """What the rules look at after one iteration."""

    iteration: int
    kl: float
    gradient_norm: float


class StopRules:
    """The rules of one call of `Embedding.optimize`.

    Parameters
    ----------
    n_pairs : float
        Number of ordered pairs of points, n (n - 1), which is Z if all points coincide.
    tol, n_iter_without_progress, min_grad_norm
        As in `Embedding.optimize`.

    Attributes
    ----------
    every : int
        The rules are to be applied every so many iterations.
    """

    def __init__(
        self, n_pairs: float, tol: float | None, n_iter_without_progress: int | None, min_grad_norm: float
    ) -> None:
        self.tol = None if tol is None else check_real(tol, "tol", low=0, open_low=True)
        self.patience = n_iter_without_progress
        if self.patience is not None:
            self.patience = check_integer(self.patience, "n_iter_without_progress", low=0)
        self.min_grad_norm = check_real(min_grad_norm, "min_grad_norm", low=0)
        self.every = CHECK_EVERY if tol is None else TOLERANCE_CHECK_EVERY
        self.largest_unfolded_sum_q = UNFOLDED * n_pairs
        self.best_kl, self.best_iteration = math.inf, -1
        self.window: list[Record] = []
        self.last_unrest = -1

    def apply(self, iteration: int, kl: float, sum_q: float, gradient_norm: float) -> str:
        """Return the name of the rule that ends the descent, or "" if none does.

        Parameters
        ----------
        iteration : int
            Iterations so far.
        kl : float
            KL divergence of the true P, in nats.
        sum_q : float
            Z.
        gradient_norm : float
            Euclidean norm of the gradient.
        """
        if self.last_unrest < 0:
            self.last_unrest = iteration
        if kl < self.best_kl:
            self.best_kl, self.best_iteration = kl, iteration
        if self.patience is not None and iteration - self.best_iteration > self.patience:
            return "n_iter_without_progress"
        unfolded = sum_q < self.largest_unfolded_sum_q
        if unfolded and gradient_norm <= self.min_grad_norm:
            return "min_grad_norm"
        if self.tol is None:
            return ""
        if not (self._is_level(Record(iteration, kl, gradient_norm), self.tol) and unfolded):
            self.last_unrest = iteration
        return "tol" if iteration - self.last_unrest >= WINDOW else ""

    def _is_level(self, now: Record, tol: float) -> bool:
        """Return whether KL has hardly fallen in the last window, and the gradient has not grown."""
        self.window.append(now)
        while len(self.window) > 1 and self.window[1].iteration <= now.iteration - WINDOW:
            self.window.pop(0)
        before = self.window[0]
        return (
            before.iteration <= now.iteration - WINDOW
            and before.kl - now.kl < tol * now.kl
            and now.gradient_norm <= SADDLE_GROWTH * before.gradient_norm
        )

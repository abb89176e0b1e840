"""Schedules: the numbers that each iteration of the descent is taken with.

The exaggeration, the learning rate and the momentum may each be one number or a function of the iteration.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .._checks.scalars import check_real
from .rates import Rates

Schedule = float | Callable[[int], float]
"""A number, or a function of the iteration. Iterations are counted from the first one of the embedding."""


class Schedules:
    """The exaggeration, the learning rate and the momentum of every iteration.

    Parameters
    ----------
    n_points : float
        Number of points, on which the automatic learning rate depends. Where points have masses, it is their sum.
    exaggeration : float > 0 or callable
        Factor on P in the gradient.
    learning_rate : float > 0, callable or "auto"
        ``"auto"`` is n_points / exaggeration, which Belkina et al. (2019) recommend.
    momentum : float in [0, 1] or callable
        Share of the last step that is kept.
    max_step : float > 0
        Largest distance that a point moves in one iteration.

    Raises
    ------
    ValueError, TypeError
        If a number is out of its range. The values of a function are checked when it is asked for them.
    """

    def __init__(
        self,
        n_points: float,
        exaggeration: Schedule,
        learning_rate: Schedule | str,
        momentum: Schedule,
        max_step: float,
    ) -> None:
        self._n_points = n_points
        self._exaggeration_at = _check_schedule(exaggeration, "exaggeration", open_low=True)
        self._momentum_at = _check_schedule(momentum, "momentum", high=1)
        self._learning_rate_at: Callable[[int], float] | None = None
        if not (isinstance(learning_rate, str) and learning_rate == "auto"):
            name = 'learning_rate (a number or "auto")'
            self._learning_rate_at = _check_schedule(learning_rate, name, open_low=True)
        self._max_step = check_real(max_step, "max_step", low=0, open_low=True)

    def rates(self, iteration: int, sum_q: float) -> Rates:
        """Return the rates of one iteration at whose positions Z is ``sum_q``. Each function is asked once."""
        exaggeration = self._exaggeration_at(iteration)
        if self._learning_rate_at is None:
            learning_rate = self._n_points / exaggeration
        else:
            learning_rate = self._learning_rate_at(iteration)
        return Rates(exaggeration, 1 / sum_q, learning_rate, self._momentum_at(iteration), self._max_step)


def _check_schedule(value: Any, name: str, *, high: float = math.inf, open_low: bool = False) -> Callable[[int], float]:
    """Return a function that gives the number of each iteration.

    A number is checked at once. What a function returns is checked at every iteration.
    """
    if callable(value):
        return lambda iteration: check_real(
            value(iteration), f"{name} of iteration {iteration}", low=0, high=high, open_low=open_low
        )
    number = check_real(value, name, low=0, high=high, open_low=open_low)
    return lambda iteration: number

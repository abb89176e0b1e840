"""Schedules: the numbers that each iteration of the descent is taken with.

The exaggeration, the learning rate and the momentum may each be one number or a function of the iteration.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._checks.scalars import check_real
from .affinity_choice import fewest_neighbors
from .rates import Rates

if TYPE_CHECKING:
    from .estimator import TSNE

Schedule = float | Callable[[int], float]
"""A number, or a function of the iteration. Iterations are counted from the first one of the embedding."""

CLASSIC_MOMENTUM = 0.8
"""The momentum of scikit-learn, openTSNE and others, after the early exaggeration of van der Maaten's program."""

CLASSIC_EXPLORATION_ITER = 250
"""Iterations of a constant early exaggeration, as in these."""

CLASSIC_GAINS = (0.2, 0.8)
"""How gains change: Jacobs (1988), as in van der Maaten and Hinton (2008)."""

EXPLORATION_TOL = 0.05
"""With ``early_exaggeration_iter="auto"``, exaggeration ends when KL falls by less than this share in 50 iterations."""

# The annealed descent, which devel/descent.md compares with others on sets of many kinds.
ANNEALING_ITER = 120
"""Iterations in which the exaggeration falls, if they are at most ANNEALING_SHARE of ``max_iter``."""
ANNEALING_SHARE = 0.4
ANNEALING_MOMENTUM, ANNEALED_MOMENTUM = 0.7, 0.95
"""While the exaggeration falls, and after that."""
GENTLE_POINTS, GENTLE_GAINS = 10_000, (0.1, 0.95)
"""How gains change in the descent of fewer points than this, whose maps the classic gains may fold."""
FEW_POINTS, FEW_NEIGHBORS, LARGEST_RATE_DIVISOR = 500, 8, 4.0
"""Below so many points, or so small a perplexity, forces are steep. The automatic learning rate is then divided, at
most by the last number: see `rate_divisor`."""
ANNEALED_TOL = 0.02
"""The map is at rest when KL falls by less than this share of itself in 50 iterations, for 50 iterations."""


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
    gains : pair of float
        How the gains of coordinates change: see `Rates`.

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
        gains: tuple[float, float] = CLASSIC_GAINS,
    ) -> None:
        self._n_points = n_points
        self._exaggeration_at = _check_schedule(exaggeration, "exaggeration", open_low=True)
        self._momentum_at = _check_schedule(momentum, "momentum", high=1)
        self._learning_rate_at: Callable[[int], float] | None = None
        if not is_auto(learning_rate):
            name = 'learning_rate (a number or "auto")'
            self._learning_rate_at = _check_schedule(learning_rate, name, open_low=True)
        self._max_step = check_real(max_step, "max_step", low=0, open_low=True)
        self._gains = check_gains(gains)

    def rates(self, iteration: int, sum_q: float) -> Rates:
        """Return the rates of one iteration at whose positions Z is ``sum_q``. Each function is asked once."""
        exaggeration = self._exaggeration_at(iteration)
        if self._learning_rate_at is None:
            learning_rate = self._n_points / exaggeration
        else:
            learning_rate = self._learning_rate_at(iteration)
        return Rates(exaggeration, 1 / sum_q, learning_rate, self._momentum_at(iteration), self._max_step, *self._gains)


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


def is_auto(value: Any) -> bool:
    """Whether an option is the word "auto"."""
    return isinstance(value, str) and value == "auto"


def resolve_auto(value: Any, default: Any) -> Any:
    """Return an option, or the default in place of the word "auto"."""
    return default if is_auto(value) else value


def check_gains(gains: Any) -> tuple[float, float]:
    """Return what a gain grows by and what it is multiplied by, as floats."""
    if not (isinstance(gains, tuple | list) and len(gains) == 2):
        raise TypeError(f"gains must be a pair of numbers, what a gain grows by and is multiplied by, got {gains!r}")
    return check_real(gains[0], "gains[0]", low=0), check_real(gains[1], "gains[1]", low=0, high=1, open_low=True)


def descent_phases(model: TSNE, n_rows: float) -> list[tuple[int, dict[str, Any]]]:
    """Return the calls of `Embedding.optimize` that make a fit: the iteration to which each goes, and its options.

    ``n_rows`` is the number of points, or their total mass.
    """
    early, first, last = model.early_exaggeration_iter, dict[str, Any](), dict[str, Any]()
    if early == "anneal":
        end = min(ANNEALING_ITER, round(ANNEALING_SHARE * model.max_iter))
        first["exaggeration"] = anneal(model.early_exaggeration, model.exaggeration, end)
        first["momentum"] = resolve_auto(model.momentum, ANNEALING_MOMENTUM)
        last["momentum"] = resolve_auto(model.momentum, ANNEALED_MOMENTUM)
        first["gains"] = last["gains"] = GENTLE_GAINS if n_rows < GENTLE_POINTS else CLASSIC_GAINS
        last["tol"] = resolve_auto(model.tol, ANNEALED_TOL)
        if is_auto(model.learning_rate):
            for options in (first, last):
                falling = options.get("exaggeration", model.exaggeration)
                options["learning_rate"] = divided_rate(n_rows / rate_divisor(model, n_rows), falling)
    else:
        end = model.max_iter // 2 if early == "auto" else min(int(early), model.max_iter)
        first["exaggeration"] = model.early_exaggeration
        first["momentum"] = last["momentum"] = resolve_auto(model.momentum, CLASSIC_MOMENTUM)
        first["tol"] = EXPLORATION_TOL if early == "auto" else None
        last["tol"] = resolve_auto(model.tol, None)
    for options in (first, last):
        options.setdefault("learning_rate", model.learning_rate)
    last |= {"exaggeration": model.exaggeration, "n_iter_without_progress": max(0, model.n_iter_without_progress)}
    return [(end, first), (model.max_iter, last)]


def rate_divisor(model: TSNE, n_rows: float) -> float:
    """Return what the automatic learning rate of an annealed descent is divided by.

    At a momentum of 0.95, n / exaggeration is too much where forces are steep, and maps fly apart: where a point is
    drawn by few others, where there are few points, whose map stays dense, and where the kernel has light tails.
    """
    steep = max(1.0, model.dof) * (2 if fewest_neighbors(model) < FEW_NEIGHBORS else 1)
    return LARGEST_RATE_DIVISOR if n_rows < FEW_POINTS else min(steep, LARGEST_RATE_DIVISOR)


def divided_rate(n_rows: float, exaggeration: Schedule) -> Callable[[int], float]:
    """Return the learning rate n_rows / exaggeration of each iteration."""
    return lambda iteration: n_rows / (exaggeration(iteration) if callable(exaggeration) else exaggeration)


def anneal(early: float, late: Schedule, n_iter: int) -> Callable[[int], float]:
    """Return an exaggeration that falls in a straight line from ``early`` to ``late`` in ``n_iter`` iterations."""

    def exaggeration(iteration: int) -> float:
        end = late(iteration) if callable(late) else late
        return early + (end - early) * min(1.0, iteration / max(1, n_iter))

    return exaggeration

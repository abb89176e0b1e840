"""Statistics over rows in NumPy and fractions: every value is kept, every sum is exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .measures import cross_entropy, entropy, kl_divergence


class RowStatistics(NamedTuple):
    """Count, mean and standard error over rows."""

    n_rows: int
    mean: float
    standard_error: float


class RowDivergence:
    """The twin of ``kullback.streaming.RowDivergence`` for finite rows without weights."""

    def __init__(self, measures: Sequence[str] = ("kl",)) -> None:
        self.values: dict[str, list[float]] = {measure: [] for measure in measures}

    def update(self, p: npt.ArrayLike, q: npt.ArrayLike) -> None:
        """Append the value of every row."""
        functions = {
            "kl": lambda: kl_divergence(p, q, normalize=True),
            "cross_entropy": lambda: cross_entropy(p, q, normalize=True),
            "entropy_p": lambda: entropy(p, normalize=True),
        }
        for measure, values in self.values.items():
            values.extend(np.atleast_1d(functions[measure]()).tolist())

    def merge(self, other: RowDivergence) -> None:
        """Append the rows of another."""
        for measure, values in self.values.items():
            values.extend(other.values[measure])

    def result(self) -> dict[str, RowStatistics]:
        """Return mean = sum d / n and standard error = sqrt(sum (d - mean)^2 / (n (n - 1)))."""
        statistics = {}
        for measure, values in self.values.items():
            rows = [Fraction(value) for value in values]
            n = len(rows)
            mean = sum(rows) / n if n else math.nan
            error = math.sqrt(sum((row - mean) ** 2 for row in rows) / (n * (n - 1))) if n > 1 else math.nan
            statistics[measure] = RowStatistics(n, float(mean), error)
        return statistics

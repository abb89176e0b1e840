"""What the accumulators of rows return."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ._labels import Label


@dataclass(frozen=True)
class RowStatistics:
    """Statistics of one measure over rows.

    Attributes
    ----------
    n_rows
        Rows in the statistics: all but those that are ``n_nonfinite`` or have weight 0.
    n_zero, n_infinite
        How many of them are exactly 0, and how many are infinite (p > 0 where q = 0).
    n_nonfinite
        Rows that were left out because their value is not a number, which is a sign of bad input.
    total_weight
        Sum of the weights of the finite rows, or their number where no weights were given.
    mean
        Mean of the rows. It is infinite as soon as one row is, and NaN without rows.
    mean_finite
        Mean of the finite rows alone.
    standard_deviation
        Standard deviation of the finite rows, with ``n - 1``; with weights it is ``standard_error`` times the
        root of n.
    standard_error
        Standard error of ``mean_finite``; NaN for fewer than two finite rows, and where ``mean`` is infinite.
    min, max
        Smallest and largest value of all ``n_rows``, infinite ones included.
    quantiles
        Probability to value, infinite rows included; see ``RowDivergence``.
    """

    n_rows: int
    n_zero: int
    n_infinite: int
    n_nonfinite: int
    total_weight: float
    mean: float
    mean_finite: float
    standard_deviation: float
    standard_error: float
    min: float
    max: float
    quantiles: dict[float, float]

    @property
    def zero_share(self) -> float:
        """Share of the rows whose value is exactly 0."""
        return self.n_zero / self.n_rows if self.n_rows else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain Python objects."""
        return {**asdict(self), "zero_share": self.zero_share}


@dataclass(frozen=True, repr=False)
class RowResult(Mapping[str, RowStatistics]):
    """What ``RowDivergence.result`` returns: ``result["kl"].mean`` or ``result.kl.mean``.

    Attributes
    ----------
    measures
        Measure to its statistics over all rows.
    groups
        Group label to measure to statistics, sorted by label; None without groups.
    """

    measures: dict[str, RowStatistics]
    groups: dict[Label, dict[str, RowStatistics]] | None = None

    def __getitem__(self, measure: str) -> RowStatistics:
        return self.measures[measure]

    def __iter__(self) -> Iterator[str]:
        return iter(self.measures)

    def __len__(self) -> int:
        return len(self.measures)

    def __getattr__(self, name: str) -> RowStatistics:
        if not name.startswith("_") and name in self.measures:
            return self.measures[name]
        raise AttributeError(f"no measure {name!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain dicts."""
        measures = {name: statistics.to_dict() for name, statistics in self.measures.items()}
        if self.groups is None:
            return {"measures": measures}
        groups = {
            label: {name: statistics.to_dict() for name, statistics in group.items()}
            for label, group in self.groups.items()
        }
        return {"measures": measures, "groups": groups}

    def __repr__(self) -> str:
        lines = [f"RowResult: {len(self.measures)} measure(s)"]
        for name, row in self.measures.items():
            lines.append(
                f"  {name}: {row.mean:.6g} +- {row.standard_error:.2g} over {row.n_rows} rows"
                f" (min {row.min:.6g}, max {row.max:.6g}, {row.n_zero} zero,"
                f" {row.n_infinite} infinite, {row.n_nonfinite} not a number)"
            )
            if row.quantiles:
                lines.append("    quantiles: " + ", ".join(f"{p:g}: {value:.6g}" for p, value in row.quantiles.items()))
        if self.groups is not None:
            lines.append(f"  {len(self.groups)} group(s)")
        return "\n".join(lines)

"""What ``HistogramDivergence`` returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class HistogramResult(Mapping[str, Values]):
    """What ``HistogramDivergence.result`` returns; ``result["psi"]`` has one value per feature.

    Attributes
    ----------
    measures
        Measure to values, of shape ``(..., n_features)``; NaN where a side has no counts.
    corrected
        Measure to values less the first-order (Miller-Madow) bias of finite samples; ``compare`` leaves it
        empty. Total variation, which has kinks, has no such bias.
    standard_errors
        Measure to standard errors by the delta method, for which both sides are samples; ``compare`` leaves
        it empty.
    n_p, n_q
        How many values were counted on each side, without the missing ones.
    missing_p, missing_q
        How many values were NaN.
    """

    measures: dict[str, Values]
    corrected: dict[str, Values] = field(default_factory=dict)
    standard_errors: dict[str, Values] = field(default_factory=dict)
    n_p: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    n_q: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    missing_p: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    missing_q: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def __getitem__(self, measure: str) -> Values:
        return self.measures[measure]

    def __iter__(self) -> Iterator[str]:
        return iter(self.measures)

    def __len__(self) -> int:
        return len(self.measures)

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain dicts and lists."""
        return {
            **{
                name: {measure: values.tolist() for measure, values in getattr(self, name).items()}
                for name in ("measures", "corrected", "standard_errors")
            },
            **{name: getattr(self, name).tolist() for name in ("n_p", "n_q", "missing_p", "missing_q")},
        }

    def __repr__(self) -> str:
        shape = next(iter(self.measures.values())).shape
        lines = [f"HistogramResult: {len(self.measures)} measure(s), shape {shape}"]
        for name, values in self.measures.items():
            worst = int(np.argmax(np.where(np.isnan(values), -1, values))) if values.size else 0
            spread = f"median {np.median(values):.6g}, largest {values.flat[worst]:.6g}" if values.size else ""
            lines.append(f"  {name}: {spread} at {np.unravel_index(worst, shape) if values.size else ()}")
        return "\n".join(lines)

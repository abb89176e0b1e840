"""What ``SupportDivergence`` returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, repr=False)
class SupportResult(Mapping[str, float]):
    """What ``SupportDivergence.result`` returns: ``result["kl"]`` or ``result.kl``.

    Attributes
    ----------
    measures
        Measure to value.
    n_elements
        How many elements of the support were seen.
    sum_p, sum_q
        Sums of the probabilities; NaN for logits.
    """

    measures: dict[str, float]
    n_elements: int
    sum_p: float
    sum_q: float

    def __getitem__(self, measure: str) -> float:
        return self.measures[measure]

    def __iter__(self) -> Iterator[str]:
        return iter(self.measures)

    def __len__(self) -> int:
        return len(self.measures)

    def __getattr__(self, name: str) -> float:
        if not name.startswith("_") and name in self.measures:
            return self.measures[name]
        raise AttributeError(f"no measure {name!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts."""
        return {
            "measures": dict(self.measures),
            "n_elements": self.n_elements,
            "sum_p": self.sum_p,
            "sum_q": self.sum_q,
        }

    def __repr__(self) -> str:
        values = ", ".join(f"{name} {value:.6g}" for name, value in self.measures.items())
        return f"SupportResult: {values} over {self.n_elements} elements"

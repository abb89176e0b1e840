"""Accumulators that are updated from chunks, merged in any order, and kept as plain arrays.

There is one class for each quantity that is estimated:

- ``RowDivergence`` gives statistics over rows of per-row divergences;
- ``HistogramDivergence`` gives the divergence of accumulated counts, feature by feature;
- ``SupportDivergence`` gives the divergence of one pair of huge distributions that arrives along the support;
- ``PairedDivergence`` compares two candidates with one reference on the same rows.
"""

from .histogram import HistogramDivergence, HistogramResult
from .paired import PairedDivergence, PairedResult
from .row import RowDivergence, RowResult, RowStatistics, RowValues
from .support import SupportDivergence, SupportResult

__all__ = [
    "HistogramDivergence", "HistogramResult", "PairedDivergence", "PairedResult", "RowDivergence",
    "RowResult", "RowStatistics", "RowValues", "SupportDivergence", "SupportResult",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__

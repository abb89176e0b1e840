"""Accumulators that are updated from chunks, merged in any order, and kept as plain arrays.

There is one class for each quantity that is estimated:

- ``RowDivergence`` gives statistics over rows of per-row divergences;
- ``HistogramDivergence`` gives the divergence of accumulated counts, feature by feature;
- ``SupportDivergence`` gives the divergence of one pair of huge distributions that arrives along the support;
- ``PairedDivergence`` compares two candidates with one reference on the same rows.
"""

from ._histogram_result import HistogramResult
from ._support_result import SupportResult
from .histogram import HistogramDivergence
from .paired import PairedDivergence, PairedResult
from .row import RowDivergence, RowResult, RowStatistics, RowValues
from .support import SupportDivergence

__all__ = [
    "HistogramDivergence", "HistogramResult", "PairedDivergence", "PairedResult", "RowDivergence",
    "RowResult", "RowStatistics", "RowValues", "SupportDivergence", "SupportResult",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__

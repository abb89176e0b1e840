"""Accumulators that are updated from chunks, merged in any order, and kept as plain arrays."""

from .row import RowDivergence, RowResult, RowStatistics

__all__ = ["RowDivergence", "RowResult", "RowStatistics"]

"""Statistics over rows of values that were computed elsewhere, from chunks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks.arrays import as_numbers
from .._checks.labels import check_weights
from .._checks.scalars import check_flag, check_names, check_probabilities
from .._kernels import exact_sum as exact_sum_kernel
from .._states import Arrays, refuse_unknown, take
from ._buckets import BucketCounts
from ._exact import MAX_COUNT, MAX_PENDING, N_CHUNKS_PRODUCTS, is_canonical
from ._labels import Label, Labels
from ._row_result import RowResult, RowStatistics
from ._row_sums import (
    FINITE,
    INFINITE,
    N_COUNTS,
    N_SUMS,
    N_WEIGHTED_SUMS,
    NONFINITE,
    ZERO,
    check_consistent,
    summarise,
    with_weights,
)
from ._state import Accumulator

_NO_WEIGHTS = np.empty(0)
_NO_GROUPS = np.empty(0, np.int64)


class RowValues(Accumulator):
    """Statistics over rows of values that were computed elsewhere, from chunks.

    Parameters
    ----------
    measures
        Names of the values.
    quantiles, groups
        As for ``RowDivergence``, whose description also says how rows are counted.
    """

    _format = "kullback.streaming.RowValues"

    def __init__(
        self,
        measures: Sequence[str],
        *,
        quantiles: Sequence[float] | None = None,
        groups: bool = False,
    ) -> None:
        self.measures = check_names(measures, "measures")
        self.quantiles = check_probabilities(quantiles or (), "quantiles")
        self.groups = check_flag(groups, "groups")
        self._labels = Labels()
        self._weighted = False
        self._pending = 0
        self._buckets = BucketCounts() if self.quantiles else None
        self._allocate(0 if groups else 1)

    def _configuration(self) -> dict[str, Any]:
        return {"measures": list(self.measures), "quantiles": list(self.quantiles), "groups": self.groups}

    def _allocate(self, n_groups: int) -> None:
        """Make empty arrays. The statistic of measure m in group g is row g * n_measures + m of each."""
        n = n_groups * len(self.measures)
        n_sums = N_WEIGHTED_SUMS if self._weighted else N_SUMS
        self._sums = np.zeros((n, n_sums, N_CHUNKS_PRODUCTS), np.int64)
        self._counts = np.zeros((n, N_COUNTS), np.int64)
        self._extremes = np.tile([math.inf, -math.inf], (n, 1))

    # -- updating

    def update(
        self, values: Sequence[ArrayLike], weights: ArrayLike | None = None, group: ArrayLike | None = None
    ) -> Self:
        """Add rows, and return ``self``; an error leaves the accumulator as it was.

        Parameters
        ----------
        values
            One array for each of the measures, of one value per row.
        weights, group
            As for ``RowDivergence.update``.
        """
        arrays = [np.ascontiguousarray(as_numbers(value, "values"), np.float64).reshape(-1) for value in values]
        if len(arrays) != len(self.measures) or len({len(array) for array in arrays}) != 1:
            raise ValueError(f"values must be {len(self.measures)} arrays of equal length, got {[*map(len, arrays)]}")
        return self._add(arrays, weights, group)

    def _add(self, values: list[NDArray[np.float64]], weights: ArrayLike | None, group: ArrayLike | None) -> Self:
        """Add rows whose values are contiguous float64."""
        n_rows = len(values[0])
        row_weights = _NO_WEIGHTS if weights is None else check_weights(weights, "weights", n_rows)
        rows = _NO_GROUPS
        if self.groups or group is not None:
            rows = self._labels.rows(group, n_rows, expected=self.groups)
            self._make_room()
        if weights is not None and not self._weighted:
            self._carry()
            self._start_weights()
        if self._pending + n_rows > MAX_PENDING:
            self._carry()
        self._pending += n_rows
        n_measures = len(values)
        for measure in range(n_measures):
            exact_sum_kernel.accumulate_rows(
                values[measure],
                row_weights,
                rows,
                n_measures,
                measure,
                self._sums,
                self._counts,
                self._extremes,
            )
        if self._buckets is not None:
            self._count_buckets(self._buckets, values, row_weights, rows)
        return self

    def _count_buckets(
        self, buckets: BucketCounts, values: list[NDArray[np.float64]],
        weights: NDArray[np.float64], rows: NDArray[np.int64],
    ) -> None:  # fmt: skip
        """Count the values for the quantiles; NaN and rows of weight 0 are left out."""
        for measure, row_values in enumerate(values):
            keep = ~np.isnan(row_values)
            if len(weights):
                keep &= weights != 0
            statistics = rows[keep] * len(values) + measure if len(rows) else measure
            buckets.add(row_values[keep], statistics)

    def _make_room(self) -> None:
        """Grow the arrays to the number of labels, and at least to twice their length."""
        if self.groups and len(self._labels) * len(self.measures) > len(self._counts):
            old = self._sums, self._counts, self._extremes
            self._allocate(max(2 * len(self._counts) // len(self.measures), len(self._labels)))
            for array, before in zip((self._sums, self._counts, self._extremes), old, strict=True):
                array[: len(before)] = before

    def _start_weights(self) -> None:
        """Keep sums of weights from now on; the sums must be carried."""
        self._sums = with_weights(self._sums, self._counts)
        self._weighted = True

    def _carry(self) -> None:
        """Bring all sums into canonical form."""
        exact_sum_kernel.carry(self._sums.reshape(-1, N_CHUNKS_PRODUCTS))
        self._pending = 0

    # -- merging and states

    def _fold(self, other: Self) -> None:
        self._labels.refuse_other_kind(other._labels)
        if other is self:
            other = self.copy()
        n_theirs = other._n_statistics()
        self._carry()
        other._carry()
        if other._weighted and not self._weighted:
            self._start_weights()
        rows = self._statistics_of(self._labels.fold(other._labels))
        self._make_room()
        theirs = other._sums
        if self._weighted and not other._weighted:
            theirs = with_weights(theirs, other._counts)
        self._sums[rows] += theirs[:n_theirs]
        self._counts[rows] += other._counts[:n_theirs]
        self._extremes[rows, 0] = np.minimum(self._extremes[rows, 0], other._extremes[:n_theirs, 0])
        self._extremes[rows, 1] = np.maximum(self._extremes[rows, 1], other._extremes[:n_theirs, 1])
        self._carry()
        if self._buckets is not None and other._buckets is not None:
            self._buckets.fold(other._buckets, rows)

    def _n_rows_seen(self) -> int:
        """Return how many rows were counted: NaN is included, rows of weight 0 are not."""
        return int(self._counts[:: len(self.measures), [FINITE, INFINITE, NONFINITE]].sum())

    def _n_statistics(self) -> int:
        """Return how many rows of the arrays are in use."""
        return (len(self._labels) if self.groups else 1) * len(self.measures)

    def _statistics_of(self, groups: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of the arrays that belong to these groups, in their order."""
        n_measures = len(self.measures)
        if not self.groups:
            return np.arange(n_measures)
        return (groups[:, None] * n_measures + np.arange(n_measures)).reshape(-1)

    def _export(self) -> Arrays:
        self._carry()
        order = self._statistics_of(self._labels.order())
        arrays: Arrays = {
            "sums": self._sums[order],
            "counts": self._counts[order],
            "extremes": self._extremes[order] + 0.0,  # which turns -0 into 0, as equal data must have equal bits
        }
        if self.groups:
            arrays["labels"] = self._labels.export()
        if self._buckets is not None:
            arrays["bucket_keys"], arrays["bucket_counts"] = self._buckets.export(order)
        return arrays

    def _import(self, arrays: Arrays) -> None:
        if self.groups:
            kind = "U" if "labels" in arrays and arrays["labels"].dtype.kind == "U" else "int64"
            self._labels.adopt(take(arrays, "labels", kind, (None,)))
        n = self._n_statistics()
        sums = take(arrays, "sums", "int64", (n, None, N_CHUNKS_PRODUCTS))
        counts = take(arrays, "counts", "int64", (n, 4))
        extremes = take(arrays, "extremes", "float64", (n, 2))
        if sums.shape[1] not in (N_SUMS, N_WEIGHTED_SUMS):
            raise ValueError(f"the state must have 2 or 5 sums per statistic, got {sums.shape[1]}")
        if not ((counts >= 0) & (counts < MAX_COUNT)).all() or not (counts[:, ZERO] <= counts[:, FINITE]).all():
            raise ValueError("the state's counts must not be negative or 2^60, nor more rows be zero than there are")
        row_counts = counts[:, [FINITE, INFINITE, NONFINITE]].sum(1).reshape(-1, len(self.measures))
        if (row_counts != row_counts[:, :1]).any():
            raise ValueError("the state's measures must be of the same rows")
        if not is_canonical(sums):
            raise ValueError("the state's sums are not in canonical form")
        for statistic in range(n):
            check_consistent(sums[statistic], counts[statistic], extremes[statistic])
        if self._buckets is not None:
            keys = take(arrays, "bucket_keys", "int64", (None,))
            bucket_counts = take(arrays, "bucket_counts", "int64", keys.shape)
            self._buckets.adopt(keys, bucket_counts, counts[:, FINITE] + counts[:, INFINITE])
        refuse_unknown(arrays)
        self._weighted = sums.shape[1] == N_WEIGHTED_SUMS
        self._sums, self._counts, self._extremes = sums, counts, extremes

    # -- reading

    def result(self) -> RowResult:
        """Return the statistics of everything seen so far."""
        self._carry()
        if self._buckets is not None:
            self._buckets.flush()
        n = self._n_statistics()
        if not self.groups:
            return RowResult(self._statistics(self._sums[:n], self._counts[:n], self._extremes[:n], [0]))
        n_measures = len(self.measures)
        groups: dict[Label, dict[str, RowStatistics]] = {}
        for label in sorted(self._labels.names):
            group = self._labels[label]
            part = slice(group * n_measures, (group + 1) * n_measures)
            groups[label] = self._statistics(self._sums[part], self._counts[part], self._extremes[part], [group])
        return RowResult(self._statistics_of_all_groups(), groups)

    def _statistics_of_all_groups(self) -> dict[str, RowStatistics]:
        """Return the statistics of each measure over the rows of all groups."""
        n, by_group = self._n_statistics(), (len(self._labels), len(self.measures))
        sums = self._sums[:n].reshape(*by_group, self._sums.shape[1], N_CHUNKS_PRODUCTS).sum(0)
        exact_sum_kernel.carry(sums.reshape(-1, N_CHUNKS_PRODUCTS))
        extremes = self._extremes[:n].reshape(*by_group, 2)
        lowest = extremes[..., 0].min(0, initial=math.inf)
        highest = extremes[..., 1].max(0, initial=-math.inf)
        counts = self._counts[:n].reshape(*by_group, N_COUNTS).sum(0)
        return self._statistics(sums, counts, np.stack([lowest, highest], axis=1), list(range(len(self._labels))))

    def _statistics(
        self,
        sums: NDArray[np.int64],
        counts: NDArray[np.int64],
        extremes: NDArray[np.float64],
        groups: list[int],
    ) -> dict[str, RowStatistics]:
        """Return the statistics of each measure from its rows of the arrays, and quantiles of these groups."""
        n_measures = len(self.measures)
        return {
            name: summarise(
                sums[measure],
                counts[measure],
                extremes[measure],
                {} if self._buckets is None else self._buckets.quantiles(
                    [group * n_measures + measure for group in groups], self.quantiles
                ),
            )
            for measure, name in enumerate(self.measures)
        }  # fmt: skip

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
from ._buckets import BucketCounts, adopt_buckets
from ._exact import MAX_PENDING, N_CHUNKS_PRODUCTS, is_canonical
from ._labels import Label, Labels, adopt_labels, find_labels
from ._row_contents import RowContents
from ._row_result import RowResult, RowStatistics
from ._row_sums import (
    FINITE,
    INFINITE,
    N_COUNTS,
    N_SUMS,
    N_WEIGHTED_SUMS,
    check_consistent,
    check_counts_of_rows,
    summarise,
)
from ._state import Accumulator


class RowValues(Accumulator):
    """Statistics over rows of values that were computed elsewhere, from chunks.

    Parameters
    ----------
    measures
        Names of the values.
    quantiles, groups
        As for ``RowDivergence``, whose description also says how rows are counted.
    """

    _contents: RowContents
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
        self._contents = self._empty()

    def _configuration(self) -> dict[str, Any]:
        return {"measures": list(self.measures), "quantiles": list(self.quantiles), "groups": self.groups}

    def _empty(self) -> RowContents:
        labels = Labels("group") if self.groups else None
        return RowContents(len(self.measures), labels, BucketCounts() if self.quantiles else None)

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
        arrays = [np.asarray(as_numbers(value, "values"), np.float64).ravel() for value in values]
        if len(arrays) != len(self.measures) or len(set(map(len, arrays))) != 1:
            raise ValueError(f"values must be {len(self.measures)} arrays of equal length, got {[*map(len, arrays)]}")
        return self._add(arrays[0] if len(arrays) == 1 else np.concatenate(arrays), weights, group)

    def _add(self, values: NDArray[np.float64], weights: ArrayLike | None, group: ArrayLike | None) -> Self:
        """Add rows, with the contiguous values of one measure after the other."""
        n_rows = len(values) // len(self.measures)
        row_weights = None if weights is None else check_weights(weights, "weights", n_rows)
        found = rows = keys = None
        if self.groups or group is not None:
            found = find_labels(group, "group", n_rows, expected=self.groups, option="groups")
        with self._lock:
            contents, n_groups = self._contents, 1
            if contents.pending + n_rows > MAX_PENDING:
                contents.carry()
            if contents.buckets is not None:
                contents = self._contents = contents.make_room_for_keys(n_rows)
                keys = contents.buckets.buffer  # type: ignore[union-attr]
            if contents.labels is not None and found is not None:
                rows = contents.labels.append(found[0], contents.n_groups)[found[1]]
                n_groups = len(contents.labels.names)
            if rows is not None or row_weights is not None:
                contents = contents.grow(n_groups, weighted=row_weights is not None)
            contents.pending += n_rows
            exact_sum_kernel.accumulate_rows(
                values, contents.n_measures, row_weights, rows, contents.sums, contents.counts, contents.extremes,
                keys, contents.sizes, n_groups,
            )  # fmt: skip
            self._contents = contents
        return self

    # -- merging and states

    def _fold(self, contents: RowContents) -> RowContents:
        return self._contents.fold(contents)

    def _n_rows_seen(self) -> int:
        """Return how many rows were counted: NaN is included, rows of weight 0 are not."""
        return self._contents.n_rows

    def _export(self, contents: RowContents) -> Arrays:
        order = contents.order()
        arrays: Arrays = {
            "sums": contents.sums[order],
            "counts": contents.counts[order],
            "extremes": contents.extremes[order] + 0.0,  # -0 becomes 0, as equal data must have equal bits
        }
        if contents.labels is not None:
            arrays["labels"] = contents.labels.export(contents.n_groups)
        if contents.buckets is not None:
            arrays["bucket_keys"], arrays["bucket_counts"] = contents.buckets.export(
                np.arange(len(contents.counts))[order]
            )
        return arrays

    def _import(self, arrays: Arrays) -> RowContents:
        contents, n_groups = self._empty(), 1
        if self.groups:
            kind = "U" if "labels" in arrays and arrays["labels"].dtype.kind == "U" else "int64"
            contents.labels = adopt_labels(take(arrays, "labels", kind, (None,)), "group")
            n_groups = len(contents.labels.names)
        n = n_groups * len(self.measures)
        contents.sizes[0] = n_groups
        contents.sums = sums = take(arrays, "sums", "int64", (n, None, N_CHUNKS_PRODUCTS))
        contents.counts = counts = take(arrays, "counts", "int64", (n, N_COUNTS))
        contents.extremes = extremes = take(arrays, "extremes", "float64", (n, 2))
        check_counts_of_rows(counts, len(self.measures))
        if sums.shape[1] not in (N_SUMS, N_WEIGHTED_SUMS) or not is_canonical(sums):
            raise ValueError("state['sums'] must hold 2 or 5 sums of each statistic, in canonical form")
        for statistic in range(n):
            check_consistent(sums[statistic], counts[statistic], extremes[statistic])
        if contents.buckets is not None:
            keys = take(arrays, "bucket_keys", "int64", (None,))
            bucket_counts = take(arrays, "bucket_counts", "int64", keys.shape)
            contents.buckets = adopt_buckets(keys, bucket_counts, counts[:, [FINITE, INFINITE]], extremes)
        refuse_unknown(arrays)
        return contents

    # -- reading

    def result(self) -> RowResult:
        """Return the statistics of everything seen so far."""
        contents = self._snapshot()
        sums, counts, extremes, labels = contents.sums, contents.counts, contents.extremes, contents.labels
        if labels is None:
            return RowResult(self._statistics(contents.buckets, sums, counts, extremes, [0]))
        n_measures = len(self.measures)
        groups: dict[Label, dict[str, RowStatistics]] = {}
        for label in sorted(labels.names):
            group = labels[label]
            part = slice(group * n_measures, (group + 1) * n_measures)
            groups[label] = self._statistics(contents.buckets, sums[part], counts[part], extremes[part], [group])
        return RowResult(self._statistics_of_all_groups(contents), groups)

    def _statistics_of_all_groups(self, contents: RowContents) -> dict[str, RowStatistics]:
        """Return the statistics of each measure over the rows of all groups."""
        by_group = contents.n_groups, len(self.measures)
        sums = contents.sums.reshape(*by_group, *contents.sums.shape[1:]).sum(0)
        exact_sum_kernel.carry(sums.reshape(-1, N_CHUNKS_PRODUCTS))
        extremes = contents.extremes.reshape(*by_group, 2)
        lowest = extremes[..., 0].min(0, initial=math.inf)
        highest = extremes[..., 1].max(0, initial=-math.inf)
        counts = contents.counts.reshape(*by_group, N_COUNTS).sum(0)
        extremes = np.stack([lowest, highest], axis=1)
        return self._statistics(contents.buckets, sums, counts, extremes, list(range(contents.n_groups)))

    def _statistics(
        self,
        buckets: BucketCounts | None,
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
                {} if buckets is None else buckets.quantiles(
                    [group * n_measures + measure for group in groups], self.quantiles
                ),
            )
            for measure, name in enumerate(self.measures)
        }  # fmt: skip

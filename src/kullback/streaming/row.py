"""Statistics over rows of per-row divergences, from chunks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks.labels import check_weights
from .._checks.scalars import check_flag, check_names, check_probabilities
from .._kernels import exact_sum as exact_sum_kernel
from .._states import Arrays, refuse_rest, take
from ._buckets import BucketCounts
from ._exact import MAX_COUNT, MAX_PENDING, N_CHUNKS_PRODUCTS, is_canonical, square_root, to_float, to_integer
from ._labels import Label, Labels
from ._measures import row_measures
from ._state import Accumulator

_NONE = np.empty(0)
_NO_GROUPS = np.empty(0, np.int64)
_FINITE, _ZERO, _INFINITE, _NONFINITE = range(4)
_SUMS, _WEIGHTED_SUMS = 2, 5
_UNIT = 1 << (16 * N_CHUNKS_PRODUCTS)


@dataclass(frozen=True)
class RowStatistics:
    """Statistics of one measure over rows.

    Attributes
    ----------
    n_rows
        Rows in the statistics: all but those that are ``n_nonfinite`` or have weight 0.
    n_zero, n_infinite
        How many of them are exactly 0, and infinite (p > 0 where q = 0).
    n_nonfinite
        Rows left out because their value is not a number (bad input).
    total_weight
        Sum of the weights of the finite rows; their number where no weights were given.
    mean
        Infinite as soon as one row is; NaN without rows.
    mean_finite
        Mean of the finite rows alone.
    standard_deviation
        Of the finite rows, with ``n - 1``; with weights, ``standard_error`` times the root of n.
    standard_error
        Of ``mean_finite``; NaN for fewer than two finite rows, and where ``mean`` is infinite.
    min, max
        Over all ``n_rows``, infinite ones included.
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
        Group label to measure to statistics, in the order of the labels; None without groups.
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


class RowValues(Accumulator):
    """Statistics over rows of values that were computed elsewhere, from chunks.

    Parameters
    ----------
    measures
        Names of the values.
    quantiles, groups
        As for ``RowDivergence``, which also says how rows are counted.
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
        n = n_groups * len(self.measures)
        n_sums = _WEIGHTED_SUMS if self._weighted else _SUMS
        self._sums = np.zeros((n, n_sums, N_CHUNKS_PRODUCTS), np.int64)
        self._counts = np.zeros((n, 4), np.int64)
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
        arrays = [np.ascontiguousarray(value, np.float64).reshape(-1) for value in values]
        if len(arrays) != len(self.measures) or len({len(array) for array in arrays}) != 1:
            raise ValueError(f"values must be {len(self.measures)} arrays of equal length, got {[*map(len, arrays)]}")
        return self._add(arrays, weights, group)

    def _add(self, values: list[NDArray[np.float64]], weights: ArrayLike | None, group: ArrayLike | None) -> Self:
        n_rows = len(values[0])
        row_weights = _NONE if weights is None else check_weights(weights, "weights", n_rows)
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
        for measure, row_values in enumerate(values):
            keep = ~np.isnan(row_values)
            if len(weights):
                keep &= weights != 0
            statistics = rows[keep] * len(values) + measure if len(rows) else measure
            buckets.add(row_values[keep], statistics)

    def _make_room(self) -> None:
        """Grow the arrays to the number of labels, at least twofold."""
        if self.groups and len(self._labels) * len(self.measures) > len(self._counts):
            old = self._sums, self._counts, self._extremes
            self._allocate(max(2 * len(self._counts) // len(self.measures), len(self._labels)))
            for array, before in zip((self._sums, self._counts, self._extremes), old, strict=True):
                array[: len(before)] = before

    def _start_weights(self) -> None:
        self._sums = _with_weights(self._sums, self._counts)
        self._weighted = True

    def _carry(self) -> None:
        exact_sum_kernel.carry(self._sums.reshape(-1, N_CHUNKS_PRODUCTS))
        self._pending = 0

    # -- merging and states

    def _fold(self, other: Self) -> None:
        self._labels.refuse_other_kind(other._labels)
        other_n = other._n_statistics()
        if other is self:
            other = self.copy()
        self._carry()
        other._carry()
        if other._weighted and not self._weighted:
            self._start_weights()
        rows = self._statistics_of(self._labels.fold(other._labels))
        self._make_room()
        theirs = other._sums
        if self._weighted and not other._weighted:
            theirs = _with_weights(theirs, other._counts)
        self._sums[rows] += theirs[:other_n]
        self._counts[rows] += other._counts[:other_n]
        self._extremes[rows, 0] = np.minimum(self._extremes[rows, 0], other._extremes[:other_n, 0])
        self._extremes[rows, 1] = np.maximum(self._extremes[rows, 1], other._extremes[:other_n, 1])
        self._carry()
        if self._buckets is not None and other._buckets is not None:
            self._buckets.fold(other._buckets, rows)

    def _n_rows_seen(self) -> int:
        """Return how many rows were counted, those that are not a number included, those of weight 0 not."""
        return int(self._counts[:: len(self.measures), [_FINITE, _INFINITE, _NONFINITE]].sum())

    def _n_statistics(self) -> int:
        return (len(self._labels) if self.groups else 1) * len(self.measures)

    def _statistics_of(self, groups: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of the arrays that belong to some groups, in their order."""
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
            "extremes": self._extremes[order] + 0.0,
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
        if sums.shape[1] not in (_SUMS, _WEIGHTED_SUMS):
            raise ValueError(f"the state must have 2 or 5 sums per statistic, got {sums.shape[1]}")
        if not ((counts >= 0) & (counts < MAX_COUNT)).all() or not (counts[:, _ZERO] <= counts[:, _FINITE]).all():
            raise ValueError("the state's counts must not be negative or 2^60, nor more rows be zero than there are")
        rows_of = counts[:, [_FINITE, _INFINITE, _NONFINITE]].sum(1).reshape(-1, len(self.measures))
        if (rows_of != rows_of[:, :1]).any():
            raise ValueError("the state's measures must be of the same rows")
        if not is_canonical(sums):
            raise ValueError("the state's sums are not in canonical form")
        for statistic in range(n):
            _check_consistent(sums[statistic], counts[statistic], extremes[statistic])
        if self._buckets is not None:
            keys = take(arrays, "bucket_keys", "int64", (None,))
            bucket_counts = take(arrays, "bucket_counts", "int64", keys.shape)
            self._buckets.adopt(keys, bucket_counts, counts[:, _FINITE] + counts[:, _INFINITE])
        refuse_rest(arrays)
        self._weighted = sums.shape[1] == _WEIGHTED_SUMS
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
            first = self._labels[label] * n_measures
            part = slice(first, first + n_measures)
            groups[label] = self._statistics(
                self._sums[part], self._counts[part], self._extremes[part], [self._labels[label]]
            )
        by_group = (len(self._labels), n_measures)
        sums = self._sums[:n].reshape(*by_group, self._sums.shape[1], N_CHUNKS_PRODUCTS).sum(0)
        exact_sum_kernel.carry(sums.reshape(-1, N_CHUNKS_PRODUCTS))
        extremes = self._extremes[:n].reshape(*by_group, 2)
        lowest = extremes[..., 0].min(0, initial=math.inf)
        highest = extremes[..., 1].max(0, initial=-math.inf)
        total = self._statistics(
            sums,
            self._counts[:n].reshape(*by_group, 4).sum(0),
            np.stack([lowest, highest], axis=1),
            list(range(len(self._labels))),
        )
        return RowResult(total, groups)

    def _statistics(
        self,
        sums: NDArray[np.int64],
        counts: NDArray[np.int64],
        extremes: NDArray[np.float64],
        groups: list[int],
    ) -> dict[str, RowStatistics]:
        n_measures = len(self.measures)
        return {
            name: _summarise(
                sums[measure],
                counts[measure],
                extremes[measure],
                {} if self._buckets is None else self._buckets.quantiles(
                    [group * n_measures + measure for group in groups], self.quantiles
                ),
            )
            for measure, name in enumerate(self.measures)
        }  # fmt: skip


class RowDivergence(RowValues):
    """Statistics over rows (tokens, examples) of per-row divergences, from chunks.

    Counts, means and errors come from exact sums, so any chunking, any order of merging and any
    thread count give the same bits.

    Parameters
    ----------
    measures
        Those of ``kullback.divergence.compare``, and of labels: "log_loss", which is -log q[label], and
        "log_loss_p", which is -log p[label].
    from_logits
        Whether ``p`` and ``q`` are logits or log-probabilities.
    quantiles
        Probabilities in [0, 1]. A quantile is the value of rank ``max(1, ceil(probability * n))``
        ("inverted_cdf" of NumPy), exact in rank and to a relative 2^-11 in value. Weights only
        leave rows out (weight 0); they do not change ranks.
    groups
        Whether rows carry a group label; statistics are kept for each group and for all rows.
    base, normalize
        As for ``kullback.divergence.kl_divergence``.
    n_threads
        Threads of the kernels; no bit of the result depends on it.

    Notes
    -----
    A row whose value is not a number is counted as ``n_nonfinite`` and left out. An infinite value
    is legitimate: it makes ``mean`` and ``max`` infinite, is counted as ``n_infinite``, and leaves
    ``mean_finite`` alone.

    With weights w and values d, the mean is sum(w d) / sum(w), and its standard error that of a
    ratio estimator, sqrt(n / (n - 1) sum(w^2 (d - mean)^2)) / sum(w) (Cochran 1977, section 6.13),
    which for equal weights is s / sqrt(n). Each w d is rounded once; all sums are exact.

    Examples
    --------
    >>> import numpy as np
    >>> from kullback.streaming import RowDivergence
    >>> p = np.array([[0.5, 0.5], [0.25, 0.75]])
    >>> RowDivergence().update(p, p).result().kl.mean
    0.0
    """

    _format = "kullback.streaming.RowDivergence"

    def __init__(
        self,
        measures: Sequence[str] = ("kl",),
        *,
        from_logits: bool = False,
        quantiles: Sequence[float] | None = None,
        groups: bool = False,
        base: float | None = None,
        normalize: bool | str = "check",
        n_threads: int | None = None,
    ) -> None:
        super().__init__(measures, quantiles=quantiles, groups=groups)
        self.from_logits = check_flag(from_logits, "from_logits")
        self.base = base
        self.normalize = normalize
        self.n_threads = n_threads
        self._evaluate: Callable[..., list[NDArray[np.float64]]] = row_measures(
            self.measures, from_logits=self.from_logits, base=base, normalize=normalize, n_threads=n_threads
        )

    def _configuration(self) -> dict[str, Any]:
        return {
            "measures": list(self.measures),
            "from_logits": self.from_logits,
            "quantiles": list(self.quantiles),
            "groups": self.groups,
            "base": self.base,
            "normalize": self.normalize,
        }

    def _clear(self) -> None:
        n_threads = self.n_threads
        super()._clear()
        self.n_threads = n_threads

    def update(  # type: ignore[override]  # shares the mechanism, not the arguments
        self,
        p: ArrayLike,
        q: ArrayLike,
        labels: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        group: ArrayLike | None = None,
    ) -> Self:
        """Add rows, and return ``self``; an error leaves the accumulator as it was.

        Parameters
        ----------
        p, q
            Distributions (or logits) along the last axis; all other axes count rows.
        labels
            Integer labels, one per row, for measures that need them.
        weights
            Non-negative weights, one per row; 0 leaves a row out altogether.
        group
            One label (int or str) for all rows, or one per row.
        """
        values = self._evaluate(p, q, labels)
        return self._add(values, weights, group)


def _with_weights(sums: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return carried sums with room for weights; so far each was 1, so their sums follow."""
    wide = np.zeros((len(sums), _WEIGHTED_SUMS, N_CHUNKS_PRODUCTS), np.int64)
    wide[:, :2] = sums
    wide[:, 2] = sums[:, 0]  # x w = x
    wide[:, 3:, N_CHUNKS_PRODUCTS // 2] = counts[:, _FINITE, None]  # the chunk of the units
    exact_sum_kernel.carry(wide.reshape(-1, N_CHUNKS_PRODUCTS))
    return wide


def _check_consistent(sums: NDArray[np.int64], counts: NDArray[np.int64], extremes: NDArray[np.float64]) -> None:
    """Refuse sums that no rows between the extremes can have."""
    n, (low, high) = int(counts[_FINITE]), extremes
    if n == 0:
        if sums.any() or low != math.inf or high != -math.inf:
            raise ValueError("the state has sums or extremes without rows")
        return
    if not -math.inf < low <= high < math.inf:
        raise ValueError("the state's extremes must be finite and in order")
    x, xx = to_integer(sums[0]), to_integer(sums[1])
    if x * x > n * xx * _UNIT:  # Cauchy-Schwarz
        raise ValueError("the state's sums of values and of squares contradict each other")
    most = max(-low, high)
    if len(sums) == _SUMS and xx > n * _UNIT * Fraction(most) ** 2:
        raise ValueError("the state's sum of squares lies outside what its extremes allow")
    if len(sums) == _SUMS and not n * Fraction(low) <= Fraction(x, _UNIT) <= n * Fraction(high):
        raise ValueError("the state's sum lies outside what its extremes allow")
    if len(sums) == _WEIGHTED_SUMS:
        w, ww = to_integer(sums[3]), to_integer(sums[4])
        if w <= 0 or ww <= 0 or w * w > n * ww * _UNIT:
            raise ValueError("the state's sums of weights contradict each other")


def _summarise(
    sums: NDArray[np.int64], counts: NDArray[np.int64], extremes: NDArray[np.float64],
    quantiles: dict[float, float],
) -> RowStatistics:  # fmt: skip
    n, n_infinite = int(counts[_FINITE]), int(counts[_INFINITE])
    x = Fraction(to_integer(sums[0]), _UNIT)
    xx = Fraction(to_integer(sums[1]), _UNIT)
    if len(sums) == _WEIGHTED_SUMS:
        xw, w, ww = (Fraction(to_integer(part), _UNIT) for part in sums[2:])
    else:
        xw, w, ww = x, Fraction(n), Fraction(n)
    mean_finite = deviation = error = math.nan
    low, high = (float(value) for value in extremes)
    if n:
        mean = x / w
        mean_finite = to_float(mean)
        if n > 1:
            # sum of w^2 (d - mean)^2, expanded; exact, so that nothing cancels
            spread = (xx - 2 * mean * xw + mean * mean * ww) * Fraction(n, n - 1)
            error = square_root(spread / (w * w))
            deviation = square_root(spread / (w * w) * n)
    else:
        low = high = math.inf if n_infinite else math.nan
    return RowStatistics(
        n_rows=n + n_infinite,
        n_zero=int(counts[_ZERO]),
        n_infinite=n_infinite,
        n_nonfinite=int(counts[_NONFINITE]),
        total_weight=to_float(w),
        mean=math.inf if n_infinite else mean_finite,
        mean_finite=mean_finite,
        standard_deviation=deviation,
        standard_error=math.nan if n_infinite else error,
        min=low,
        max=math.inf if n_infinite else high,
        quantiles=quantiles,
    )

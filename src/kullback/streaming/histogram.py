"""Divergences of histograms whose counts accumulate on both sides, as they are used to monitor drift."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks.names import match_features, plain_names
from .._checks.scalars import check_base, check_choices, check_integer, check_real
from .._checks.streams import check_categories, check_codes, check_counts, check_edges, check_features
from .._kernels import histogram as histogram_kernel
from .._states import Arrays, refuse_unknown, take
from .._threads import resolve_threads, startable_threads, useful_threads
from ._state import Accumulator

MEASURES = ("kl", "reverse_kl", "js", "psi", "total_variation", "chi2")
"""The measures, in the order of the codes in ext/histogram.pyx."""

_IN_NATS = {"kl", "reverse_kl", "js", "psi"}
_MAX_COUNT = 1 << 51

_BINS_PER_THREAD = 1 << 14
"""Bins that each thread must have to compare, because with fewer it costs more than it brings."""

_ROWS_PER_THREAD = 256
"""Rows that each thread must have to count, because with fewer it costs more to start threads than to count."""

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


class HistogramDivergence(Accumulator):
    """The divergence of two histograms, each counted from chunks, for many features at once.

    ``RowDivergence`` averages divergences; this is one divergence of totals. Feature by feature, it compares
    how the values seen on side q are distributed with how those on side p, the reference, are.

    Parameters
    ----------
    measures
        Among "kl", "reverse_kl", "js", "psi" (both directions of KL added), "total_variation", "chi2"
        (sum of (p - q)^2 / q).
    edges
        Sorted edges, either for all features or one row for each. ``n`` edges make ``n + 1`` bins: value v
        belongs to bin ``sum(edges <= v)`` as in ``numpy.digitize``, and the outer bins are open.
    categories
        In place of ``edges``, the distinct integers or strings that can come, for all features. The last
        bin counts everything else.
    n_features
        Number of columns of the values.
    smoothing
        What is added to every count of both sides.
    base
        Base of the logarithm in the logarithmic measures; e, that is nats, by default.
    n_threads
        Threads of the kernels; no bit of the result depends on it.

    Notes
    -----
    The bias is that of the second-order expansion of the measure around the shares,
    sum(f_pp p (1 - p)) / (2 n_p) + sum(f_qq q (1 - q)) / (2 n_q) over bins that are not empty; for an
    entropy this is the correction of Miller (1955), (bins - 1) / (2 n). The standard error is that of
    the first-order expansion. Both hold for large counts. Where p = q the first order vanishes, and 2 n KL
    follows a chi-squared distribution instead.
    """

    _format = "kullback.streaming.HistogramDivergence"

    def __init__(
        self,
        measures: Sequence[str] = ("psi", "kl", "js"),
        *,
        edges: ArrayLike | None = None,
        categories: Sequence[int] | Sequence[str] | None = None,
        n_features: int = 1,
        smoothing: float = 0.0,
        base: float | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.measures = check_choices(measures, "measures", MEASURES)
        self.n_features = check_integer(n_features, "n_features", low=1)
        self.smoothing = check_real(smoothing, "smoothing", low=0, high=1e300)
        self.base = None if base is None else check_base(base)
        self.n_threads = n_threads
        if (edges is None) == (categories is None):
            raise ValueError("exactly one of edges and categories must be given")
        self.edges = None if edges is None else check_edges(edges, self.n_features)
        self.categories = None if categories is None else check_categories(categories)
        self._edges_of: dict[str, NDArray[Any]] = {}
        n_bins = self.n_bins
        # the last column counts missing values
        self._counts = {side: np.zeros((self.n_features, n_bins + 1), np.int64) for side in "pq"}
        self._fixed = False
        self._names: NDArray[Any] | None = None  # of the features, from the first frame

    @property
    def n_bins(self) -> int:
        """Number of bins of each feature, with the outer bins or the bin of all other categories."""
        return (len(self.categories) if self.edges is None else self.edges.shape[1]) + 1  # type: ignore[arg-type]

    @property
    def counts_p(self) -> NDArray[np.int64]:
        """A copy of the counts of the reference side, of shape (n_features, n_bins)."""
        return self._counts["p"][:, :-1].copy()

    @property
    def counts_q(self) -> NDArray[np.int64]:
        """A copy of the counts of the other side, of shape (n_features, n_bins)."""
        return self._counts["q"][:, :-1].copy()

    def _configuration(self) -> dict[str, Any]:
        return {
            "measures": list(self.measures),
            "edges": None if self.edges is None else self.edges.tolist(),
            "categories": None if self.categories is None else self.categories.tolist(),
            "n_features": self.n_features,
            "smoothing": self.smoothing,
            "base": self.base,
        }

    def _clear(self) -> None:
        """Forget the counts, but not those of a fixed reference."""
        for side in "q" if self._fixed else "pq":
            self._counts[side][:] = 0
        if not self._fixed:
            self._names = None

    # -- updating

    def update(self, p: ArrayLike | None = None, q: ArrayLike | None = None) -> HistogramDivergence:
        """Count values, and return ``self``; an error leaves the accumulator as it was.

        Parameters
        ----------
        p, q
            Values of the reference side and of the other side, of shape ``(n_rows, n_features)``, or
            ``(n_rows,)`` for one feature. Either may be left out. NaN counts as missing. The columns of frames are
            matched by name with those of the first frame.
        """
        if p is not None and self._fixed:
            raise ValueError("p must be left out: the reference side is fixed")
        names, sides = match_features(self._names, {"p": p, "q": q})
        found = {side: self._binned(values, name=side) for side, values in sides.items()}
        self._names = names
        for side, counts in found.items():
            self._counts[side] += counts
        return self

    def _binned(self, values: ArrayLike, *, name: str) -> NDArray[np.int64]:
        """Return the counts of some values."""
        if self.edges is None:
            return self._categorised(values, name=name)
        array = check_features(values, name, self.n_features)
        threads = resolve_threads(self.n_threads)
        parts = threads if len(array) >= _ROWS_PER_THREAD * threads else 1
        counts = np.zeros((parts, self.n_features, self.n_bins + 1), np.int64)
        histogram_kernel.count_bins(
            array, self._padded(array.dtype), self.edges.shape[1], counts, startable_threads(parts)
        )
        total: NDArray[np.int64] = counts[0] if parts == 1 else counts.sum(0)
        return total

    def _padded(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the edges in the values' dtype, padded with infinity to a length of 2^k - 1.

        A float32 edge is the smallest float32 that is not below the float64 edge, so that ``edge <= value``
        decides in the same way for every float32 value.
        """
        if dtype.name not in self._edges_of:
            assert self.edges is not None
            with np.errstate(over="ignore"):
                edges = self.edges.astype(dtype)
            edges = np.where(edges < self.edges, np.nextafter(edges, dtype.type(np.inf)), edges)
            width = (1 << edges.shape[1].bit_length()) - 1
            padded = np.full((self.n_features, width), np.inf, dtype)
            padded[:, : edges.shape[1]] = edges
            self._edges_of[dtype.name] = padded
        return self._edges_of[dtype.name]

    def _categorised(self, values: ArrayLike, *, name: str) -> NDArray[np.int64]:
        """Return the counts of some categories."""
        assert self.categories is not None
        array = check_codes(values, name, self.n_features, self.categories.dtype.kind)
        n_bins = self.n_bins
        order = np.argsort(self.categories)
        ordered = self.categories[order]
        places = np.minimum(np.searchsorted(ordered, array), len(ordered) - 1)
        codes = np.where(ordered[places] == array, order[places], n_bins - 1)
        codes += np.arange(self.n_features) * (n_bins + 1)
        counts = np.bincount(codes.reshape(-1), minlength=self.n_features * (n_bins + 1))
        return counts.reshape(self.n_features, n_bins + 1).astype(np.int64)

    def add_counts(self, p: ArrayLike | None = None, q: ArrayLike | None = None) -> HistogramDivergence:
        """Add counts of shape ``(n_features, n_bins)`` that were made elsewhere, and return ``self``."""
        if p is not None and self._fixed:
            raise ValueError("p must be left out: the reference side is fixed")
        shape = (self.n_features, self.n_bins)
        found = {side: check_counts(counts, side, shape) for side, counts in (("p", p), ("q", q)) if counts is not None}
        for side, counts in found.items():
            self._counts[side][:, :-1] += counts
        return self

    def fix_reference(self) -> HistogramDivergence:
        """Let side p be final, and return ``self``.

        Copies, states and files keep it, and ``reset`` forgets side q alone. Accumulators with the same
        fixed reference merge their sides q.
        """
        self._fixed = True
        return self

    # -- merging and states

    def _fold(self, other: HistogramDivergence) -> None:
        if self._fixed != other._fixed:
            raise ValueError("other must have a fixed reference if, and only if, this one has")
        if self._fixed and not np.array_equal(self._counts["p"], other._counts["p"]):
            raise ValueError("other must have the same fixed reference")
        if self._names is not None and other._names is not None and self._names.tolist() != other._names.tolist():
            raise ValueError("other must have seen the features in the same order, by their names")
        self._names = other._names if self._names is None else self._names
        for side in "q" if self._fixed else "pq":
            self._counts[side] = self._counts[side] + other._counts[side]

    def _export(self) -> Arrays:
        arrays = {
            "counts_p": self._counts["p"].copy(),
            "counts_q": self._counts["q"].copy(),
            "fixed": np.array(int(self._fixed)),
        }
        if self._names is not None:
            arrays["names"] = plain_names(self._names)
        return arrays

    def _import(self, arrays: Arrays) -> None:
        shape = (self.n_features, self.n_bins + 1)
        counts = {side: take(arrays, f"counts_{side}", "int64", shape) for side in "pq"}
        fixed = int(take(arrays, "fixed", "int64", ()))
        if fixed not in (0, 1):
            raise ValueError(f"state['fixed'] must be 0 or 1, got {fixed}")
        for side in "pq":
            if not ((counts[side] >= 0) & (counts[side] < _MAX_COUNT)).all():
                raise ValueError(f"state['counts_{side}'] must not be negative, nor 2^51 or more")
        names = None
        if "names" in arrays:
            kind = "U" if arrays["names"].dtype.kind == "U" else "int64"
            names = take(arrays, "names", kind, (self.n_features,)).astype(object)
        refuse_unknown(arrays)
        self._counts, self._fixed, self._names = counts, bool(fixed), names

    # -- reading

    def result(self) -> HistogramResult:
        """Return the divergences of everything seen so far, with corrected values and standard errors."""
        p, q = (np.ascontiguousarray(self._counts[side][:, :-1]) for side in "pq")
        corrected, errors = {}, {}
        values, n_q = self._divergences(p, q)
        for name in self.measures:
            bias, error = _bias_and_error(name, p, q, self.smoothing)
            unit = self._unit(name)
            corrected[name] = values[name] - bias / unit
            errors[name] = error / unit
        missing = {side: self._counts[side][:, -1].copy() for side in "pq"}
        return HistogramResult(values, corrected, errors, p.sum(1), n_q, missing["p"], missing["q"])

    def compare(self, counts: ArrayLike) -> HistogramResult:
        """Return the divergences of many histograms from side p, without corrections and errors.

        Parameters
        ----------
        counts
            Counts of shape ``(..., n_features, n_bins)``, for example one histogram per day.
        """
        p = np.ascontiguousarray(self._counts["p"][:, :-1])
        shape = (..., self.n_features, self.n_bins)
        q = check_counts(counts, "counts", shape, check_range=False)
        n_p, missing_p = p.sum(1), self._counts["p"][:, -1].copy()
        values, n_q = self._divergences(p, q)
        return HistogramResult(values, n_p=n_p, n_q=n_q, missing_p=missing_p)

    def _unit(self, name: str) -> float:
        """Return what one unit of a measure is in nats; 1 for measures without a logarithm."""
        return math.log(self.base) if self.base is not None and name in _IN_NATS else 1.0

    def _divergences(self, p: NDArray[np.int64], q: NDArray[np.int64]) -> tuple[dict[str, Values], NDArray[np.int64]]:
        """Return each measure of each histogram of q, and the totals of the histograms."""
        rows = q.reshape(-1, self.n_bins)
        codes = np.array([MEASURES.index(name) for name in self.measures], np.intc)
        values, totals = np.empty((len(codes), len(rows))), np.empty(len(rows), np.int64)
        threads = useful_threads(resolve_threads(self.n_threads), rows.size, _BINS_PER_THREAD)
        histogram_kernel.compare_counts(p, rows, codes, self.smoothing, values, totals, startable_threads(threads))
        if (values < 0).any():  # the kernel writes -1 where a count is out of range
            check_counts(q, "counts", q.shape)
        shape = q.shape[:-1]
        found = {
            name: value.reshape(shape) / self._unit(name) if self._unit(name) != 1 else value.reshape(shape)
            for name, value in zip(self.measures, values, strict=True)
        }
        return found, totals.reshape(shape)


def _bias_and_error(
    measure: str, p_counts: NDArray[np.int64], q_counts: NDArray[np.int64], smoothing: float
) -> tuple[Values, Values]:
    """Return the second-order bias and the first-order standard error of a plug-in estimate, in nats.

    Let f be the measure's term of a bin: f_p is its derivative by p, f_pp the second derivative, and likewise
    for q.
    """
    n_p, n_q = p_counts.sum(1), q_counts.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = (p_counts + smoothing) / (p_counts + smoothing).sum(1, keepdims=True)
        q = (q_counts + smoothing) / (q_counts + smoothing).sum(1, keepdims=True)
        if measure == "reverse_kl":
            (q, p), (n_q, n_p) = (p, q), (n_p, n_q)
        t, m = np.log(p / q), (p + q) / 2
        if measure in ("kl", "reverse_kl"):
            f_p, f_q, f_pp, f_qq = t + 1, -p / q, 1 / p, p / q**2
        elif measure == "psi":
            f_p, f_q, f_pp, f_qq = t + 1 - q / p, 1 - t - p / q, 1 / p + q / p**2, 1 / q + p / q**2
        elif measure == "js":
            f_p, f_q, f_pp, f_qq = np.log(p / m) / 2, np.log(q / m) / 2, q / (4 * p * m), p / (4 * q * m)
        elif measure == "chi2":
            f_p, f_q, f_pp, f_qq = 2 * (p / q - 1), 1 - (p / q) ** 2, 2 / q, 2 * p**2 / q**3
        else:
            f_p = np.sign(p - q) / 2
            f_q, f_pp, f_qq = -f_p, np.zeros_like(p), np.zeros_like(q)

        def total(share: Values, terms: Values) -> Values:
            """Return the sums over bins whose share is not 0."""
            kept: Values = np.where(share > 0, terms, 0.0)
            return np.asarray(kept.sum(1))

        bias = total(p, f_pp * p * (1 - p)) / (2 * n_p) + total(q, f_qq * q * (1 - q)) / (2 * n_q)
        variance = (total(p, p * f_p**2) - total(p, p * f_p) ** 2) / n_p
        variance += (total(q, q * f_q**2) - total(q, q * f_q) ** 2) / n_q
        bias = np.where(np.isfinite(variance), bias, np.nan)
        # NaN and infinity stay. A variance is below 0 by rounding alone.
        return bias, np.sqrt(np.where(variance < 0, 0.0, variance))

"""Divergences of histograms whose counts accumulate on both sides, as they are used to monitor drift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks.names import match_features, plain_names
from .._checks.scalars import check_base, check_choices, check_integer, check_real
from .._checks.streams import check_categories, check_claims, check_codes, check_counts, check_edges, check_features
from .._kernels import histogram as histogram_kernel
from .._states import Arrays, refuse_unknown, take
from .._threads import resolve_threads, startable_threads, useful_threads
from ._histogram_result import HistogramResult, Values
from ._state import Accumulator

MEASURES = ("kl", "reverse_kl", "js", "psi", "total_variation", "chi2")
"""The measures, in the order of the codes in ext/histogram.pyx."""

_IN_NATS = {"kl", "reverse_kl", "js", "psi"}
_MAX_COUNT = 1 << 51

_BINS_PER_THREAD = 1 << 14
"""Bins that each thread must have to compare, because with fewer it costs more than it brings."""

_ROWS_PER_THREAD = 256
"""Rows that each thread must have to count, because with fewer it costs more to start threads than to count."""


class _Contents(NamedTuple):
    """What a ``HistogramDivergence`` holds: new arrays for each change, so that whoever has contents may keep them."""

    p: NDArray[np.int64]  # counts of shape (n_features, n_bins + 1), of which the last column is that of missing values
    q: NDArray[np.int64]
    names: NDArray[Any] | None  # of the features, from the first frame
    is_fixed: bool  # whether p is final

    def copy(self) -> _Contents:
        """Return these contents, which never change."""
        return self

    def add(self, found: dict[str, NDArray[np.int64]], names: NDArray[Any] | None) -> _Contents:
        """Return contents with counts added to either side, which become its own."""
        p, q = self.p, self.q
        if "p" in found:
            p = np.add(found["p"], p, out=found["p"])
        if "q" in found:
            q = np.add(found["q"], q, out=found["q"])
        return _Contents(p, q, names, self.is_fixed)


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

    _contents: _Contents
    _format = "kullback.streaming.HistogramDivergence"
    _check_size = staticmethod(check_claims)

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
        self._edges_of: dict[np.dtype[Any], NDArray[Any]] = {}
        shape = self.n_features, self.n_bins + 1
        self._contents = _Contents(np.zeros(shape, np.int64), np.zeros(shape, np.int64), None, False)

    @property
    def n_bins(self) -> int:
        """Number of bins of each feature, with the outer bins or the bin of all other categories."""
        return (len(self.categories) if self.edges is None else self.edges.shape[1]) + 1  # type: ignore[arg-type]

    @property
    def counts_p(self) -> NDArray[np.int64]:
        """A copy of the counts of the reference side, of shape (n_features, n_bins)."""
        return self._contents.p[:, :-1].copy()

    @property
    def counts_q(self) -> NDArray[np.int64]:
        """A copy of the counts of the other side, of shape (n_features, n_bins)."""
        return self._contents.q[:, :-1].copy()

    def _configuration(self) -> dict[str, Any]:
        return {
            "measures": list(self.measures),
            "edges": None if self.edges is None else self.edges.tolist(),
            "categories": None if self.categories is None else self.categories.tolist(),
            "n_features": self.n_features,
            "smoothing": self.smoothing,
            "base": self.base,
        }

    def _empty(self) -> _Contents:
        """Return contents without counts, but with those of a fixed reference."""
        contents = self._contents
        if contents.is_fixed:
            return contents._replace(q=np.zeros_like(contents.q))
        return _Contents(np.zeros_like(contents.p), np.zeros_like(contents.q), None, False)

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
        while True:
            known = self._contents.names
            names, sides = match_features(known, {"p": p, "q": q})
            self._refuse_fixed(sides)
            found = {side: self._binned(values, name=side) for side, values in sides.items()}
            with self._lock:
                self._refuse_fixed(sides)
                if self._contents.names is known:  # or else another thread has named the features meanwhile
                    self._contents = self._contents.add(found, names)
                    return self

    def _refuse_fixed(self, sides: dict[str, Any]) -> None:
        """Raise where counts of a fixed reference are among the sides."""
        if self._contents.is_fixed and "p" in sides:
            raise ValueError("p must be left out: the reference side is fixed")

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
        if dtype not in self._edges_of:  # not by its name, which takes 3 us to make
            assert self.edges is not None
            with np.errstate(over="ignore"):
                edges = self.edges.astype(dtype)
            edges = np.where(edges < self.edges, np.nextafter(edges, dtype.type(np.inf)), edges)
            width = (1 << edges.shape[1].bit_length()) - 1
            padded = np.full((self.n_features, width), np.inf, dtype)
            padded[:, : edges.shape[1]] = edges
            self._edges_of[dtype] = padded
        return self._edges_of[dtype]

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
        sides = {side: counts for side, counts in (("p", p), ("q", q)) if counts is not None}
        self._refuse_fixed(sides)
        found = {side: np.zeros((self.n_features, self.n_bins + 1), np.int64) for side in sides}
        for side, counts in sides.items():
            found[side][:, :-1] = check_counts(counts, side, (self.n_features, self.n_bins))
        with self._lock:
            self._refuse_fixed(sides)
            self._contents = self._contents.add(found, self._contents.names)
        return self

    def fix_reference(self) -> HistogramDivergence:
        """Let side p be final, and return ``self``.

        Copies, states and files keep it, and ``reset`` forgets side q alone. Accumulators with the same
        fixed reference merge their sides q.
        """
        with self._lock:
            self._contents = self._contents._replace(is_fixed=True)
        return self

    # -- merging and states

    def _fold(self, contents: _Contents) -> _Contents:
        ours = self._contents
        if ours.is_fixed != contents.is_fixed:
            raise ValueError("other must have a fixed reference if, and only if, this one has")
        if ours.is_fixed and not np.array_equal(ours.p, contents.p):
            raise ValueError("other must have the same fixed reference")
        if ours.names is not None and contents.names is not None and ours.names.tolist() != contents.names.tolist():
            raise ValueError("other must have seen the features in the same order, by their names")
        found = {side: getattr(contents, side).copy() for side in ("q" if ours.is_fixed else "pq")}
        return ours.add(found, contents.names if ours.names is None else ours.names)

    def _export(self, contents: _Contents) -> Arrays:
        arrays = {
            "counts_p": contents.p.copy(),
            "counts_q": contents.q.copy(),
            "fixed": np.array(int(contents.is_fixed)),
        }
        if contents.names is not None:
            arrays["names"] = plain_names(contents.names)
        return arrays

    def _import(self, arrays: Arrays) -> _Contents:
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
        return _Contents(counts["p"], counts["q"], names, bool(fixed))

    # -- reading

    def result(self) -> HistogramResult:
        """Return the divergences of everything seen so far, with corrected values and standard errors."""
        contents = self._contents
        p, q = (np.ascontiguousarray(counts[:, :-1]) for counts in (contents.p, contents.q))
        corrected, errors = {}, {}
        values, n_q = self._divergences(p, q)
        for name in self.measures:
            bias, error = _bias_and_error(name, p, q, self.smoothing)
            unit = self._unit(name)
            corrected[name] = values[name] - bias / unit
            errors[name] = error / unit
        missing_p, missing_q = contents.p[:, -1].copy(), contents.q[:, -1].copy()
        return HistogramResult(values, corrected, errors, p.sum(1), n_q, missing_p, missing_q)

    def compare(self, counts: ArrayLike) -> HistogramResult:
        """Return the divergences of many histograms from side p, without corrections and errors.

        Parameters
        ----------
        counts
            Counts of shape ``(..., n_features, n_bins)``, for example one histogram per day.
        """
        reference = self._contents.p
        p = np.ascontiguousarray(reference[:, :-1])
        shape = (..., self.n_features, self.n_bins)
        q = check_counts(counts, "counts", shape, check_range=False)
        n_p, missing_p = p.sum(1), reference[:, -1].copy()
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

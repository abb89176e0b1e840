"""A comparison of two candidates with one reference on the same rows."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks.names import match_index
from .._checks.scalars import check_flag, check_names
from .._kernels import exact_sum as exact_sum_kernel
from .._states import Arrays, refuse_unknown, take
from ._exact import (
    MAX_COUNT,
    MAX_PENDING,
    N_CHUNKS_PRODUCTS,
    N_CHUNKS_VALUES,
    is_canonical,
    square_root,
    to_float,
    to_fraction,
)
from ._labels import Labels
from ._measures import row_measures
from ._state import Accumulator

_NO_WEIGHTS = np.empty(0)
_NO_GROUPS = np.empty(0, np.int64)
_DIFFERENCE, _A, _B = range(3)
_COUNTS = ("n_rows", "n_a_smaller", "n_b_smaller", "n_infinite_a", "n_infinite_b", "n_nonfinite")


@dataclass(frozen=True, repr=False)
class PairedResult:
    """What ``PairedDivergence.result`` returns.

    Attributes
    ----------
    n_rows
        Rows on which the values of both candidates are finite. Means and errors are those of these rows.
    n_a_smaller, n_b_smaller, n_tied
        Rows on which the value of a is smaller, on which that of b is, and on which they are equal.
    n_infinite_a, n_infinite_b
        Rows that were left out because the value of a is infinite, and because that of b is. A row with two
        infinite values counts in both.
    n_nonfinite
        Rows that were left out because a value is not a number.
    mean_a, mean_b, mean_difference
        Means of the values, and of value a less value b.
    standard_error
        Standard error of ``mean_difference`` if rows are independent.
    clustered_standard_error
        Standard error of ``mean_difference`` if clusters are independent; NaN without clusters.
    n_clusters
        Clusters with at least one row; 0 without clusters.
    """

    n_rows: int
    n_a_smaller: int
    n_b_smaller: int
    n_infinite_a: int
    n_infinite_b: int
    n_nonfinite: int
    mean_a: float
    mean_b: float
    mean_difference: float
    standard_error: float
    clustered_standard_error: float
    n_clusters: int

    @property
    def n_tied(self) -> int:
        """Rows with equal values."""
        return self.n_rows - self.n_a_smaller - self.n_b_smaller

    @property
    def z(self) -> float:
        """``mean_difference`` over its standard error, which is the clustered one where there are clusters."""
        error = self.clustered_standard_error if self.n_clusters else self.standard_error
        return self.mean_difference / error if error else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain Python objects."""
        return {**asdict(self), "n_tied": self.n_tied, "z": self.z}

    def __repr__(self) -> str:
        error = self.clustered_standard_error if self.n_clusters else self.standard_error
        kind = f"{self.n_clusters} clusters" if self.n_clusters else "independent rows"
        return (
            f"PairedResult: a {self.mean_a:.6g}, b {self.mean_b:.6g},"
            f" difference {self.mean_difference:.6g} +- {error:.2g} ({kind}) over {self.n_rows} rows"
            f" (a smaller on {self.n_a_smaller}, b on {self.n_b_smaller})"
        )


class PairedDivergence(Accumulator):
    """Compare two candidates q_a and q_b against one reference p on the same rows, from chunks.

    Differences of paired rows vary far less than the rows themselves. So their mean has a much smaller
    error than the difference of two separate means.

    Parameters
    ----------
    measure
        Name of a measure, as for ``RowDivergence``.
    from_logits, base, normalize, n_threads
        As for ``RowDivergence``.
    clusters
        Whether rows carry a cluster label, such as the number of a document. Rows of one cluster may then
        depend on each other.

    Notes
    -----
    Each difference d is rounded once; sums are exact and merge bit for bit. Let S_c be the sum of d in
    cluster c of C, n_c its number of rows, and m the mean. Then the clustered standard error is
    sqrt(C / (C - 1) sum((S_c - n_c m)^2)) / n (Liang and Zeger 1986, for a mean). Clusters of one row
    each give the standard error of independent rows.
    """

    _format = "kullback.streaming.PairedDivergence"

    def __init__(
        self,
        measure: str = "kl",
        *,
        from_logits: bool = False,
        clusters: bool = False,
        base: float | None = None,
        normalize: bool | str = "check",
        n_threads: int | None = None,
    ) -> None:
        (self.measure,) = check_names((measure,), "measure")
        self.from_logits = check_flag(from_logits, "from_logits")
        self.clusters = check_flag(clusters, "clusters")
        self.base = base
        self.normalize = normalize
        self.n_threads = n_threads
        self._evaluate = row_measures(
            (measure,), from_logits=self.from_logits, base=base, normalize=normalize, n_threads=n_threads
        )
        self._labels = Labels(name="cluster", option="clusters")
        self._sums = np.zeros((3, 2, N_CHUNKS_PRODUCTS), np.int64)
        self._counts = np.zeros(len(_COUNTS), np.int64)
        self._cluster_sums = np.zeros((0, N_CHUNKS_VALUES), np.int64)
        self._cluster_rows = np.zeros(0, np.int64)
        self._pending = 0

    def _configuration(self) -> dict[str, Any]:
        return {
            "measure": self.measure,
            "from_logits": self.from_logits,
            "clusters": self.clusters,
            "base": self.base,
            "normalize": self.normalize,
        }

    # -- updating

    def update(
        self,
        p: ArrayLike,
        q_a: ArrayLike,
        q_b: ArrayLike,
        labels: ArrayLike | None = None,
        cluster: ArrayLike | None = None,
    ) -> PairedDivergence:
        """Add rows, and return ``self``; an error leaves the accumulator as it was.

        Parameters
        ----------
        p, q_a, q_b
            Reference and candidates: distributions along the last axis; all other axes count rows.
        labels
            Integer labels, one per row, for measures that need them.
        cluster
            One label (int or str) for all rows, or one per row.
        """
        match_index(p, {"labels": labels, "cluster": cluster})
        (a,) = self._evaluate(p, q_a, labels)
        (b,) = self._evaluate(p, q_b, labels)
        if len(a) != len(b):
            raise ValueError(f"q_a and q_b must have the same number of rows, got {len(a)} and {len(b)}")
        rows = _NO_GROUPS
        if self.clusters or cluster is not None:
            rows = self._labels.rows(cluster, len(a), expected=self.clusters)
            self._make_room()
        unknown = np.isnan(a) | np.isnan(b)
        infinite_a, infinite_b = np.isinf(a) & ~unknown, np.isinf(b) & ~unknown
        keep = ~(unknown | infinite_a | infinite_b)
        a, b = a[keep], b[keep]
        difference = a - b
        if self._pending + len(a) > MAX_PENDING:
            self._carry()
        self._pending += len(a)
        counts = np.zeros((1, 4), np.int64)
        extremes = np.zeros((1, 2))
        for i, values in enumerate((difference, a, b)):
            sums = self._sums[i : i + 1]
            exact_sum_kernel.accumulate_rows(values, _NO_WEIGHTS, _NO_GROUPS, 1, 0, sums, counts, extremes)
        if self.clusters:
            exact_sum_kernel.add_values(difference, rows[keep], self._cluster_sums)
            np.add.at(self._cluster_rows, rows[keep], 1)
        self._counts += np.array([
            len(a), np.count_nonzero(a < b), np.count_nonzero(b < a),
            np.count_nonzero(infinite_a), np.count_nonzero(infinite_b), np.count_nonzero(unknown),
        ])  # fmt: skip
        return self

    def _make_room(self) -> None:
        """Grow the arrays to the number of labels, and at least to twice their length."""
        missing = len(self._labels) - len(self._cluster_rows)
        if missing > 0:
            spare = max(missing, len(self._cluster_rows))
            self._cluster_sums = np.concatenate([self._cluster_sums, np.zeros((spare, N_CHUNKS_VALUES), np.int64)])
            self._cluster_rows = np.concatenate([self._cluster_rows, np.zeros(spare, np.int64)])

    def _carry(self) -> None:
        """Bring all sums into canonical form."""
        exact_sum_kernel.carry(self._sums.reshape(-1, N_CHUNKS_PRODUCTS))
        exact_sum_kernel.carry(self._cluster_sums)
        self._pending = 0

    # -- merging and states

    def _fold(self, other: PairedDivergence) -> None:
        self._labels.refuse_other_kind(other._labels)
        other = other.copy()
        self._carry()
        rows = self._labels.fold(other._labels)
        self._make_room()
        self._cluster_sums[rows] += other._cluster_sums
        self._cluster_rows[rows] += other._cluster_rows
        self._sums += other._sums
        self._counts += other._counts
        self._carry()

    def _export(self) -> Arrays:
        self._carry()
        arrays: Arrays = {"sums": self._sums.copy(), "counts": self._counts.copy()}
        if self.clusters:
            order = self._labels.order()
            arrays["labels"] = self._labels.export()
            arrays["cluster_sums"] = self._cluster_sums[order]
            arrays["cluster_rows"] = self._cluster_rows[order]
        return arrays

    def _import(self, arrays: Arrays) -> None:
        sums = take(arrays, "sums", "int64", self._sums.shape)
        counts = take(arrays, "counts", "int64", self._counts.shape)
        if not is_canonical(sums):
            raise ValueError("the state's sums are not in canonical form")
        n = int(counts[0])
        if not ((counts >= 0) & (counts < MAX_COUNT)).all() or counts[1] + counts[2] > n:
            raise ValueError("the state's counts must not be negative or 2^60, nor exceed its rows")
        for part in sums:
            x, xx = to_fraction(part[0]), to_fraction(part[1])
            if x * x > n * xx:  # the inequality of Cauchy and Schwarz excludes it, also for n = 0
                raise ValueError("the state's sums of values and of squares contradict each other")
        if self.clusters:
            kind = "U" if "labels" in arrays and arrays["labels"].dtype.kind == "U" else "int64"
            self._labels.adopt(take(arrays, "labels", kind, (None,)))
            cluster_sums = take(arrays, "cluster_sums", "int64", (len(self._labels), N_CHUNKS_VALUES))
            cluster_rows = take(arrays, "cluster_rows", "int64", (len(self._labels),))
            if not is_canonical(cluster_sums) or not (cluster_rows >= 0).all() or cluster_rows.sum() != n:
                raise ValueError("the state's clusters are not canonical, or do not add up to its rows")
            if sum((to_fraction(part) for part in cluster_sums), Fraction(0)) != to_fraction(sums[0, 0]):
                raise ValueError("the state's sums over clusters do not add up to the whole")
            self._cluster_sums, self._cluster_rows = cluster_sums, cluster_rows
        refuse_unknown(arrays)
        self._sums, self._counts = sums, counts

    # -- reading

    def result(self) -> PairedResult:
        """Return the comparison of everything seen so far."""
        self._carry()
        counts = dict(zip(_COUNTS, self._counts.tolist(), strict=True))
        n = counts["n_rows"]
        mean_a = mean_b = difference = error = clustered = math.nan
        if n:
            mean = to_fraction(self._sums[_DIFFERENCE, 0]) / n
            difference = to_float(mean)
            mean_a, mean_b = (to_float(to_fraction(self._sums[i, 0]) / n) for i in (_A, _B))
            if n > 1:
                square = to_fraction(self._sums[_DIFFERENCE, 1])
                error = square_root((square - n * mean * mean) / (n * (n - 1)))
            clustered = self._clustered_error(mean, n)
        n_clusters = int(np.count_nonzero(self._cluster_rows))
        return PairedResult(
            **counts, mean_a=mean_a, mean_b=mean_b, mean_difference=difference, standard_error=error,
            clustered_standard_error=clustered, n_clusters=n_clusters,
        )  # fmt: skip

    def _clustered_error(self, mean: Fraction, n: int) -> float:
        """Return the standard error of the mean over n rows if clusters are independent."""
        used: NDArray[np.int64] = np.flatnonzero(self._cluster_rows)
        if len(used) < 2:
            return math.nan
        # The sum of (S_c - n_c m)^2 is expanded. Fractions are exact, so nothing cancels.
        squares = products = Fraction(0)
        for cluster in used:
            total, rows = to_fraction(self._cluster_sums[cluster]), int(self._cluster_rows[cluster])
            squares += total * total
            products += total * rows
        sizes = sum(int(rows) ** 2 for rows in self._cluster_rows[used])
        spread = squares - 2 * mean * products + mean * mean * sizes
        return square_root(spread * Fraction(len(used), len(used) - 1)) / n

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
from ._exact import MAX_PENDING, N_CHUNKS_PRODUCTS, N_CHUNKS_VALUES, square_root, to_float, to_fraction
from ._labels import Labels, adopt_labels, find_labels
from ._measures import row_measures
from ._paired_contents import PairedContents, check_clusters, check_pairs
from ._state import Accumulator

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

    _contents: PairedContents
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
        self._contents = self._empty()

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
        a = self._evaluate(p, q_a, labels)
        b = self._evaluate(p, q_b, labels)
        if len(a) != len(b):
            raise ValueError(f"q_a and q_b must have the same number of rows, got {len(a)} and {len(b)}")
        found = None
        if self.clusters or cluster is not None:
            found = find_labels(cluster, "cluster", len(a), expected=self.clusters, option="clusters")
        with self._lock:
            contents = self._contents
            if contents.pending + len(a) > MAX_PENDING:
                contents.carry()
            rows, n_clusters = None, 0
            if found is not None:
                rows = contents.labels.append(found[0], contents.n_clusters)[found[1]]
                n_clusters = len(contents.labels.names)
                contents = contents.grow(n_clusters)
            contents.pending += len(a)
            exact_sum_kernel.accumulate_pairs(
                a, b, rows, contents.sums, contents.counts, contents.cluster_sums, contents.cluster_rows,
                contents.sizes, n_clusters,
            )  # fmt: skip
            self._contents = contents
        return self

    # -- merging and states

    def _empty(self) -> PairedContents:
        return PairedContents(
            np.zeros((3, 2, N_CHUNKS_PRODUCTS), np.int64),
            np.zeros(len(_COUNTS), np.int64),
            np.zeros((0, N_CHUNKS_VALUES), np.int64),
            np.zeros(0, np.int64),
            Labels("cluster"),
        )

    def _fold(self, contents: PairedContents) -> PairedContents:
        return self._contents.fold(contents)

    def _export(self, contents: PairedContents) -> Arrays:
        arrays: Arrays = {"sums": contents.sums, "counts": contents.counts}
        if self.clusters:
            order = contents.labels.order(contents.n_clusters)
            arrays["labels"] = contents.labels.export(contents.n_clusters)
            arrays["cluster_sums"] = contents.cluster_sums[order]
            arrays["cluster_rows"] = contents.cluster_rows[order]
        return arrays

    def _import(self, arrays: Arrays) -> PairedContents:
        empty = self._empty()
        sums = take(arrays, "sums", "int64", empty.sums.shape)
        counts = take(arrays, "counts", "int64", empty.counts.shape)
        labels, cluster_sums, cluster_rows = empty.labels, empty.cluster_sums, empty.cluster_rows
        if self.clusters:
            kind = "U" if "labels" in arrays and arrays["labels"].dtype.kind == "U" else "int64"
            labels = adopt_labels(take(arrays, "labels", kind, (None,)), "cluster")
            cluster_sums = take(arrays, "cluster_sums", "int64", (len(labels.names), N_CHUNKS_VALUES))
            cluster_rows = take(arrays, "cluster_rows", "int64", (len(labels.names),))
        refuse_unknown(arrays)
        check_pairs(sums, counts)
        if self.clusters:
            check_clusters(cluster_sums, cluster_rows, sums, counts)
        return PairedContents(sums, counts, cluster_sums, cluster_rows, labels)

    # -- reading

    def result(self) -> PairedResult:
        """Return the comparison of everything seen so far."""
        contents = self._snapshot()
        counts = dict(zip(_COUNTS, contents.counts.tolist(), strict=True))
        n = counts["n_rows"]
        mean_a = mean_b = difference = error = clustered = math.nan
        if n:
            mean = to_fraction(contents.sums[_DIFFERENCE, 0]) / n
            difference = to_float(mean)
            mean_a, mean_b = (to_float(to_fraction(contents.sums[i, 0]) / n) for i in (_A, _B))
            if n > 1:
                square = to_fraction(contents.sums[_DIFFERENCE, 1])
                error = square_root((square - n * mean * mean) / (n * (n - 1)))
            clustered = _clustered_error(contents, mean, n)
        n_clusters = int(np.count_nonzero(contents.cluster_rows))
        return PairedResult(
            **counts, mean_a=mean_a, mean_b=mean_b, mean_difference=difference, standard_error=error,
            clustered_standard_error=clustered, n_clusters=n_clusters,
        )  # fmt: skip


def _clustered_error(contents: PairedContents, mean: Fraction, n: int) -> float:
    """Return the standard error of the mean over n rows if clusters are independent."""
    used: NDArray[np.int64] = np.flatnonzero(contents.cluster_rows)
    if len(used) < 2:
        return math.nan
    # The sum of (S_c - n_c m)^2 is expanded. Fractions are exact, so nothing cancels.
    squares = products = Fraction(0)
    for cluster in used:
        total, rows = to_fraction(contents.cluster_sums[cluster]), int(contents.cluster_rows[cluster])
        squares += total * total
        products += total * rows
    sizes = sum(int(rows) ** 2 for rows in contents.cluster_rows[used])
    spread = squares - 2 * mean * products + mean * mean * sizes
    return square_root(spread * Fraction(len(used), len(used) - 1)) / n

"""What ``PairedDivergence`` holds, and what must be true of it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from .._kernels import exact_sum as exact_sum_kernel
from ._exact import MAX_COUNT, N_CHUNKS_PRODUCTS, N_CHUNKS_VALUES, is_canonical, to_fraction
from ._labels import Labels

_N_ROWS, _A_SMALLER, _B_SMALLER = range(3)


class PairedContents:
    """Sums over pairs of values a and b, in the arrays of the kernel ``exact_sum.accumulate_pairs``.

    The arrays of clusters have room for more than there are. All arrays change in two ways only, each in one step of a
    kernel: pairs are added, or all sums are carried, which changes no value. All else makes new contents.

    Attributes
    ----------
    sums
        Of a - b, a and b, and of their squares.
    counts
        As the fields of ``PairedResult`` that begin with ``n_``.
    cluster_sums, cluster_rows
        The sum of a - b and the number of rows of each cluster.
    labels
        Labels of the clusters.
    sizes
        How many clusters there are.
    pending
        Additions since the sums were carried, or more.
    """

    __slots__ = ("cluster_rows", "cluster_sums", "counts", "labels", "pending", "sizes", "sums")

    def __init__(
        self,
        sums: NDArray[np.int64],
        counts: NDArray[np.int64],
        cluster_sums: NDArray[np.int64],
        cluster_rows: NDArray[np.int64],
        labels: Labels,
    ) -> None:
        self.sums, self.counts = sums, counts
        self.cluster_sums, self.cluster_rows, self.labels = cluster_sums, cluster_rows, labels
        self.sizes = np.array([len(cluster_rows)], np.int64)
        self.pending = 0

    @property
    def n_clusters(self) -> int:
        """How many clusters there are."""
        return int(self.sizes[0])

    def carry(self) -> None:
        """Bring all sums into canonical form."""
        exact_sum_kernel.carry(self.sums.reshape(-1, N_CHUNKS_PRODUCTS))
        exact_sum_kernel.carry(self.cluster_sums)
        self.pending = 0

    def resize(self, n_clusters: int) -> PairedContents:
        """Return contents with arrays of their own, which have room for so many clusters."""
        self.carry()
        n = self.n_clusters
        cluster_sums = np.zeros((n_clusters, N_CHUNKS_VALUES), np.int64)
        cluster_rows = np.zeros(n_clusters, np.int64)
        cluster_sums[:n], cluster_rows[:n] = self.cluster_sums[:n], self.cluster_rows[:n]
        twin = PairedContents(self.sums.copy(), self.counts.copy(), cluster_sums, cluster_rows, self.labels)
        twin.sizes[0] = n
        return twin

    def grow(self, n_clusters: int) -> PairedContents:
        """Return contents with room for so many clusters, or for twice as many as before."""
        n_room = len(self.cluster_rows)
        return self if n_clusters <= n_room else self.resize(max(2 * n_room, n_clusters))

    def copy(self) -> PairedContents:
        """Return carried contents that share nothing that changes."""
        twin = self.resize(self.n_clusters)
        twin.labels = self.labels.copy(self.n_clusters)
        return twin

    def fold(self, other: PairedContents) -> PairedContents:
        """Return contents with those of ``other`` added."""
        clusters = self.labels.fold(other.labels, self.n_clusters)
        twin = self.resize(max(self.n_clusters, int(clusters.max(initial=-1)) + 1))
        twin.sizes[0] = len(twin.cluster_rows)
        twin.cluster_sums[clusters] += other.cluster_sums
        twin.cluster_rows[clusters] += other.cluster_rows
        twin.sums += other.sums
        twin.counts += other.counts
        twin.carry()
        return twin


def check_pairs(sums: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    """Raise where no pairs can have these sums and counts."""
    n, n_differing = int(counts[_N_ROWS]), sum(counts[[_A_SMALLER, _B_SMALLER]].tolist())
    if not ((counts >= 0) & (counts < MAX_COUNT)).all() or n_differing > n:
        raise ValueError("state['counts'] must not be negative or 2^60, nor compare more pairs than there are")
    if not is_canonical(sums):
        raise ValueError("state['sums'] must be in canonical form")
    (d, dd), (a, aa), (b, bb) = ([to_fraction(part) for part in pair] for pair in sums)
    # The inequality of Cauchy and Schwarz. Equal pairs add nothing to the sums of differences.
    if d * d > n_differing * dd or (dd > 0) != (n_differing > 0) or a * a > n * aa or b * b > n * bb:
        raise ValueError("state['sums'] must be those of as many pairs as state['counts'] has")
    # Each difference was rounded, by at most a relative 2^-53, so all of them by less than 2^-52 sqrt(n dd).
    if (n == 0 and sums.any()) or (d - (a - b)) ** 2 * (1 << 104) > n_differing * dd:
        raise ValueError("state['sums'] of differences must be those of the sums of both sides")
    if (d > 0 and counts[_B_SMALLER] == 0) or (d < 0 and counts[_A_SMALLER] == 0):
        raise ValueError("state['sums'] of differences must have the sign that state['counts'] allows")


def check_clusters(
    cluster_sums: NDArray[np.int64], cluster_rows: NDArray[np.int64], sums: NDArray[np.int64], counts: NDArray[np.int64]
) -> None:
    """Raise where no clusters of the pairs with these sums and counts can have these sums and rows."""
    if not is_canonical(cluster_sums):
        raise ValueError("state['cluster_sums'] must be in canonical form")
    n = int(counts[_N_ROWS])
    if not ((cluster_rows >= 0) & (cluster_rows <= n)).all() or sum(cluster_rows.tolist()) != n:
        raise ValueError("state['cluster_rows'] must add up to the rows in state['counts']")
    totals, squares = [to_fraction(part) for part in cluster_sums], Fraction(0)
    for total, rows in zip(totals, cluster_rows.tolist(), strict=True):
        if total and not rows:
            raise ValueError("state['cluster_sums'] must be 0 where state['cluster_rows'] is")
        squares += total * total / max(rows, 1)
    if sum(totals, Fraction(0)) != to_fraction(sums[0, 0]) or squares > to_fraction(sums[0, 1]):
        raise ValueError("state['cluster_sums'] must add up to the sum of differences in state['sums']")

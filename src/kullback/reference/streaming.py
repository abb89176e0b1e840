"""Accumulators in NumPy and fractions: the specification of ``kullback.streaming`` and its kernels.

The twin of ``RowDivergence`` keeps every value. The twins of the kernels ``exact_sum``, ``histogram`` and ``support``
keep each sum as one fraction, where the kernels keep it in chunks of 32 bits. They have no threads, and so their sums
have no parts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .measures import cross_entropy, entropy, kl_divergence

Array = npt.NDArray[Any]
"""An array of numbers. Sums are arrays of objects, which are fractions."""


class RowStatistics(NamedTuple):
    """The number of rows, and the mean and its standard error over them."""

    n_rows: int
    mean: float
    standard_error: float


class RowDivergence:
    """The twin of ``kullback.streaming.RowDivergence``, for finite values without weights."""

    def __init__(self, measures: Sequence[str] = ("kl",)) -> None:
        self.values: dict[str, list[float]] = {measure: [] for measure in measures}

    def update(self, p: npt.ArrayLike, q: npt.ArrayLike) -> None:
        """Add the value of every pair of rows."""
        functions = {
            "kl": lambda: kl_divergence(p, q, normalize=True),
            "cross_entropy": lambda: cross_entropy(p, q, normalize=True),
            "entropy_p": lambda: entropy(p, normalize=True),
        }
        for measure, values in self.values.items():
            values.extend(np.atleast_1d(functions[measure]()).tolist())

    def merge(self, other: RowDivergence) -> None:
        """Add the values that another accumulator holds."""
        for measure, values in self.values.items():
            values.extend(other.values[measure])

    def result(self) -> dict[str, RowStatistics]:
        """Return the mean sum d / n and the standard error sqrt(sum (d - mean)^2 / (n (n - 1))) of each measure."""
        statistics = {}
        for measure, values in self.values.items():
            rows = [Fraction(value) for value in values]
            n = len(rows)
            mean = sum(rows) / n if n else math.nan
            error = math.sqrt(sum((row - mean) ** 2 for row in rows) / (n * (n - 1))) if n > 1 else math.nan
            statistics[measure] = RowStatistics(n, float(mean), error)
        return statistics


# ---- exact_sum


def add_values(values: Array, groups: Array, sums: Array) -> None:
    """Add each value to the sum of its group. Without groups all values are added to the first sum."""
    for i, value in enumerate(values.tolist()):
        sums[groups[i] if len(groups) else 0] += Fraction(value)


def add_products(left: Array, right: Array, groups: Array, sums: Array) -> None:
    """Add each product of two values to the sum of its group. Without groups all are added to the first sum."""
    for i, (a, b) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        sums[groups[i] if len(groups) else 0] += Fraction(a) * Fraction(b)


def accumulate_rows(
    values: Array, n_measures: int, weights: Array | None, groups: Array | None, sums: Array, counts: Array,
    extremes: Array, keys: Array | None, sizes: Array, n_groups: int,
) -> None:  # fmt: skip
    """Add the values x of rows with weights w to the statistics of their measures and groups.

    ``sums`` hold w x and (w x)^2, and with weights also w x w, w and w^2. ``counts`` hold how many values are finite,
    zero, infinite and NaN. ``extremes`` hold the least and the largest finite value. The key of each value that has a
    rank is appended to ``keys``.
    """
    n_keys = int(sizes[1])
    rows = values.reshape(n_measures, -1)
    for measure, i in np.ndindex(*rows.shape):
        value, weight = float(rows[measure, i]), 1.0 if weights is None else float(weights[i])
        if weight == 0:
            continue
        statistic = (0 if groups is None else int(groups[i])) * n_measures + measure
        weighted = value * weight
        is_finite = math.isfinite(value) and math.isfinite(weighted)
        if keys is not None and (is_finite or value > 0):
            keys[n_keys] = statistic * _KEYS_PER_STATISTIC + order_key(value if is_finite else math.inf)
            n_keys += 1
        if not is_finite:
            counts[statistic, 2 if value > 0 else 3] += 1
            continue
        counts[statistic, 0] += 1
        counts[statistic, 1] += value == 0
        extremes[statistic] = min(extremes[statistic, 0], value), max(extremes[statistic, 1], value)
        x, w = Fraction(weighted), Fraction(weight)
        for k, term in enumerate((x, x * x, x * w, w, w * w)[: sums.shape[1]]):
            sums[statistic, k] += term
    sizes[:2] = n_groups, n_keys


_PRECISION = 10
_KEYS_PER_STATISTIC = 1 << (12 + _PRECISION)


def order_key(value: float) -> int:
    """Return an integer key, such that keys have the order of the values.

    It is the sign times the bits of the magnitude without all but ten bits of the mantissa, plus that of zero.
    """
    magnitude = int(np.float64(abs(value)).view(np.int64)) >> (52 - _PRECISION)
    return _KEYS_PER_STATISTIC // 2 + (magnitude if value >= 0 else -magnitude)


def accumulate_pairs(
    a: Array, b: Array, clusters: Array | None, sums: Array, counts: Array, cluster_sums: Array, cluster_rows: Array,
    sizes: Array, n_clusters: int,
) -> None:  # fmt: skip
    """Add pairs of values to the sums of a - b, of a, of b and of their squares, and to the sums of their clusters."""
    for i, pair in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        difference = pair[0] - pair[1]
        infinite = [math.isinf(value) for value in pair]
        if math.isnan(difference) or (math.isinf(difference) and not any(infinite)):
            counts[5] += not all(infinite)
            counts[3:5] += all(infinite)
        elif any(infinite):
            counts[3:5] += infinite
        else:
            counts[:3] += 1, pair[0] < pair[1], pair[1] < pair[0]
            for k, value in enumerate((difference, *pair)):
                sums[k] += Fraction(value), Fraction(value) ** 2
            if clusters is not None:
                cluster_sums[clusters[i]] += Fraction(difference)
                cluster_rows[clusters[i]] += 1
    sizes[0] = n_clusters


def carry(sums: Array, n_chunks: int) -> Array:
    """Return the canonical chunks of sums, which are digits of 32 bits of a number in units of 2^(-16 n_chunks).

    The last digit alone has a sign.
    """
    chunks = np.empty((len(sums), n_chunks), np.int64)
    for i, total in enumerate(sums):
        integer, remainder = divmod(Fraction(total) * 2 ** (16 * n_chunks), 1)
        assert remainder == 0, "no sum of float64 values, or of two of their products, has a smaller unit"
        for k in range(n_chunks - 1):
            integer, chunks[i, k] = divmod(integer, 1 << 32)
        chunks[i, -1] = integer
    return chunks


# ---- histogram


def count_bins(values: Array, edges: Array, n_edges: int, counts_out: Array) -> None:
    """Count the values v of each feature, in bin number sum(edge_i <= v), and NaN values in the last place."""
    for feature, column in enumerate(values.T):
        known = column[~np.isnan(column)]
        places = np.searchsorted(edges[feature, :n_edges], known, side="right")
        counts_out[feature] += np.append(np.bincount(places, minlength=n_edges + 1), len(column) - len(known))


def compare_counts(p: Array, q: Array, measures: Array, smoothing: float, values_out: Array, totals_out: Array) -> None:
    """Compute measures of rows of counts: KL, reverse KL, JS, PSI, total variation and chi-squared, by their codes.

    Row i of q is compared with row i of p, modulo the number of rows of p. The measures are NaN where a side has no
    counts. ``totals_out`` gets the sums of the rows of q.
    """
    totals_out[:] = q.sum(1)
    for row, counts in enumerate(q):
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b = (c + smoothing for c in (p[row % len(p)], counts))
            a, b = a / a.sum(), b / b.sum()
            m = (a + b) / 2

            def relative(x: Array, y: Array) -> Any:
                return np.where(x == 0, 0.0, x * np.log(x / y)).sum() + 0 * x.sum()  # NaN where x is

            found = (
                relative(a, b), relative(b, a), (relative(a, m) + relative(b, m)) / 2,
                relative(a, b) + relative(b, a), np.abs(a - b).sum() / 2,
                np.where(a == b, 0.0, (a - b) ** 2 / b).sum() + 0 * a.sum() * b.sum(),
            )  # fmt: skip
        values_out[:, row] = [found[code] for code in measures]


# ---- support


def _add_terms(values: npt.ArrayLike, sums: Array, infinite: Array, k: int) -> None:
    """Add finite values to sum k, and count the others."""
    for value in np.ravel(values).tolist():
        if math.isfinite(value):
            sums[k] += Fraction(value)
        else:
            infinite[k] += 1


def add_probabilities(p: Array, q: Array, terms: Array, sums: Array, infinite: Array) -> None:
    """Add the terms of a chunk of the support, by their codes, and count those that are infinite."""
    p, q = (np.asarray(side, np.float64) for side in (p, q))

    def relative(x: Array, y: Array) -> Array:  # x log(x / y) - x + y
        return np.where(x == 0, y, x * np.log(x / y) - x + y)

    def product(x: Array, y: Array) -> Array:  # x log y
        return np.where(x == 0, 0.0, x * np.log(y))

    with np.errstate(divide="ignore", invalid="ignore"):
        m = (p + q) / 2
        found = (
            p, q, relative(p, q), relative(q, p), product(p, p), product(q, q), product(p, q),
            (relative(p, m) + relative(q, m)) / 2, np.abs(p - q) / 2,
        )  # fmt: skip
    for k, code in enumerate(terms):
        _add_terms(found[code], sums, infinite, k)


_LARGEST_LOGIT = 2.0**40
"""Larger logits are refused, and logits below its negative count as -inf."""


def survey_logits(logits: Array, survey_out: Array) -> None:
    """Find the highest binary exponent, how many logits are at least -2^40, and how many are refused."""
    counted = logits[logits >= -_LARGEST_LOGIT].astype(np.float64)
    highest = counted.max(initial=-np.inf)
    survey_out[:] = (
        round(highest / math.log(2)) if abs(highest) <= _LARGEST_LOGIT else 0,
        len(counted),
        np.count_nonzero(~(logits <= _LARGEST_LOGIT)),
    )


def add_logits(a: Array, b: Array, wanted: Array, top_a: int, top_b: int, sums: Array, infinite: Array) -> None:
    """Add the terms e^a (1, a - b, a, b) and e^b (1, b - a, b) of each pair of logits.

    A term is added to the window of 32 binary exponents in which its exponential lies. Windows are numbered downwards
    from ``top_a`` and ``top_b``, and terms below the last window are left out.
    """
    for first, n_terms, own, other, top in ((0, 4, a, b, top_a), (4, 3, b, a, top_b)):
        for x, y in zip(own.tolist(), other.tolist(), strict=True):
            if not x >= -_LARGEST_LOGIT:
                continue
            exponent = round(x / math.log(2))
            window = top - exponent // 32
            fraction = math.exp(x - exponent * math.log(2)) * 2.0 ** (exponent % 32)
            for k, factor in enumerate((1.0, x - y, x, y)[:n_terms]):
                if not wanted[first + k]:
                    continue
                if not math.isfinite(fraction * factor):
                    infinite[first + k] += 1
                elif window < len(sums):
                    sums[window, first + k] += Fraction(fraction * factor)

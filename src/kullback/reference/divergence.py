"""What the twins of all measures share: rows of probabilities, and the terms that the measures sum.

p and q hold one distribution in each row, along the last axis. Zeros count as in :func:`scipy.special.rel_entr`: a term
with p = 0 is 0 whatever q is, and a term with p > 0 and q = 0 is infinite.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._options import Axis, RowOptions, check_options

Array = npt.NDArray[np.float64]


class Decomposition(NamedTuple):
    """A cross-entropy and its two parts: ``cross_entropy = entropy + kl_divergence``."""

    entropy: Any
    cross_entropy: Any
    kl_divergence: Any


def elements_last(x: npt.NDArray[Any], axis: Axis) -> Array:
    """Return x in float64 with the elements of each row along the last axis; several axes are taken for one."""
    if axis is None:
        return x.astype(np.float64).reshape(-1)
    axes = axis if isinstance(axis, tuple) else (axis,)
    moved = np.moveaxis(x.astype(np.float64), axes, range(-len(axes), 0))
    return moved.reshape(*moved.shape[: moved.ndim - len(axes)], -1)


def as_rows(x: npt.ArrayLike, axis: Axis, normalize: bool | str, name: str = "p") -> Array:
    """Return the rows of x in float64, with ``axis`` last.

    They are divided by their sums unless ``normalize`` is False, and checked before that where it is "check". A row
    with an entry that is negative or NaN becomes NaN.
    """
    if np.ma.is_masked(x):
        raise ValueError(f"{name} must have no masked elements")
    x = np.asarray(x)
    tolerance = np.sqrt(float(np.finfo(x.dtype).eps)) if x.dtype.kind == "f" else np.inf
    rows = elements_last(x, axis)
    bad = (np.isnan(rows) | (rows < 0)).any(axis=-1, keepdims=True)
    with np.errstate(all="ignore"):
        sums = rows.sum(axis=-1, keepdims=True)
        if normalize == "check" and (bad.any() or (sums == 0).any() or (np.abs(sums - 1) > tolerance).any()):
            raise ValueError(f"{name} must hold probabilities that sum to 1")
        return np.where(bad, np.nan, rows if normalize is False else rows / sums)


LEAST = 1e-304
"""Float64 has few digits for what is much smaller."""


def log_ratio(p: Array, q: Array) -> Array:
    """Return log(p / q) of each element, through log1p where the two are near, and 0 where p = 0."""
    with np.errstate(all="ignore"):
        near = np.abs(p - q) < 0.5 * q
        ratio = np.where(near, np.log1p((p - q) / np.where(near, q, 1)), np.log(p) - np.log(q))
    return np.where(p == 0, 0, ratio)


def kl_terms(p: Array, q: Array) -> Array:
    """Return p log(p / q) - p + q of each element, the terms of the generalised KL divergence of Csiszár (1991)."""
    with np.errstate(all="ignore"):
        terms = p * log_ratio(p, q) - (p - q)
    return np.where(p == 0, q, np.where((q == 0) & (p > 0), np.inf, np.maximum(terms, 0)))


def kl_terms_of_logs(a: Array, b: Array) -> Array:
    """Return the same terms from a = log p and b = log q, of which q may be too small for float64.

    Where a - b = t is small they are p (exp(-t) - 1 + t), whose power series cancels nothing.
    """
    p, q = np.exp(a), np.exp(b)
    with np.errstate(all="ignore"):
        t = np.where((p == 0) | (a == b), 0, a - b)
        near = np.where(np.abs(t) < 0.5, t, 0)
        series = sum((-near) ** k / math.factorial(k) for k in range(2, 20))
        return np.where(p == 0, q, np.where(np.abs(t) < 0.5, p * series, p * t - p + q))


def as_probabilities(x: npt.ArrayLike, options: RowOptions) -> Array:
    """Return the rows of x as probabilities in float64, with ``axis`` last.

    Logits go through the softmax. Smoothing is added last, and the rows are normalised again.
    """
    check_options(options)
    axis, normalize = options.get("axis", -1), options.get("normalize", "check")
    smoothing = options.get("smoothing", 0.0)
    rows: Array
    if options.get("from_logits"):
        rows = np.exp(log_softmax(x, axis, options.get("temperature", 1.0)))
        rows = rows / rows.sum(axis=-1, keepdims=True)
    else:
        rows = as_rows(x, axis, normalize)
        if smoothing:
            rows = elements_last(np.asarray(x), axis)
    if smoothing:
        rows = (rows + smoothing) / (rows + smoothing).sum(axis=-1, keepdims=True)
    return rows


def log_softmax(x: npt.ArrayLike, axis: Any, temperature: float) -> Array:
    """Return the logarithms of the probabilities of logits, with ``axis`` last.

    The largest logit of a row stays out of the sum of the others, beside which it would hide them.
    """
    x = np.asarray(x)
    if x.dtype == np.uint16:  # these are the bits of bfloat16, the upper half of float32
        x = (x.astype(np.uint32) << 16).view(np.float32)
    logits = elements_last(x, axis)
    place = logits.argmax(axis=-1)[..., None]
    below = (logits - np.take_along_axis(logits, place, axis=-1)) / temperature
    others = np.exp(below)
    np.put_along_axis(others, place, 0, axis=-1)
    logs: Array = below - np.log1p(others.sum(axis=-1, keepdims=True))
    return logs


def are_logits(options: RowOptions) -> bool:
    """Whether the logarithms of the probabilities are known better than the probabilities."""
    return bool(options.get("from_logits")) and not options.get("smoothing")


def as_logs(x: npt.ArrayLike, options: RowOptions) -> Array:
    """Return the logarithms of the probabilities, which float64 may not hold where x are logits.

    That of the largest probability of a row comes from the sum of the others, beside which it would hide them.
    """
    if are_logits(options):
        check_options(options)
        return log_softmax(x, options.get("axis", -1), options.get("temperature", 1.0))
    p = as_probabilities(x, options)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs: Array = np.log(p)
    if options.get("normalize", "check") is False:
        return logs
    place = p.argmax(axis=-1)[..., None]
    others = p.copy()
    np.put_along_axis(others, place, 0, axis=-1)
    rest = others.sum(axis=-1, keepdims=True)
    largest = np.where(rest < 0.5, np.log1p(-np.minimum(rest, 0.5)), np.take_along_axis(logs, place, axis=-1))
    np.put_along_axis(logs, place, largest, axis=-1)
    return logs


def pair(p: npt.ArrayLike, q: npt.ArrayLike, options: RowOptions) -> tuple[Array, Array]:
    """Return the rows of both sides as probabilities, broadcast to one shape."""
    first, second = np.broadcast_arrays(as_probabilities(p, options), as_probabilities(q, options))
    return first, second


def pair_of_logs(p: npt.ArrayLike, q: npt.ArrayLike, options: RowOptions) -> tuple[Array, Array]:
    """Return the logarithms of the rows of both sides, broadcast to one shape."""
    first, second = np.broadcast_arrays(as_logs(p, options), as_logs(q, options))
    return first, second


def sum_kl_terms(p: npt.ArrayLike, q: npt.ArrayLike, options: RowOptions) -> Array:
    """Return the KL divergence of each pair of rows, in nats."""
    terms = kl_terms_of_logs(*pair_of_logs(p, q, options)) if are_logits(options) else kl_terms(*pair(p, q, options))
    total: Array = terms.sum(axis=-1)
    return total


def sum_plog(p: Array, logs: Array) -> Array:
    """Return -sum p log q of each row, given log q."""
    with np.errstate(invalid="ignore"):
        total: Array = np.where(p == 0, 0 * np.exp(logs), -p * logs).sum(axis=-1)
    return total


def log_ratio_of_logs(p: Array, q: Array, logs: tuple[Array, Array]) -> Array:
    """Return log(p / q) of each element; from log p and log q where float64 has few digits for p or q."""
    with np.errstate(invalid="ignore"):
        return np.where(np.minimum(p, q) < LEAST, logs[0] - logs[1], log_ratio(p, q))


def power_excess(p: Array, log_p: Array, step: Array) -> Array:
    """Return p (exp(step) - 1) of each element; from log p where exp(step) or p itself leaves float64's range."""
    with np.errstate(all="ignore"):
        excess = np.where((p < LEAST) | (step > 700), np.exp(log_p + step) - p, p * np.expm1(step))
    return np.where(log_p == -np.inf, 0, excess)


def log_mean_power(p: Array, log_p: Array, log_x: Array, power: float) -> Any:
    """Return log sum p x^power for the logarithms of p and x, from its difference from 1 where that is small."""
    with np.errstate(all="ignore"):
        less_one = power_excess(p, log_p, power * log_x).sum(axis=-1)
        logarithm = np.logaddexp.reduce(np.where(log_p == -np.inf, -np.inf, log_p + power * log_x), axis=-1)
    return np.where(np.abs(less_one) < 0.5, np.log1p(np.maximum(less_one, -0.5)), logarithm)


def sum_amari_terms(p: Array, q: Array, logs: tuple[Array, Array], alpha: float) -> Array:
    """Return the sum of (p^alpha q^(1 - alpha) - alpha p - (1 - alpha) q) / (alpha (alpha - 1)) of each pair of rows.

    Exchanging p with q and alpha with 1 - alpha changes nothing, so that the order can be 1/2 or more. A p that is too
    small for float64 has no weight in the orders from 1 on. ``logs`` are log p and log q.
    """
    if alpha < 0.5:
        p, q, logs, alpha = q, p, logs[::-1], 1 - alpha
    ratio = log_ratio_of_logs(p, q, logs)
    with np.errstate(all="ignore"):
        terms = (power_excess(p, logs[0], (alpha - 1) * ratio) / (alpha - 1) - (p - q)) / alpha
    total: Array = np.where((p == 0) & (alpha > 1) | (logs[0] == -np.inf), q / alpha, terms).sum(axis=-1)
    return total


def drop_weightless(logs: Array) -> Array:
    """Return logarithms of probabilities, -inf for those that float64 has no number for, which have no weight."""
    return np.where(logs < -745, -np.inf, logs)

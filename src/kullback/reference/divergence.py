"""What the twins of all measures share: rows of probabilities, and the terms that the measures sum.

p and q hold one distribution in each row, along the last axis. Zeros count as in :func:`scipy.special.rel_entr`: a term
with p = 0 is 0 whatever q is, and a term with p > 0 and q = 0 is infinite.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._options import Axis

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


def log_ratio(p: Array, q: Array) -> Array:
    """Return log(p / q) of each element, through log1p where the two are near, and 0 where p = 0."""
    with np.errstate(all="ignore"):
        near = np.abs(p - q) < 0.5 * q
        ratio = np.where(near, np.log1p((p - q) / np.where(near, q, 1)), np.log(p) - np.log(q))
    return np.where(p == 0, 0, ratio)


def kl_terms(p: Array, q: Array) -> Array:
    """Return p log(p / q) - p + q of each element, the terms of the generalised KL divergence of Csiszár (1991)."""
    with np.errstate(all="ignore"):
        terms = p * log_ratio(p, q) - p + q
    return np.where(p == 0, q, np.where((q == 0) & (p > 0), np.inf, np.maximum(terms, 0)))


def plog(p: Array, q: Array) -> Array:
    """Return -p log q of each element, which is 0 where p = 0."""
    with np.errstate(all="ignore"):
        return np.where(p == 0, 0 * q, -p * np.log(q))


def log_mean_power(p: Array, log_x: Array, power: float) -> Any:
    """Return log sum p x^power for the logarithms of x, from its difference from 1 where that is small."""
    with np.errstate(all="ignore"):
        less_one = np.where(p > 0, p * np.expm1(power * log_x), 0).sum(axis=-1)
        logarithm = np.logaddexp.reduce(np.where(p > 0, np.log(p) + power * log_x, -np.inf), axis=-1)
    return np.where(np.abs(less_one) < 0.5, np.log1p(np.maximum(less_one, -0.5)), logarithm)

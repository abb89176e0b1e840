"""Divergences in NumPy, float64: the specification of ``kullback.divergence``.

p and q are rows along ``axis``; sums run over that axis. Zeros follow scipy.special.rel_entr.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Decomposition(NamedTuple):
    """cross_entropy = entropy + kl_divergence."""

    entropy: Any
    cross_entropy: Any
    kl_divergence: Any


def as_rows(x: npt.ArrayLike, axis: int, normalize: bool | str, name: str = "p") -> Array:
    """Return float64 rows with ``axis`` last, divided by their sums unless ``normalize`` is False."""
    x = np.asarray(x)
    tolerance = np.sqrt(float(np.finfo(x.dtype).eps)) if x.dtype.kind == "f" else np.inf
    rows = np.moveaxis(x.astype(np.float64), axis, -1)
    bad = (np.isnan(rows) | (rows < 0)).any(axis=-1, keepdims=True)
    with np.errstate(all="ignore"):
        sums = rows.sum(axis=-1, keepdims=True)
        if normalize == "check" and (bad.any() or (sums == 0).any() or (np.abs(sums - 1) > tolerance).any()):
            raise ValueError(f"{name} must hold probabilities that sum to 1")
        return np.where(bad, np.nan, rows if normalize is False else rows / sums)


def log_ratio(p: Array, q: Array) -> Array:
    """log(p / q), through log1p where the two are near, and 0 where p = 0."""
    with np.errstate(all="ignore"):
        near = np.abs(p - q) < 0.5 * q
        ratio = np.where(near, np.log1p((p - q) / np.where(near, q, 1)), np.log(p) - np.log(q))
    return np.where(p == 0, 0, ratio)


def kl_terms(p: Array, q: Array) -> Array:
    """P log(p / q) - p + q >= 0: the generalised KL divergence, Csiszar (1991), element by element."""
    with np.errstate(all="ignore"):
        terms = p * log_ratio(p, q) - p + q
    return np.where(p == 0, q, np.where((q == 0) & (p > 0), np.inf, np.maximum(terms, 0)))


def plog(p: Array, q: Array) -> Array:
    """-p log q, 0 where p = 0."""
    with np.errstate(all="ignore"):
        return np.where(p == 0, 0 * q, -p * np.log(q))

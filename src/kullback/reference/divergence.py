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


def finish(values: Array, axis: int, base: float | None, keepdims: bool) -> Any:
    """Change the unit, and put ``axis`` back where it is kept."""
    values = values / (1 if base is None else np.log(base))
    if keepdims:
        return np.expand_dims(values, axis)
    return values[()]


def entropy(
    p: npt.ArrayLike,
    *,
    axis: int = -1,
    base: float | None = None,
    normalize: bool | str = "check",
    keepdims: bool = False,
    n_threads: int | None = None,
) -> Any:
    """H(p) = -sum p log p. Shannon (1948), section 6."""
    p = as_rows(p, axis, normalize)
    return finish(plog(p, p).sum(axis=-1), axis, base, keepdims)


def cross_entropy(
    p: npt.ArrayLike,
    q: npt.ArrayLike,
    *,
    axis: int = -1,
    base: float | None = None,
    normalize: bool | str = "check",
    keepdims: bool = False,
    n_threads: int | None = None,
) -> Any:
    """H(p, q) = -sum p log q."""
    p, q = as_rows(p, axis, normalize), as_rows(q, axis, normalize, "q")
    return finish(plog(p, q).sum(axis=-1), axis, base, keepdims)


def kl_divergence(
    p: npt.ArrayLike,
    q: npt.ArrayLike,
    *,
    axis: int = -1,
    base: float | None = None,
    normalize: bool | str = "check",
    keepdims: bool = False,
    n_threads: int | None = None,
) -> Any:
    """D(p || q) = sum p log(p / q) - p + q. Kullback and Leibler (1951), eq. 2.4; the last two sum to 0."""
    p, q = as_rows(p, axis, normalize), as_rows(q, axis, normalize, "q")
    return finish(kl_terms(p, q).sum(axis=-1), axis, base, keepdims)


def decompose(
    p: npt.ArrayLike,
    q: npt.ArrayLike,
    *,
    axis: int = -1,
    base: float | None = None,
    normalize: bool | str = "check",
    keepdims: bool = False,
    n_threads: int | None = None,
) -> Decomposition:
    """H(p, q) = H(p) + D(p || q)."""
    options: dict[str, Any] = {"axis": axis, "base": base, "normalize": normalize, "keepdims": keepdims}
    return Decomposition(
        entropy(p, **options), cross_entropy(p, q, **options), kl_divergence(p, q, **options)
    )

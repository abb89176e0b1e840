"""Entropy, cross-entropy and the Kullback-Leibler divergence, which part it: H(p, q) = H(p) + KL(p || q)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._rows import row_values

Values = npt.NDArray[np.float64] | np.float64


class Decomposition(NamedTuple):
    """What :func:`decompose` returns: ``cross_entropy = entropy + kl_divergence``, each one value a row."""

    entropy: Any
    cross_entropy: Any
    kl_divergence: Any


def entropy(
    p: npt.ArrayLike,
    *,
    axis: int = -1,
    base: float | None = None,
    normalize: bool | str = "check",
    keepdims: bool = False,
    n_threads: int | None = None,
) -> Any:
    """Return the Shannon entropy ``-sum p log p`` of every row.

    Parameters
    ----------
    p : array_like of float16, bfloat16, float32, float64 or integers
        Distributions along ``axis``; integers are counts, which are divided by their sum.
    axis : int, default -1
        The axis that holds each distribution; the result has it removed.
    base : float, optional
        Base of the logarithm; natural by default, 2 for bits.
    normalize : {"check", True, False}, default "check"
        ``"check"`` raises where a row has a negative or NaN entry or its sum is off 1 by more than
        the square root of its dtype's eps, then divides by the exact sum; ``True`` divides
        without the check, a bad row giving NaN for itself alone; ``False`` sums the row as it is.
    keepdims : bool, default False
        Keep ``axis`` with length 1.
    n_threads : int, optional
        Threads; ``None`` is all. The result's bits do not depend on it.

    Returns
    -------
    float64 array or scalar
        Elements that are 0 contribute 0, as in :func:`scipy.special.entr`.

    Notes
    -----
    One read of the input; sums in float64. C. E. Shannon (1948), A mathematical theory of communication.
    """
    (value,) = row_values(
        p,
        None,
        ("entropy_p",),
        axis=axis,
        base=base,
        normalize=normalize,
        keepdims=keepdims,
        n_threads=n_threads,
    )
    return value


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
    """Return the cross-entropy ``-sum p log q`` of every pair of rows.

    Parameters are those of :func:`kl_divergence`. Where p = 0 an element contributes 0 whatever q
    is; p > 0 with q = 0 gives ``inf``.
    """
    (value,) = row_values(
        p,
        q,
        ("cross_entropy",),
        axis=axis,
        base=base,
        normalize=normalize,
        keepdims=keepdims,
        n_threads=n_threads,
    )
    return value


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
    """Return the Kullback-Leibler divergence ``sum p log(p / q)`` of every pair of rows.

    Parameters
    ----------
    p, q : array_like of float16, bfloat16, float32, float64 or integers
        Distributions along ``axis``, p the true or reference one. Their shapes broadcast, except
        along ``axis``.
    axis, base, normalize, keepdims, n_threads
        As in :func:`entropy`; ``normalize=False`` gives the generalised divergence
        ``sum p log(p / q) - p + q`` (:func:`scipy.special.kl_div`).

    Returns
    -------
    float64 array or scalar
        Never negative for distributions, exactly 0 for equal rows. p = 0 contributes 0 and p > 0 with
        q = 0 gives ``inf``, as in :func:`scipy.special.rel_entr`.

    Notes
    -----
    Each element adds ``p log(p / q) - p + q >= 0``, computed without cancellation, so that the
    result is accurate in relative terms however near the rows are. S. Kullback and R. A. Leibler
    (1951), On information and sufficiency.
    """
    (value,) = row_values(
        p, q, ("kl",), axis=axis, base=base, normalize=normalize, keepdims=keepdims, n_threads=n_threads
    )
    return value


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
    """Return entropy, cross-entropy and KL divergence of every pair of rows, from one read.

    Parameters are those of :func:`kl_divergence`. The cross-entropy is the sum of the other two, which
    are each accurate by themselves, so the identity holds to the last bit. With
    ``normalize=False`` the three are those of unnormalised sums, where H(p, q) = H(p) + KL
    + sum p - sum q.
    """
    measures = ("entropy_p", "kl", "cross_entropy") if normalize is False else ("entropy_p", "kl")
    h, kl, *cross = row_values(
        p, q, measures, axis=axis, base=base, normalize=normalize, keepdims=keepdims, n_threads=n_threads
    )
    return Decomposition(h, cross[0] if cross else h + kl, kl)

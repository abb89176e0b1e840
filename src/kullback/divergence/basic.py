"""Entropy, cross-entropy and the Kullback-Leibler divergence, which part it: H(p, q) = H(p) + KL(p || q)."""

from __future__ import annotations

from typing import Any, NamedTuple, Unpack

import numpy.typing as npt

from ._labels import is_labels, label_loss
from ._rows import RowOptions, row_value, row_values


class Decomposition(NamedTuple):
    """What :func:`decompose` returns: ``cross_entropy = entropy + kl_divergence``, each one value a row."""

    entropy: Any
    cross_entropy: Any
    kl_divergence: Any


def entropy(p: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return the Shannon entropy ``-sum p log p`` of every row.

    Parameters are those of :func:`kl_divergence`. Elements that are 0 contribute 0, as in
    :func:`scipy.special.entr`. One read of the input. C. E. Shannon (1948), A mathematical theory of
    communication.
    """
    return row_value(p, None, "entropy_p", options)


def cross_entropy(
    p: npt.ArrayLike,
    q: npt.ArrayLike,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    **options: Unpack[RowOptions],
) -> Any:
    """Return the cross-entropy ``-sum p log q`` of every pair of rows, or ``-log q[label]``.

    Parameters
    ----------
    p : array_like
        Distributions as in :func:`kl_divergence`; or integer labels, an array with one axis less
        than q: the class of every row.
    q : array_like
        Distributions or, with ``from_logits=True``, logits.
    label_smoothing : float in [0, 1], default 0
        With labels: the part of each target that is spread evenly over all classes.
    ignore_index : int, optional
        With labels: rows with this label are left out, as by ``where``.
    **options
        As in :func:`kl_divergence`.

    Notes
    -----
    p = 0 contributes 0 whatever q is; p > 0 with q = 0 gives ``inf``.
    """
    if is_labels(p, q):
        return label_loss(p, q, label_smoothing, ignore_index, options)
    if label_smoothing != 0 or ignore_index is not None:
        raise ValueError("label_smoothing and ignore_index need integer labels in place of p")
    return row_value(p, q, "cross_entropy", options)


def kl_divergence(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return the Kullback-Leibler divergence ``sum p log(p / q)`` of every pair of rows.

    Parameters
    ----------
    p, q : array_like of float16, bfloat16, float32, float64 or integers
        Distributions along ``axis``, p the true or reference one. Their shapes broadcast, except
        along ``axis``. Integers are counts, which are divided by their sum.
    axis : int, default -1
        The axis that holds each distribution; the result has it removed.
    base : float, optional
        Base of the logarithm; natural by default, 2 for bits.
    normalize : {"check", True, False}, default "check"
        ``"check"`` raises where a row has a negative or NaN entry or its sum is off 1 by more than
        the square root of its dtype's eps, then divides by the exact sum; ``True`` divides
        without the check, a bad row giving NaN for itself alone; ``False`` sums the row as it is: the
        generalised divergence ``sum p log(p / q) - p + q`` (:func:`scipy.special.kl_div`).
    weights : array_like, optional
        A weight for every row, for ``reduction="mean"`` or ``"sum"``.
    where : array_like of bool, optional
        The rows that count; others are neither checked nor reduced, and are NaN in the result.
    reduction : {"none", "mean", "sum"}, default "none"
        One value a row, or their (weighted) mean or sum.
    smoothing : float, default 0
        Amount to add to every element of both sides, which are then normalised again.
    from_logits : bool, default False
        Whether p and q are logits, log-probabilities among them; -inf is probability zero. A uint16
        array is then a view of bfloat16.
    temperature : float, default 1
        Divides the logits.
    keepdims : bool, default False
        Keep ``axis`` with length 1.
    n_threads : int, optional
        Threads; ``None`` is all. The result's bits do not depend on it.
    out : float64 array, optional
        Where to put the result.

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
    return row_value(p, q, "kl", options)


def decompose(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Decomposition:
    """Return entropy, cross-entropy and KL divergence of every pair of rows, from one read.

    Parameters are those of :func:`kl_divergence`, except ``out``. The cross-entropy is the sum of the
    other two, which are each accurate by themselves, so the identity holds to the last bit. With
    ``normalize=False`` the three are those of unnormalised sums, where H(p, q) = H(p) + KL
    + sum p - sum q.
    """
    if options.get("out") is not None:
        raise ValueError("out is not taken by decompose, which returns three arrays")
    plain = options.get("normalize", "check") is False
    measures = ("entropy_p", "kl", "cross_entropy") if plain else ("entropy_p", "kl")
    h, kl, *cross = row_values(p, q, measures, **options)
    return Decomposition(h, cross[0] if cross else h + kl, kl)

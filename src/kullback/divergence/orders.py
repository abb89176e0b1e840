"""Divergences and entropies of an order ``alpha``, whose limits are those of Shannon and of Kullback and Leibler."""

from __future__ import annotations

from typing import Any, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike

from .._checks.scalars import check_finite, check_order
from .._options import (
    ArrayOptions,
    FloatArray,
    ManyRows,
    OneRow,
    ReducedOptions,
    RowOptions,
    ScalarOptions,
    show_options,
)
from ._rows import row_value


@overload
def renyi_divergence(p: OneRow, q: OneRow, *, alpha: float, **options: Unpack[ScalarOptions]) -> float: ...
@overload
def renyi_divergence(p: ArrayLike, q: ArrayLike, *, alpha: float, **options: Unpack[ReducedOptions]) -> float: ...
@overload
def renyi_divergence(p: ManyRows, q: ArrayLike, *, alpha: float, **options: Unpack[ArrayOptions]) -> FloatArray: ...
@overload
def renyi_divergence(p: ArrayLike, q: ArrayLike, *, alpha: float, **options: Unpack[RowOptions]) -> Any: ...
@show_options(RowOptions)
def renyi_divergence(p: ArrayLike, q: ArrayLike, *, alpha: float, **options: Unpack[RowOptions]) -> Any:
    """Return the Rényi divergence ``log(sum p^alpha q^(1 - alpha)) / (alpha - 1)`` of every pair of rows.

    Parameters
    ----------
    p, q : array_like of shape (..., n_elements)
        Distributions, or logits with ``from_logits=True``.
    alpha : float in [0, inf]
        The order. 1 gives the KL divergence, 0 gives ``-log sum q[p > 0]``, and infinity gives ``log max p / q``.
    axis, base, normalize, weights, where, reduction, smoothing, from_logits, temperature, keepdims, n_threads, out
        The options of rows, which :func:`kl_divergence` describes.

    Returns
    -------
    float64 array of shape (...), or scalar
        The divergence of each pair of rows in nats, or in the unit of ``base``. It grows with ``alpha``.

    Raises
    ------
    ValueError
        Where ``alpha`` is negative or NaN; and as :func:`kl_divergence` does.

    References
    ----------
    T. van Erven and P. Harremoës (2014), Rényi divergence and Kullback-Leibler divergence.

    Examples
    --------
    >>> import kullback
    >>> float(kullback.renyi_divergence([0.5, 0.5], [0.25, 0.75], alpha=2).round(4))
    0.2877
    """
    order = check_order(alpha)
    if order == np.inf:
        return row_value(p, q, "max_ratio", options)
    if order in (0, 1):
        return row_value(p, q, "kl" if order else "support", options)
    return row_value(p, q, "renyi", options, alpha=order)


@overload
def alpha_divergence(p: OneRow, q: OneRow, *, alpha: float, **options: Unpack[ScalarOptions]) -> float: ...
@overload
def alpha_divergence(p: ArrayLike, q: ArrayLike, *, alpha: float, **options: Unpack[ReducedOptions]) -> float: ...
@overload
def alpha_divergence(p: ManyRows, q: ArrayLike, *, alpha: float, **options: Unpack[ArrayOptions]) -> FloatArray: ...
@overload
def alpha_divergence(p: ArrayLike, q: ArrayLike, *, alpha: float, **options: Unpack[RowOptions]) -> Any: ...
@show_options(RowOptions)
def alpha_divergence(p: ArrayLike, q: ArrayLike, *, alpha: float, **options: Unpack[RowOptions]) -> Any:
    """Return ``(sum p^alpha q^(1 - alpha) - 1) / (alpha (alpha - 1))`` for every pair of rows.

    Parameters
    ----------
    p, q : array_like of shape (..., n_elements)
        Distributions, or logits with ``from_logits=True``.
    alpha : float
        The order, a finite number. 1 gives KL(p || q) and 0 gives KL(q || p), which are limits. 2 gives half of
        :func:`chi2_divergence`, and 1/2 gives four times the squared Hellinger distance.
    axis, base, normalize, weights, where, reduction, smoothing, from_logits, temperature, keepdims, n_threads, out
        The options of rows, which :func:`kl_divergence` describes. ``base`` changes the two limits
        alone.

    Returns
    -------
    float64 array of shape (...), or scalar
        The divergence of each pair of rows. It is never negative.

    Raises
    ------
    ValueError
        Where ``alpha`` is not finite; and as :func:`kl_divergence` does.

    References
    ----------
    A. Cichocki and S. Amari (2010), Families of alpha- beta- and gamma- divergences, eq. 4.

    Examples
    --------
    >>> import kullback
    >>> float(kullback.alpha_divergence([0.5, 0.5], [0.25, 0.75], alpha=2).round(4))
    0.1667
    """
    order = check_finite(alpha, "alpha")
    if order in (0, 1):
        return row_value(p, q, "kl" if order else "reverse_kl", options)
    return row_value(p, q, "alpha", options, alpha=order)


@overload
def renyi_entropy(p: OneRow, *, alpha: float, **options: Unpack[ScalarOptions]) -> float: ...
@overload
def renyi_entropy(p: ArrayLike, *, alpha: float, **options: Unpack[ReducedOptions]) -> float: ...
@overload
def renyi_entropy(p: ManyRows, *, alpha: float, **options: Unpack[ArrayOptions]) -> FloatArray: ...
@overload
def renyi_entropy(p: ArrayLike, *, alpha: float, **options: Unpack[RowOptions]) -> Any: ...
@show_options(RowOptions)
def renyi_entropy(p: ArrayLike, *, alpha: float, **options: Unpack[RowOptions]) -> Any:
    """Return the Rényi entropy ``log(sum p^alpha) / (1 - alpha)`` of every row.

    Parameters
    ----------
    p : array_like of shape (..., n_elements)
        Distributions, or logits with ``from_logits=True``.
    alpha : float in [0, inf]
        The order. 1 gives Shannon's entropy, and infinity gives ``-log max p``.
    axis, base, normalize, weights, where, reduction, smoothing, from_logits, temperature, keepdims, n_threads, out
        The options of rows, which :func:`kl_divergence` describes.

    Returns
    -------
    float64 array of shape (...), or scalar
        The entropy of each row in nats, or in the unit of ``base``. It falls with ``alpha``.

    Raises
    ------
    ValueError
        Where ``alpha`` is negative or NaN; and as :func:`kl_divergence` does.

    References
    ----------
    A. Rényi (1961), On measures of entropy and information.

    Examples
    --------
    >>> import kullback
    >>> float(kullback.renyi_entropy([0.5, 0.25, 0.25], alpha=2, base=2).round(4))
    1.415
    """
    order = check_order(alpha)
    if order == np.inf:
        return row_value(p, None, "min_entropy", options)
    if order == 1:
        return row_value(p, None, "entropy_p", options)
    return row_value(p, None, "renyi_entropy", options, alpha=order)


@overload
def tsallis_entropy(p: OneRow, *, alpha: float, **options: Unpack[ScalarOptions]) -> float: ...
@overload
def tsallis_entropy(p: ArrayLike, *, alpha: float, **options: Unpack[ReducedOptions]) -> float: ...
@overload
def tsallis_entropy(p: ManyRows, *, alpha: float, **options: Unpack[ArrayOptions]) -> FloatArray: ...
@overload
def tsallis_entropy(p: ArrayLike, *, alpha: float, **options: Unpack[RowOptions]) -> Any: ...
@show_options(RowOptions)
def tsallis_entropy(p: ArrayLike, *, alpha: float, **options: Unpack[RowOptions]) -> Any:
    """Return the Tsallis entropy ``(1 - sum p^alpha) / (alpha - 1)`` of every row.

    Parameters
    ----------
    p : array_like of shape (..., n_elements)
        Distributions, or logits with ``from_logits=True``.
    alpha : float in [0, inf)
        The order. 1 gives Shannon's entropy.
    axis, base, normalize, weights, where, reduction, smoothing, from_logits, temperature, keepdims, n_threads, out
        The options of rows, which :func:`kl_divergence` describes. ``base`` changes order 1 alone.

    Returns
    -------
    float64 array of shape (...), or scalar
        The entropy of each row.

    Raises
    ------
    ValueError
        Where ``alpha`` is negative or not finite; and as :func:`kl_divergence` does.

    References
    ----------
    C. Tsallis (1988), Possible generalization of Boltzmann-Gibbs statistics.

    Examples
    --------
    >>> import kullback
    >>> float(kullback.tsallis_entropy([0.5, 0.25, 0.25], alpha=2).round(4))
    0.625
    """
    order = check_finite(check_order(alpha), "alpha")
    if order == 1:
        return row_value(p, None, "entropy_p", options)
    return row_value(p, None, "tsallis_entropy", options, alpha=order)

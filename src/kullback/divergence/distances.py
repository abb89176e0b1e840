"""Divergences and distances of pairs of rows beyond KL: those that are symmetric, bounded, or metrics."""

from __future__ import annotations

from typing import Any, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike

from .._options import (
    ArrayOptions,
    FloatArray,
    ManyRows,
    OneRow,
    ReducedOptions,
    RowOptions,
    ScalarOptions,
    check_options,
    show_options,
)
from ._rows import row_value, row_values


@overload
def jeffreys_divergence(p: OneRow, q: OneRow, **options: Unpack[ScalarOptions]) -> float: ...
@overload
def jeffreys_divergence(p: ArrayLike, q: ArrayLike, **options: Unpack[ReducedOptions]) -> float: ...
@overload
def jeffreys_divergence(p: ManyRows, q: ArrayLike, **options: Unpack[ArrayOptions]) -> FloatArray: ...
@overload
def jeffreys_divergence(p: ArrayLike, q: ArrayLike, **options: Unpack[RowOptions]) -> Any: ...
@show_options(RowOptions)
def jeffreys_divergence(p: ArrayLike, q: ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return Jeffreys' divergence ``sum (p - q) log(p / q)``, which is ``KL(p || q) + KL(q || p)``.

    Parameters
    ----------
    p, q : array_like of shape (..., n_elements)
        Distributions, or logits with ``from_logits=True``.
    axis, base, normalize, weights, where, reduction, smoothing, from_logits, temperature, keepdims, n_threads, out
        The options of rows, which :func:`kl_divergence` describes.

    Returns
    -------
    float64 array of shape (...), or scalar
        The divergence of each pair of rows in nats, or in the unit of ``base``. It is symmetric, never negative, and
        ``inf`` where an element is 0 on one side alone.

    References
    ----------
    H. Jeffreys (1946), An invariant form for the prior probability in estimation problems.

    Examples
    --------
    >>> import kullback
    >>> float(kullback.jeffreys_divergence([0.5, 0.5], [0.25, 0.75]).round(4))
    0.2747
    """
    return row_value(p, q, "jeffreys", options)


@overload
def population_stability_index(p: OneRow, q: OneRow, **options: Unpack[ScalarOptions]) -> float: ...
@overload
def population_stability_index(p: ArrayLike, q: ArrayLike, **options: Unpack[ReducedOptions]) -> float: ...
@overload
def population_stability_index(p: ManyRows, q: ArrayLike, **options: Unpack[ArrayOptions]) -> FloatArray: ...
@overload
def population_stability_index(p: ArrayLike, q: ArrayLike, **options: Unpack[RowOptions]) -> Any: ...
@show_options(RowOptions)
def population_stability_index(p: ArrayLike, q: ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return the population stability index ``sum (p - q) log(p / q)`` of two samples of a binned feature.

    Parameters
    ----------
    p, q : array_like of shape (..., n_elements)
        How many samples are in each bin, as counts or as shares. Counts are divided by their sums.
    axis, base, normalize, weights, where, reduction, smoothing, from_logits, temperature, keepdims, n_threads, out
        The options of rows, which :func:`kl_divergence` describes.

    Returns
    -------
    float64 array of shape (...), or scalar
        The index of each pair of rows, which is their Jeffreys divergence. It is ``inf`` where a bin is empty on one
        side alone; ``smoothing`` softens that.

    Examples
    --------
    >>> import kullback
    >>> float(kullback.population_stability_index([50, 50], [25, 75]).round(4))
    0.2747
    """
    return row_value(p, q, "jeffreys", options)


@overload
def jensen_shannon_divergence(p: OneRow, q: OneRow, **options: Unpack[ScalarOptions]) -> float: ...
@overload
def jensen_shannon_divergence(p: ArrayLike, q: ArrayLike, **options: Unpack[ReducedOptions]) -> float: ...
@overload
def jensen_shannon_divergence(p: ManyRows, q: ArrayLike, **options: Unpack[ArrayOptions]) -> FloatArray: ...
@overload
def jensen_shannon_divergence(p: ArrayLike, q: ArrayLike, **options: Unpack[RowOptions]) -> Any: ...
@show_options(RowOptions)
def jensen_shannon_divergence(p: ArrayLike, q: ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return ``(KL(p || m) + KL(q || m)) / 2`` with ``m = (p + q) / 2`` for every pair of rows.

    Parameters
    ----------
    p, q : array_like of shape (..., n_elements)
        Distributions, or logits with ``from_logits=True``.
    axis, base, normalize, weights, where, reduction, smoothing, from_logits, temperature, keepdims, n_threads, out
        The options of rows, which :func:`kl_divergence` describes.

    Returns
    -------
    float64 array of shape (...), or scalar
        The divergence of each pair of rows in nats, or in the unit of ``base``. It is symmetric and lies between 0 and
        ``log 2``.

    References
    ----------
    J. Lin (1991), Divergence measures based on the Shannon entropy, eq. 4.1.

    Examples
    --------
    >>> import kullback
    >>> float(kullback.jensen_shannon_divergence([1.0, 0.0], [0.0, 1.0], base=2).round(4))
    1.0
    """
    return row_value(p, q, "js", options)


@overload
def jensen_shannon_distance(p: OneRow, q: OneRow, **options: Unpack[ScalarOptions]) -> float: ...
@overload
def jensen_shannon_distance(p: ArrayLike, q: ArrayLike, **options: Unpack[ReducedOptions]) -> float: ...
@overload
def jensen_shannon_distance(p: ManyRows, q: ArrayLike, **options: Unpack[ArrayOptions]) -> FloatArray: ...
@overload
def jensen_shannon_distance(p: ArrayLike, q: ArrayLike, **options: Unpack[RowOptions]) -> Any: ...
@show_options(RowOptions)
def jensen_shannon_distance(p: ArrayLike, q: ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return the square root of :func:`jensen_shannon_divergence`, which is a metric.

    Parameters
    ----------
    p, q : array_like of shape (..., n_elements)
        Distributions, or logits with ``from_logits=True``.
    axis, base, normalize, weights, where, reduction, smoothing, from_logits, temperature, keepdims, n_threads, out
        The options of rows, which :func:`kl_divergence` describes.

    Returns
    -------
    float64 array of shape (...), or scalar
        The distance of each pair of rows, between 0 and ``sqrt(log 2)``. ``base`` is that of the divergence under the
        root.

    Notes
    -----
    This is what :func:`scipy.spatial.distance.jensenshannon` calls the Jensen-Shannon distance.

    References
    ----------
    D. M. Endres and J. E. Schindelin (2003), A new metric for probability distributions.

    Examples
    --------
    >>> import kullback
    >>> float(kullback.jensen_shannon_distance([1.0, 0.0], [0.0, 1.0]).round(4))
    0.8326
    """
    return row_value(p, q, "js_distance", options)


@overload
def hellinger_distance(p: OneRow, q: OneRow, **options: Unpack[ScalarOptions]) -> float: ...
@overload
def hellinger_distance(p: ArrayLike, q: ArrayLike, **options: Unpack[ReducedOptions]) -> float: ...
@overload
def hellinger_distance(p: ManyRows, q: ArrayLike, **options: Unpack[ArrayOptions]) -> FloatArray: ...
@overload
def hellinger_distance(p: ArrayLike, q: ArrayLike, **options: Unpack[RowOptions]) -> Any: ...
@show_options(RowOptions)
def hellinger_distance(p: ArrayLike, q: ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return the Hellinger distance ``sqrt(sum (sqrt p - sqrt q)^2 / 2)`` of every pair of rows.

    Parameters
    ----------
    p, q : array_like of shape (..., n_elements)
        Distributions, or logits with ``from_logits=True``.
    axis, base, normalize, weights, where, reduction, smoothing, from_logits, temperature, keepdims, n_threads, out
        The options of rows, which :func:`kl_divergence` describes. The result has no unit, so that ``base``
        changes nothing.

    Returns
    -------
    float64 array of shape (...), or scalar
        The distance of each pair of rows, between 0 and 1.

    References
    ----------
    E. Hellinger (1909), Neue Begründung der Theorie quadratischer Formen von unendlichvielen Veränderlichen.

    Examples
    --------
    >>> import kullback
    >>> float(kullback.hellinger_distance([1.0, 0.0], [0.0, 1.0]).round(4))
    1.0
    """
    return row_value(p, q, "hellinger", options)


@overload
def total_variation_distance(p: OneRow, q: OneRow, **options: Unpack[ScalarOptions]) -> float: ...
@overload
def total_variation_distance(p: ArrayLike, q: ArrayLike, **options: Unpack[ReducedOptions]) -> float: ...
@overload
def total_variation_distance(p: ManyRows, q: ArrayLike, **options: Unpack[ArrayOptions]) -> FloatArray: ...
@overload
def total_variation_distance(p: ArrayLike, q: ArrayLike, **options: Unpack[RowOptions]) -> Any: ...
@show_options(RowOptions)
def total_variation_distance(p: ArrayLike, q: ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return the total variation distance ``sum |p - q| / 2`` of every pair of rows.

    Parameters
    ----------
    p, q : array_like of shape (..., n_elements)
        Distributions, or logits with ``from_logits=True``.
    axis, base, normalize, weights, where, reduction, smoothing, from_logits, temperature, keepdims, n_threads, out
        The options of rows, which :func:`kl_divergence` describes. The result has no unit, so that ``base``
        changes nothing.

    Returns
    -------
    float64 array of shape (...), or scalar
        The distance of each pair of rows, between 0 and 1.

    Examples
    --------
    >>> import kullback
    >>> float(kullback.total_variation_distance([0.5, 0.5], [0.25, 0.75]).round(4))
    0.25
    """
    return row_value(p, q, "total_variation", options)


@overload
def chi2_divergence(p: OneRow, q: OneRow, **options: Unpack[ScalarOptions]) -> float: ...
@overload
def chi2_divergence(p: ArrayLike, q: ArrayLike, **options: Unpack[ReducedOptions]) -> float: ...
@overload
def chi2_divergence(p: ManyRows, q: ArrayLike, **options: Unpack[ArrayOptions]) -> FloatArray: ...
@overload
def chi2_divergence(p: ArrayLike, q: ArrayLike, **options: Unpack[RowOptions]) -> Any: ...
@show_options(RowOptions)
def chi2_divergence(p: ArrayLike, q: ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return Pearson's chi-squared divergence ``sum (p - q)^2 / q`` of every pair of rows.

    Parameters
    ----------
    p, q : array_like of shape (..., n_elements)
        Distributions, or logits with ``from_logits=True``.
    axis, base, normalize, weights, where, reduction, smoothing, from_logits, temperature, keepdims, n_threads, out
        The options of rows, which :func:`kl_divergence` describes. The result has no unit, so that ``base``
        changes nothing.

    Returns
    -------
    float64 array of shape (...), or scalar
        The divergence of each pair of rows. It is ``inf`` where q = 0 and p > 0.

    References
    ----------
    K. Pearson (1900), On the criterion that a given system of deviations is such that it can be reasonably supposed to
    have arisen from random sampling.

    Examples
    --------
    >>> import kullback
    >>> float(kullback.chi2_divergence([0.5, 0.5], [0.25, 0.75]).round(4))
    0.3333
    """
    return row_value(p, q, "chi2", options)


@overload
def bhattacharyya_distance(p: OneRow, q: OneRow, **options: Unpack[ScalarOptions]) -> float: ...
@overload
def bhattacharyya_distance(p: ArrayLike, q: ArrayLike, **options: Unpack[ReducedOptions]) -> float: ...
@overload
def bhattacharyya_distance(p: ManyRows, q: ArrayLike, **options: Unpack[ArrayOptions]) -> FloatArray: ...
@overload
def bhattacharyya_distance(p: ArrayLike, q: ArrayLike, **options: Unpack[RowOptions]) -> Any: ...
@show_options(RowOptions)
def bhattacharyya_distance(p: ArrayLike, q: ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return the Bhattacharyya distance ``-log sum sqrt(p q)`` of every pair of rows.

    Parameters
    ----------
    p, q : array_like of shape (..., n_elements)
        Distributions, or logits with ``from_logits=True``.
    axis, base, normalize, weights, where, reduction, smoothing, from_logits, temperature, keepdims, n_threads, out
        The options of rows, which :func:`kl_divergence` describes.

    Returns
    -------
    float64 array of shape (...), or scalar
        The distance of each pair of rows in nats, or in the unit of ``base``. It is ``inf`` where no element is
        positive on both sides.

    Notes
    -----
    Near rows have a sum near 1, whose logarithm loses digits. It is then taken from the squared Hellinger distance,
    which is ``1 - sum sqrt(p q)`` and loses none.

    References
    ----------
    A. Bhattacharyya (1943), On a measure of divergence between two statistical populations.

    Examples
    --------
    >>> import kullback
    >>> float(kullback.bhattacharyya_distance([0.5, 0.5], [0.25, 0.75]).round(4))
    0.0347
    """
    base = options.get("base")
    unit = 1.0 if base is None else float(np.log(base))
    plain = options.get("normalize", "check") is False

    def combine(values: list[Any]) -> list[Any]:
        affinity, distance = values
        with np.errstate(divide="ignore"):
            far = -np.log(affinity)
            near = far if plain else -np.log1p(-np.minimum(np.square(distance), 0.75))
        return [np.where(np.asarray(affinity) > 0.5, near, far)[()] / unit]

    return row_values(p, q, ("affinity", "hellinger"), **check_options(options), transform=combine)[0]

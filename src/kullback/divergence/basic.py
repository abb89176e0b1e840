"""Entropy, cross-entropy and the Kullback-Leibler divergence, which add up: H(p, q) = H(p) + KL(p || q)."""

from __future__ import annotations

from typing import Any, NamedTuple, Unpack, cast, overload

from numpy.typing import ArrayLike

from .._options import (
    ArrayOptions,
    FloatArray,
    ManyRows,
    OneRow,
    ReducedOptions,
    RowOptions,
    ScalarOptions,
    SeveralOptions,
    check_options,
    show_options,
)
from ._labels import is_labels, label_loss
from ._rows import row_value, row_values


class Decomposition(NamedTuple):
    """A cross-entropy and its two parts: ``cross_entropy = entropy + kl_divergence``.

    Attributes
    ----------
    entropy : float64 array or scalar
        H(p), in nats unless a base was given.
    cross_entropy : float64 array or scalar
        H(p, q), in the same unit.
    kl_divergence : float64 array or scalar
        KL(p || q), in the same unit.
    """

    entropy: Any
    cross_entropy: Any
    kl_divergence: Any


@overload
def entropy(p: OneRow, **options: Unpack[ScalarOptions]) -> float: ...
@overload
def entropy(p: ArrayLike, **options: Unpack[ReducedOptions]) -> float: ...
@overload
def entropy(p: ManyRows, **options: Unpack[ArrayOptions]) -> FloatArray: ...
@overload
def entropy(p: ArrayLike, **options: Unpack[RowOptions]) -> Any: ...
@show_options(RowOptions)
def entropy(p: ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return the Shannon entropy ``-sum p log p`` of every row.

    Parameters
    ----------
    p : array_like of shape (..., n_elements)
        Distributions, or logits with ``from_logits=True``.
    axis, base, normalize, weights, where, reduction, smoothing, from_logits, temperature, keepdims, n_threads, out
        The options of rows, which :func:`kl_divergence` describes.

    Returns
    -------
    float64 array of shape (...), or scalar
        The entropy of each row in nats, or in the unit of ``base``. It lies between 0 and ``log n_elements``.

    Notes
    -----
    An element that is 0 contributes 0, as in :func:`scipy.special.entr`. The input is read once.

    References
    ----------
    C. E. Shannon (1948), A mathematical theory of communication.

    Examples
    --------
    >>> import kullback
    >>> float(kullback.entropy([0.25, 0.25, 0.25, 0.25], base=2))
    2.0
    """
    return row_value(p, None, "entropy_p", options)


@overload
def perplexity(p: OneRow, **options: Unpack[ScalarOptions]) -> float: ...
@overload
def perplexity(p: ArrayLike, **options: Unpack[ReducedOptions]) -> float: ...
@overload
def perplexity(p: ManyRows, **options: Unpack[ArrayOptions]) -> FloatArray: ...
@overload
def perplexity(p: ArrayLike, **options: Unpack[RowOptions]) -> Any: ...
@show_options(RowOptions)
def perplexity(p: ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return the perplexity ``exp(H(p))`` of every row, its effective number of outcomes.

    Parameters
    ----------
    p : array_like of shape (..., n_elements)
        Distributions, or logits with ``from_logits=True``.
    axis, base, normalize, weights, where, reduction, smoothing, from_logits, temperature, keepdims, n_threads, out
        The options of rows, which :func:`kl_divergence` describes. The result has no unit, so that ``base``
        changes nothing.

    Returns
    -------
    float64 array of shape (...), or scalar
        The perplexity of each row, between 1 and ``n_elements``.

    Examples
    --------
    >>> import kullback
    >>> float(kullback.perplexity([0.25, 0.25, 0.25, 0.25]).round(4))
    4.0
    """
    return row_value(p, None, "perplexity_p", {**options, "base": None})


@overload
def cross_entropy(
    p: OneRow, q: OneRow, *, label_smoothing: float = 0.0, ignore_index: int | None = None,
    **options: Unpack[ScalarOptions],
) -> float: ...  # fmt: skip
@overload
def cross_entropy(
    p: ArrayLike, q: ArrayLike, *, label_smoothing: float = 0.0, ignore_index: int | None = None,
    **options: Unpack[ReducedOptions],
) -> float: ...  # fmt: skip
@overload
def cross_entropy(
    p: ManyRows, q: ArrayLike, *, label_smoothing: float = 0.0, ignore_index: int | None = None,
    **options: Unpack[ArrayOptions],
) -> FloatArray: ...  # fmt: skip
@overload
def cross_entropy(
    p: ArrayLike, q: ArrayLike, *, label_smoothing: float = 0.0, ignore_index: int | None = None,
    **options: Unpack[RowOptions],
) -> Any: ...  # fmt: skip
@show_options(RowOptions)
def cross_entropy(
    p: ArrayLike,
    q: ArrayLike,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    **options: Unpack[RowOptions],
) -> Any:
    """Return the cross-entropy of every pair of rows: ``-sum p log q``, or ``-log q[label]``.

    Parameters
    ----------
    p : array_like of shape (..., n_elements), or integer array_like of shape (...)
        Distributions; or the class of every row of q, as integer labels in an array with one axis less than q.
    q : array_like of shape (..., n_elements)
        Distributions, or logits with ``from_logits=True``.
    label_smoothing : float in [0, 1], default 0
        The part of each target that is spread evenly over all classes. It needs labels.
    ignore_index : int, optional
        Rows with this label are left out, as ``where`` leaves rows out. It needs labels.
    axis, base, normalize, weights, where, reduction, smoothing, from_logits, temperature, keepdims, n_threads, out
        The options of rows, which :func:`kl_divergence` describes.

    Returns
    -------
    float64 array of shape (...), or scalar
        The cross-entropy of each row in nats, or in the unit of ``base``.

    Raises
    ------
    ValueError
        Where a label is no class, or an option of labels is given without labels; and as :func:`kl_divergence` does.

    Notes
    -----
    An element with p = 0 contributes 0 whatever q is; p > 0 with q = 0 gives ``inf``.

    Examples
    --------
    >>> import kullback
    >>> float(kullback.cross_entropy([0.5, 0.5], [0.25, 0.75], base=2).round(4))
    1.2075
    >>> kullback.cross_entropy([0, 1], [[0.5, 0.5], [0.75, 0.25]], base=2)
    array([1., 2.])
    """
    if is_labels(p, q):
        return label_loss(p, q, label_smoothing, ignore_index, options)
    if label_smoothing != 0 or ignore_index is not None:
        raise ValueError("label_smoothing and ignore_index need integer labels in place of p")
    return row_value(p, q, "cross_entropy", options)


@overload
def kl_divergence(p: OneRow, q: OneRow, **options: Unpack[ScalarOptions]) -> float: ...
@overload
def kl_divergence(p: ArrayLike, q: ArrayLike, **options: Unpack[ReducedOptions]) -> float: ...
@overload
def kl_divergence(p: ManyRows, q: ArrayLike, **options: Unpack[ArrayOptions]) -> FloatArray: ...
@overload
def kl_divergence(p: ArrayLike, q: ArrayLike, **options: Unpack[RowOptions]) -> Any: ...
@show_options(RowOptions)
def kl_divergence(p: ArrayLike, q: ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return the Kullback-Leibler divergence ``sum p log(p / q)`` of every pair of rows.

    Parameters
    ----------
    p, q : array_like of float16, bfloat16, float32, float64 or integers, of shape (..., n_elements)
        Distributions along ``axis``; p is the true or reference one. Their shapes broadcast, except along ``axis``.
        Integers are counts, which are divided by their sum, and so are booleans. Extended precision is rounded to
        float64. Masked elements are refused. The columns of frames, and the elements of series, are matched by name
        where both have names; rows whose indexes differ are refused. Sparse matrices of SciPy are rows, too.
    axis : int, tuple of int or None, default -1
        The axis along which each distribution lies. The result does not have it. Several axes are taken for one, and
        ``None`` stands for all axes.
    base : float, optional
        The base of the logarithm, above 1, and so the unit of the result: 2 gives bits. By default the logarithm is
        natural, and the result is in nats.
    normalize : {"check", True, False}, default "check"
        What becomes of rows that do not sum to 1. ``"check"`` raises where a row has a negative or NaN entry, or where
        its sum differs from 1 by more than the square root of its dtype's eps; then it divides the row by its exact
        sum. ``True`` divides without the check, and a bad row gives NaN for itself alone. ``False`` takes the row as
        it is, which gives the generalised divergence ``sum p log(p / q) - p + q`` of :func:`scipy.special.kl_div`.
    weights : array_like of shape (...), optional
        A weight for every row. It needs ``reduction="mean"`` or ``"sum"``.
    where : array_like of bool of shape (...), optional
        The rows that count. Other rows are not checked and not reduced, and they are NaN in the result.
    reduction : {"none", "mean", "sum"}, default "none"
        Whether to return a value for each row, their weighted mean, or their weighted sum.
    smoothing : float, default 0
        An amount that is added to every element of both sides. The sides are then normalised again.
    from_logits : bool, default False
        Whether p and q are logits, of which log-probabilities are a special case; -inf is probability zero. An array
        of uint16 is then taken for the bits of bfloat16.
    temperature : float, default 1
        What the logits are divided by. It needs ``from_logits=True``.
    keepdims : bool, default False
        Whether to keep ``axis`` in the result, with length 1 for each of its axes.
    n_threads : int, optional
        How many threads to use; ``None`` is all. No bit of the result depends on it.
    out : float64 array, optional
        An array to write the result to, which is then returned.

    Returns
    -------
    float64 array of shape (...), or scalar
        A value for each pair of rows, or one in all with ``reduction``. It is never negative for distributions, and
        exactly 0 for equal rows. An element with p = 0 contributes 0, and p > 0 with q = 0 gives ``inf``, as in
        :func:`scipy.special.rel_entr`.

    Raises
    ------
    TypeError
        Where an array holds no numbers, an option has the wrong type, or there is no such option.
    ValueError
        Where the shapes do not fit, a row fails the check, or an option is out of its range.

    Notes
    -----
    Each element adds ``p log(p / q) - p + q``, which is never negative and is computed without cancellation. The result
    is therefore accurate in relative terms, however near the rows are.

    References
    ----------
    S. Kullback and R. A. Leibler (1951), On information and sufficiency.

    Examples
    --------
    >>> import kullback
    >>> float(kullback.kl_divergence([0.5, 0.5], [0.25, 0.75], base=2).round(4))
    0.2075
    >>> p = [[0.5, 0.5], [1.0, 0.0]]
    >>> kullback.kl_divergence(p, [0.5, 0.5], base=2)
    array([0., 1.])
    >>> float(kullback.kl_divergence(p, [0.5, 0.5], base=2, reduction="mean"))
    0.5
    """
    return row_value(p, q, "kl", options)


@show_options(SeveralOptions)
def decompose(p: ArrayLike, q: ArrayLike, **options: Unpack[SeveralOptions]) -> Decomposition:
    """Return the entropy, the cross-entropy and the KL divergence of every pair of rows, from one read of memory.

    Parameters
    ----------
    p, q : array_like of shape (..., n_elements)
        Distributions, or logits with ``from_logits=True``.
    axis, base, normalize, weights, where, reduction, smoothing, from_logits, temperature, keepdims, n_threads
        The options of rows, which :func:`kl_divergence` describes.

    Returns
    -------
    Decomposition
        Three float64 arrays of shape (...), or three scalars.

    Raises
    ------
    ValueError
        As :func:`kl_divergence` does.

    Notes
    -----
    The entropy and the divergence are each accurate by themselves. The cross-entropy is their sum, so that the identity
    holds to the last bit. With ``normalize=False`` the three are those of unnormalised sums, where
    H(p, q) = H(p) + KL + sum p - sum q.

    Examples
    --------
    >>> import kullback
    >>> parts = kullback.decompose([0.5, 0.5], [0.25, 0.75], base=2)
    >>> [float(part.round(4)) for part in parts]
    [1.0, 1.2075, 0.2075]
    """
    if options.get("out") is not None:
        raise ValueError("out is not taken by decompose, which returns three arrays")
    plain = options.get("normalize", "check") is False
    measures = ("entropy_p", "kl", "cross_entropy") if plain else ("entropy_p", "kl")
    h, kl, *cross = row_values(p, q, measures, **check_options(cast(RowOptions, options)))
    return Decomposition(h, cross[0] if cross else h + kl, kl)

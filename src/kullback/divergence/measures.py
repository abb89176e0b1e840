"""What is measured of labels, of tables, and by several measures at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike

from .._checks.arrays import as_numbers
from .._checks.probabilities import check_tables
from .._checks.scalars import check_choice
from .._kernels import divergence_rows as kernel
from .._options import (
    ManyRows,
    OneRow,
    ReducedOptions,
    ReducedTableOptions,
    RowOptions,
    ScalarOptions,
    SeveralOptions,
    SeveralReducedOptions,
    SeveralScalarOptions,
    TableOptions,
    check_options,
    show_options,
)
from ._labels import is_labels, label_loss
from ._rows import row_value, row_values

COMPARED = kernel.COMPARED
"""The names of the measures that :func:`compare` knows."""


@overload
def log_loss(
    y: OneRow, p: OneRow, *, label_smoothing: float = 0.0, ignore_index: int | None = None,
    **options: Unpack[ScalarOptions],
) -> float: ...  # fmt: skip
@overload
def log_loss(
    y: ArrayLike, p: ArrayLike, *, label_smoothing: float = 0.0, ignore_index: int | None = None,
    **options: Unpack[ReducedOptions],
) -> float: ...  # fmt: skip
@overload
def log_loss(
    y: ArrayLike, p: ArrayLike, *, label_smoothing: float = 0.0, ignore_index: int | None = None,
    **options: Unpack[RowOptions],
) -> Any: ...  # fmt: skip
@show_options(RowOptions)
def log_loss(
    y: ArrayLike,
    p: ArrayLike,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    **options: Unpack[RowOptions],
) -> Any:
    """Return the loss ``-log p[y]`` of every row, or its mean with ``reduction="mean"``.

    Parameters
    ----------
    y : integer array_like of shape (...), or array_like of shape (..., n_classes)
        The class of every row of p, in an array with one axis less than p; or distributions over the classes, which are
        always probabilities.
    p : array_like of shape (..., n_classes)
        Predicted probabilities, or logits with ``from_logits=True``.
    label_smoothing : float in [0, 1], default 0
        The part of each target that is spread evenly over all classes. It needs labels.
    ignore_index : int, optional
        Rows with this label are left out, as ``where`` leaves rows out. It needs labels.
    axis, base, normalize, weights, where, reduction, smoothing, from_logits, temperature, keepdims, n_threads, out
        The options of rows, which :func:`kl_divergence` describes. ``temperature`` divides the logits of p alone.

    Returns
    -------
    float64 array of shape (...), or scalar
        The loss of each row in nats, or in the unit of ``base``. Nothing is clipped: a label whose probability is zero
        costs ``inf``.

    Raises
    ------
    ValueError
        Where a label is no class, or an option of labels is given without labels; and as :func:`kl_divergence` does.

    Examples
    --------
    >>> import kullback
    >>> kullback.log_loss([0, 1], [[0.5, 0.5], [0.75, 0.25]], base=2)
    array([1., 2.])
    """
    if is_labels(y, p):
        return label_loss(y, p, label_smoothing, ignore_index, options, name="p")
    if label_smoothing != 0 or ignore_index is not None:
        raise ValueError("label_smoothing and ignore_index need integer labels in y")
    if not options.get("from_logits"):
        return row_value(y, p, "cross_entropy", options, names=("y", "p"))
    # The kernel takes both sides as logits, so y becomes its own logarithm, times the temperature that it divides by.
    axis, normalize, where = options.get("axis", -1), options.get("normalize", "check"), options.get("where")
    row_values(y, None, ("mass",), axis=axis, normalize=normalize, where=where, names=("y", ""))
    with np.errstate(divide="ignore"):
        logs = np.log(as_numbers(y, "y").astype(np.float64)) * options.get("temperature", 1.0)
    return row_value(logs, p, "cross_entropy", options, names=("y", "p"))


@overload
def mutual_information(counts: ManyRows, **options: Unpack[TableOptions]) -> float: ...
@overload
def mutual_information(counts: ArrayLike, **options: Unpack[ReducedTableOptions]) -> float: ...
@overload
def mutual_information(counts: ArrayLike, **options: Unpack[TableOptions]) -> Any: ...
@show_options(TableOptions)
def mutual_information(counts: ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return the mutual information of every joint table, which is ``KL(joint || product of its marginals)``.

    Parameters
    ----------
    counts : array_like of shape (..., n_rows, n_columns)
        Tables of counts or of probabilities along the last two axes. They are always divided by their sums.
    base, weights, where, reduction, n_threads, out
        Options of :func:`kl_divergence`, each with a table in place of a row.

    Returns
    -------
    float64 array of shape (...), or scalar
        The mutual information of each table in nats, or in the unit of ``base``.

    Raises
    ------
    TypeError
        Where an option is given that tables do not have.
    ValueError
        Where ``counts`` has fewer than two axes; and as :func:`kl_divergence` does.

    Examples
    --------
    >>> import kullback
    >>> float(kullback.mutual_information([[5, 0], [0, 5]], base=2).round(4))
    1.0
    """
    for name in ("axis", "keepdims", "normalize", "from_logits", "temperature", "smoothing"):
        if name in options:
            raise TypeError(f"mutual_information() got an unexpected keyword argument {name!r}")
    tables = check_tables(counts, "counts")
    rows, columns = tables.sum(axis=-1, keepdims=True), tables.sum(axis=-2, keepdims=True)
    total = rows.sum(axis=-2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        product = (rows / total) * (columns / total)
    flat = (*tables.shape[:-2], tables.shape[-2] * tables.shape[-1])
    return row_value(tables.reshape(flat), product.reshape(flat), "kl", {**options, "normalize": True})


@overload
def compare(
    p: OneRow, q: OneRow, measures: Sequence[str] = ..., **options: Unpack[SeveralScalarOptions]
) -> dict[str, float]: ...
@overload
def compare(
    p: ArrayLike, q: ArrayLike, measures: Sequence[str] = ..., **options: Unpack[SeveralReducedOptions]
) -> dict[str, float]: ...
@overload
def compare(
    p: ArrayLike, q: ArrayLike, measures: Sequence[str] = ..., **options: Unpack[SeveralOptions]
) -> dict[str, Any]: ...
@show_options(SeveralOptions)
def compare(
    p: ArrayLike,
    q: ArrayLike,
    measures: Sequence[str] = ("kl", "reverse_kl", "js", "entropy_p", "entropy_q", "top1_agreement"),
    **options: Unpack[RowOptions],
) -> dict[str, Any]:
    """Return several measures of every pair of rows, from one read of memory.

    Parameters
    ----------
    p, q : array_like of shape (..., n_elements)
        Distributions, or logits with ``from_logits=True``.
    measures : sequence of str, default ("kl", "reverse_kl", "js", "entropy_p", "entropy_q", "top1_agreement")
        Names among "kl", "reverse_kl", "cross_entropy", "entropy_p", "entropy_q", "js", "js_distance", "jeffreys",
        "hellinger", "total_variation", "chi2" and "top1_agreement". The last is 1 where p and q have their largest
        element at the same place, and 0 elsewhere.
    axis, base, normalize, weights, where, reduction, smoothing, from_logits, temperature, keepdims, n_threads
        The options of rows, which :func:`kl_divergence` describes.

    Returns
    -------
    dict of str to float64 array of shape (...), or to scalar
        The values of each measure under its name.

    Raises
    ------
    ValueError
        Where a measure has an unknown name, or none is named; and as :func:`kl_divergence` does.

    Examples
    --------
    >>> import kullback
    >>> found = kullback.compare([0.5, 0.5], [0.25, 0.75], ("kl", "total_variation"), base=2)
    >>> {name: float(value.round(4)) for name, value in found.items()}
    {'kl': 0.2075, 'total_variation': 0.25}
    """
    if options.get("out") is not None:
        raise ValueError("out is not taken by compare, which returns several arrays")
    if isinstance(measures, str):
        measures = (measures,)
    for name in measures:
        check_choice(name, "measures", COMPARED)
    if not measures:
        raise ValueError(f"measures must name at least one of {', '.join(COMPARED)}")
    names = tuple(dict.fromkeys(measures))
    return dict(zip(names, row_values(p, q, names, **check_options(options)), strict=True))

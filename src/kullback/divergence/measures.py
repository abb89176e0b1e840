"""What is measured of labels, of tables, and by several measures at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Unpack, overload

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from .._checks.arrays import as_numbers
from .._checks.labels import as_classes
from .._checks.names import match_names
from .._checks.probabilities import check_tables
from .._checks.scalars import check_choice
from .._checks.sparse import is_sparse
from .._kernels import divergence_rows as kernel
from .._options import (
    FloatArray,
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
from ._labels import class_loss, match_rows
from ._rows import row_value, row_values

COMPARED = kernel.COMPARED
"""The names of the measures that :func:`compare` knows."""


@overload
def log_loss(
    y: OneRow, p: OneRow, *, labels: ArrayLike | None = None, label_smoothing: float = 0.0,
    ignore_index: int | None = None, **options: Unpack[ScalarOptions],
) -> float: ...  # fmt: skip
@overload
def log_loss(
    y: ArrayLike, p: ArrayLike, *, labels: ArrayLike | None = None, label_smoothing: float = 0.0,
    ignore_index: int | None = None, **options: Unpack[ReducedOptions],
) -> float: ...  # fmt: skip
@overload
def log_loss(
    y: ArrayLike, p: ArrayLike, *, labels: ArrayLike | None = None, label_smoothing: float = 0.0,
    ignore_index: int | None = None, **options: Unpack[RowOptions],
) -> Any: ...  # fmt: skip
@show_options(RowOptions)
def log_loss(
    y: ArrayLike,
    p: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    **options: Unpack[RowOptions],
) -> Any:
    """Return the loss ``-log p[y]`` of every row, or its mean with ``reduction="mean"``.

    Parameters
    ----------
    y : array_like of integers, booleans or strings of shape (...), or array_like of shape (..., n_classes)
        The class of every row of p, in an array with one axis less than p; or distributions over the classes, which are
        always probabilities. Integers in [0, n_classes) are numbers of columns. Other names of classes stand for the
        columns in ascending order, and must all occur unless ``labels`` names them. False is 0 and True is 1.
    p : array_like of shape (..., n_classes), or of shape (n,) or (n, 1) for classes y of shape (n,)
        Predicted probabilities, or logits with ``from_logits=True``. In the second form there are two classes, and p is
        the probability of the second one, or the logarithm of its odds.
    labels : array_like of integers, booleans or strings of shape (n_classes,), optional
        The names of all classes in ascending order, as they may occur in y.
    label_smoothing : float in [0, 1], default 0
        The part of each target that is spread evenly over all classes. It needs labels in y.
    ignore_index : int, optional
        Rows with this label are left out, as ``where`` leaves rows out. It needs labels in y.
    axis, base, normalize, weights, where, reduction, smoothing, from_logits, temperature, keepdims, n_threads, out
        The options of rows, which :func:`kl_divergence` describes. ``temperature`` divides the logits of p alone.

    Returns
    -------
    float64 array of shape (...), or scalar
        The loss of each row in nats, or in the unit of ``base``. Nothing is clipped: a label whose probability is zero
        costs ``inf``.

    Raises
    ------
    TypeError
        Where labels are of mixed types, or the axis of their classes is not one; and as :func:`kl_divergence` does.
    ValueError
        Where a label is no class, or an option of labels is given without labels; and as :func:`kl_divergence` does.

    Notes
    -----
    With ``reduction="mean"`` this is :func:`sklearn.metrics.log_loss`, whose ``sample_weight`` is ``weights`` here.

    Examples
    --------
    >>> import kullback
    >>> kullback.log_loss([0, 1], [[0.5, 0.5], [0.75, 0.25]], base=2)
    array([1., 2.])
    >>> kullback.log_loss(["no", "yes"], [0.5, 0.25], base=2)
    array([1., 2.])
    """
    classes, n_axes = None if is_sparse(y) else as_classes(y, "y"), np.ndim(p)
    if classes is not None and (classes.ndim == n_axes - 1 or classes.ndim == n_axes == 1):
        match_rows(y, p, options)
        return class_loss(classes, p, labels, label_smoothing, ignore_index, check_options(options))
    if labels is not None or label_smoothing != 0 or ignore_index is not None:
        raise ValueError(
            "labels, label_smoothing and ignore_index need classes in y, which are integers, booleans or strings in "
            f"one axis less than p, got shape {np.shape(y)} for p of shape {np.shape(p)}"
        )
    _refuse_float_classes(y, p, options)
    if not options.get("from_logits"):
        return row_value(y, p, "cross_entropy", options, names=("y", "p"))
    # The kernel takes both sides as logits, so y becomes its own logarithm, times the temperature that it divides by.
    axis, normalize, where = options.get("axis", -1), options.get("normalize", "check"), options.get("where")
    y, p = match_names(y, p, axis, "y and p")
    row_values(y, None, ("mass",), axis=axis, normalize=normalize, where=where, names=("y", ""))
    with np.errstate(divide="ignore"):
        logs = np.log(as_numbers(y, "y").astype(np.float64)) * options.get("temperature", 1.0)
    return row_value(logs, p, "cross_entropy", options, names=("y", "p"))


def _refuse_float_classes(y: ArrayLike, p: ArrayLike, options: RowOptions) -> None:
    """Raise where floats have the shape of classes and are whole numbers, as a column that had gaps is in pandas.

    Two vectors may be distributions as well. They are refused where the check of distributions would refuse them.
    """
    if is_sparse(y) or is_sparse(p):
        return
    floats, predicted = as_numbers(y, "y"), as_numbers(p, "p")
    is_vector = floats.ndim == predicted.ndim == 1 and options.get("normalize", "check") == "check"
    if floats.dtype.kind != "f" or not floats.ndim or floats.shape != predicted.shape[: None if is_vector else -1]:
        return
    total = 1.0 if options.get("from_logits") or not is_vector else predicted.sum()
    are_classes = not is_vector or floats.sum() != 1 or abs(total - 1) > 0.01
    if are_classes and np.array_equal(floats, np.floor(floats)):
        raise ValueError(
            "y must hold classes as integers, booleans or strings, or distributions with as many axes as p, got whole "
            "numbers as floats; pass y.astype(int) where they are classes"
        )


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
        Tables of counts or of probabilities along the last two axes, or one sparse table. They are always divided by
        their sums.
    base, weights, where, reduction, n_threads, out
        Options of :func:`kl_divergence`, each with a table in place of a row.

    Returns
    -------
    float64 array of shape (...), or scalar
        The mutual information of each table in nats, or in the unit of ``base``. It is exactly 0 where each count is
        the product of those of its row and of its column over the total.

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
    if is_sparse(tables):
        return row_value(*_cells(tables), "kl", {**options, "normalize": True})
    joint, product = _joint_and_product(tables)
    flat = (*tables.shape[:-2], tables.shape[-2] * tables.shape[-1])
    return row_value(joint.reshape(flat), product.reshape(flat), "kl", {**options, "normalize": True})


def _joint_and_product(tables: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return n_ij N and n_i n_j for tables n of total N, up to a power of two; they are equal where n is independent.

    Counts and their sums are exact, so that both products are rounded alike. Other numbers have sums that are rounded,
    and a difference that this explains is none.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        tables = np.ldexp(tables, -np.frexp(tables.max(axis=(-2, -1), keepdims=True, initial=0.0))[1])
        rows, columns = tables.sum(axis=-1, keepdims=True), tables.sum(axis=-2, keepdims=True)
        joint, product = tables * rows.sum(axis=-2, keepdims=True), rows * columns
        error = (4 + math.sqrt(max(tables.shape[-2:]))) * np.finfo(np.float64).eps
        return joint, np.where(np.abs(joint - product) <= error * product, joint, product)


def _cells(table: Any) -> tuple[FloatArray, FloatArray]:
    """Return the cells of a CSR table that are not 0 and the product of its marginals there.

    The last element of each is all the rest: 0, and the product of the marginals in all cells that are 0.
    """
    row_of = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
    rows = np.bincount(row_of, table.data, table.shape[0])
    columns = np.bincount(table.indices, table.data, table.shape[1])
    total = rows.sum()
    # A row that lacks no column leaves nothing, which a difference of sums may not show.
    n_lacking = np.count_nonzero(columns) - np.bincount(row_of, table.data > 0, table.shape[0])
    lacking = np.maximum(total - np.bincount(row_of, columns[table.indices], table.shape[0]), 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        product = (rows / total)[row_of] * (columns / total)[table.indices]
        rest = ((rows / total) * (np.where(n_lacking > 0, lacking, 0.0) / total)).sum()
    return np.append(table.data, 0.0), np.append(product, rest)


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

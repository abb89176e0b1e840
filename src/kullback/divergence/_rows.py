"""What the functions of rows share: the measures of rows of any layout, and the reduction over rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from .._checks.names import match_index, match_names
from .._checks.outputs import check_out
from .._checks.probabilities import check_row_weights, check_where
from .._checks.scalars import check_choice
from .._kernels import divergence_rows as kernel
from .._options import DEFAULTS, FloatArray, RowOptions, check_options
from ._plan import Plan, default_plan
from ._sparse import read_rows

MEASURES: dict[str, int] = kernel.MEASURES
"""Numbers of the kernel's measures, see ext/divergence/measures.h."""


def row_value(p: npt.ArrayLike, q: npt.ArrayLike | None, measure: str, options: RowOptions, **extra: Any) -> Any:
    """Return one measure, reduced as asked; ``extra`` are further keywords of `row_values`."""
    if not options and not extra and type(p) is np.ndarray:  # as row_values does, without the cost of its call
        values = default_plan((measure,), 0.0).of_vectors(p, q)
        if values is not None:
            return values[0]
    return row_values(p, q, (measure,), **check_options(options), **extra)[0]


def row_values(
    p: npt.ArrayLike,
    q: npt.ArrayLike | None,
    measures: tuple[str, ...],
    *,
    alpha: float = 0.0,
    names: tuple[str, str] = ("p", "q"),
    transform: Callable[[list[Any]], list[Any]] | None = None,
    **options: Unpack[RowOptions],
) -> list[Any]:
    """Return one array (or scalar, for one row or a reduction) of values for each of ``measures``.

    ``alpha`` is the order of the measures that have one, and ``names`` are those of p and q in messages. ``transform``
    turns the measures' values into those to return, before rows are reduced.
    """
    if not options and type(p) is np.ndarray:
        values = default_plan(measures, alpha).of_vectors(p, q)
        if values is not None:
            return list(values) if transform is None else transform(list(values))
    given: dict[str, Any] = {**DEFAULTS, **options}
    p, q = match_names(p, q, given["axis"], f"{names[0]} and {names[1]}")
    match_index(p, {name: given[name] for name in ("weights", "where")}, given["axis"])
    from_logits = given["from_logits"]
    rows = read_rows(p, q, given["axis"], names, from_logits)
    plan = Plan(
        measures,
        base=given["base"],
        normalize=given["normalize"],
        smoothing=given["smoothing"],
        from_logits=from_logits,
        temperature=given["temperature"],
        alpha=alpha,
    )
    keep = None if given["where"] is None else check_where(given["where"], rows.batch)
    values = rows.values(plan, given["n_threads"], keep)
    results = list(values[:, 0]) if not rows.batch else list(values.reshape(len(measures), *rows.batch))
    if transform is not None:
        results = transform(results)
    weights, reduction, keepdims, out = given["weights"], given["reduction"], given["keepdims"], given["out"]
    if weights is None and keep is None and reduction == "none" and out is None and not keepdims:
        return results
    return [reduce_rows(value, rows.batch, rows.axes, weights, keep, reduction, keepdims, out) for value in results]


def reduce_rows(
    values: Any,
    batch: tuple[int, ...],
    axes: tuple[int, ...],
    weights: npt.ArrayLike | None,
    keep: npt.NDArray[np.bool_] | None,
    reduction: str,
    keepdims: bool,
    out: FloatArray | None,
) -> Any:
    """Reduce values over their rows, weighted, without those that ``keep`` leaves out; shape the result and store it.

    ``batch`` is the shape of the rows and ``axes`` where their elements stood, which ``keepdims`` restores.
    """
    check_choice(reduction, "reduction", ("none", "mean", "sum"))
    weighting = check_row_weights(weights, batch, reduction)
    values = np.asarray(values)
    if reduction == "none":
        if keep is not None:
            values = np.where(keep, values, np.nan)
        if keepdims:
            values = np.expand_dims(values, axes)
    else:
        factor = np.ones(batch) if weighting is None else weighting
        if keep is not None:
            factor = np.where(keep, factor, 0.0)
        total = np.where(factor == 0, 0.0, values)  # a row without weight counts nothing, even where it is NaN
        total = np.asarray(np.sum(total * factor))
        if reduction == "mean":
            with np.errstate(invalid="ignore", divide="ignore"):
                total = total / factor.sum()
        values = np.asarray(total).reshape((1,) * (len(batch) + len(axes)) if keepdims else ())
    if out is not None:
        check_out(out, values.shape)[...] = values
        return out
    return values[()]

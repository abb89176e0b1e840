"""Names of measures to per-row values, all of them from one read of the rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _arrays
from ..divergence import _rows, log_loss
from ..divergence.measures import COMPARED

LABELLED = ("log_loss", "log_loss_p")
"""Measures of labels: -log q[label], and -log p[label]."""

Rows = Callable[[ArrayLike, ArrayLike, "ArrayLike | None"], list[NDArray[np.float64]]]


def row_measures(
    measures: tuple[str, ...], *, from_logits: bool, base: float | None, normalize: bool | str,
    n_threads: int | None,
) -> Rows:  # fmt: skip
    """Return a function of ``p, q, labels`` that gives each measure's values, one per row."""
    _arrays.check_choices(measures, (*COMPARED, *LABELLED), name="measures")
    _arrays.check_normalize(normalize)
    if base is not None:
        _arrays.check_base(base)
    options: dict[str, Any] = {
        "base": base,
        "normalize": normalize,
        "n_threads": n_threads,
        "from_logits": from_logits,
    }
    row_values = _rows.row_values
    single_row = _single_row(tuple(name for name in measures if name not in LABELLED), options)

    def evaluate(p: ArrayLike, q: ArrayLike, labels: ArrayLike | None) -> list[NDArray[np.float64]]:
        if type(p) is np.ndarray and type(q) is np.ndarray and p.ndim == 1 and p.shape == q.shape:
            row = single_row(p, q)
            if row is not None:
                return row
        values = row_values(p, q, measures, **options)
        n_axes = values[0].ndim
        if n_axes == 1:
            return values
        return [value.reshape(-1) for value in values] if n_axes else [np.array([value]) for value in values]

    labelled = tuple(name for name in measures if name in LABELLED)
    if not labelled:
        return evaluate
    others = tuple(name for name in measures if name not in LABELLED)

    def evaluate_with_labels(
        p: ArrayLike, q: ArrayLike, labels: ArrayLike | None
    ) -> list[NDArray[np.float64]]:
        if labels is None:
            raise ValueError(f"labels must be given for the measure {labelled[0]!r}")
        values = dict(zip(others, row_values(p, q, others, **options), strict=True)) if others else {}
        for name in labelled:
            values[name] = log_loss(labels, q if name == "log_loss" else p, **options)
        return [np.atleast_1d(values[name]).reshape(-1) for name in measures]

    return evaluate_with_labels


def _single_row(
    measures: tuple[str, ...], options: dict[str, Any]
) -> Callable[[NDArray[Any], NDArray[Any]], list[NDArray[np.float64]] | None]:
    """Return row_values for two vectors, its options resolved once: half the cost of a call.

    The function returns None where row_values should look again: rows too long for one thread, and
    rows that fail the check, of which row_values raises.
    """
    numbers = _rows._measure_numbers(measures)
    mode = _arrays.check_normalize(options["normalize"])
    unit = 1.0 if options["base"] is None else 1.0 / math.log(options["base"])
    from_logits, n_measures, longest = options["from_logits"], len(measures), _rows._SINGLE_THREAD
    inner = 0
    if from_logits:
        inner = 2 if not _rows._INNER_Q.isdisjoint(measures) else int(not _rows._INNER_P.isdisjoint(measures))
    resolved, reduce_rows, check = _rows._options, _rows._reduce, _arrays.check_distribution

    def single_row(p: NDArray[Any], q: NDArray[Any]) -> list[NDArray[np.float64]] | None:
        if p.size >= longest:
            return None
        left, right = check(p, "p", from_logits), check(q, "q", from_logits)
        settings = resolved(unit, mode, left.tolerance, right.tolerance, 0.0, inner, from_logits, 1.0, 0.0)
        values = np.empty((n_measures, 1))
        bad, _ = reduce_rows(
            (left.array[None, None], right.array[None, None]),
            (left, right),
            numbers,
            settings,
            values,
            1,
            None,
        )
        return list(values) if bad < 0 else None

    return single_row

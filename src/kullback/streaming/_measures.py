"""Names of measures to per-row values, all of them from one read of the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks.scalars import check_base, check_choices, check_normalize
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
    check_choices(measures, "measures", (*COMPARED, *LABELLED))
    check_normalize(normalize)
    if base is not None:
        check_base(base)
    options: dict[str, Any] = {
        "base": base,
        "normalize": normalize,
        "n_threads": n_threads,
        "from_logits": from_logits,
    }
    row_values = _rows.row_values
    row_of = _rows.single_row(tuple(name for name in measures if name not in LABELLED), base, normalize, from_logits)

    def evaluate(p: ArrayLike, q: ArrayLike, labels: ArrayLike | None) -> list[NDArray[np.float64]]:
        if type(p) is np.ndarray:
            row = row_of(p, q)
            if row is not None:
                return [row] if len(row) == 1 else list(row[:, None])
        values = row_values(p, q, measures, **options)
        n_axes = values[0].ndim
        if n_axes == 1:
            return values
        return [value.reshape(-1) for value in values] if n_axes else [np.array([value]) for value in values]

    labelled = tuple(name for name in measures if name in LABELLED)
    if not labelled:
        return evaluate
    others = tuple(name for name in measures if name not in LABELLED)

    def evaluate_with_labels(p: ArrayLike, q: ArrayLike, labels: ArrayLike | None) -> list[NDArray[np.float64]]:
        if labels is None:
            raise ValueError(f"labels must be given for the measure {labelled[0]!r}")
        values = dict(zip(others, row_values(p, q, others, **options), strict=True)) if others else {}
        for name in labelled:
            values[name] = log_loss(labels, q if name == "log_loss" else p, **options)
        return [np.atleast_1d(values[name]).reshape(-1) for name in measures]

    return evaluate_with_labels

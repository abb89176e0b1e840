"""Names of measures to per-row values, all of them from one read of the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _arrays
from ..divergence import _rows

Rows = Callable[[ArrayLike, ArrayLike, "ArrayLike | None"], list[NDArray[np.float64]]]


def row_measures(
    measures: tuple[str, ...], *, from_logits: bool, base: float | None, normalize: bool | str,
    n_threads: int | None,
) -> Rows:  # fmt: skip
    """Return a function of ``p, q, labels`` that gives each measure's values, one per row."""
    _arrays.check_choices(measures, tuple(_rows.MEASURES), name="measures")
    _arrays.check_normalize(normalize)
    if base is not None:
        _arrays.check_base(base)
    options: dict[str, Any] = {"base": base, "normalize": normalize, "n_threads": n_threads}
    if from_logits:
        options["from_logits"] = True

    row_values = _rows.row_values

    def evaluate(p: ArrayLike, q: ArrayLike, labels: ArrayLike | None) -> list[NDArray[np.float64]]:
        values = row_values(p, q, measures, **options)
        n_axes = values[0].ndim
        if n_axes == 1:
            return values
        return [value.reshape(-1) for value in values] if n_axes else [np.array([value]) for value in values]

    return evaluate

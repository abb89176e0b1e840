"""From names of measures to their values for every row, all of them from one read of the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks.names import match_names
from .._checks.scalars import check_base, check_choices, check_normalize
from ..divergence._labels import label_loss
from ..divergence._plan import Plan
from ..divergence._sparse import read_rows
from ..divergence.measures import COMPARED

LABELLED = ("log_loss", "log_loss_p")
"""Measures of labels: -log q[label], and -log p[label]."""

Rows = Callable[[ArrayLike, ArrayLike, "ArrayLike | None"], NDArray[np.float64]]
"""A function of p, q and labels that returns the values of one measure after the other, one per row."""


def row_measures(
    measures: tuple[str, ...], *, from_logits: bool, base: float | None, normalize: bool | str,
    n_threads: int | None,
) -> Rows:  # fmt: skip
    """Return the function that computes these measures."""
    check_choices(measures, "measures", (*COMPARED, *LABELLED))
    check_normalize(normalize)
    if base is not None:
        check_base(base)
    labelled = tuple(name for name in measures if name in LABELLED)
    unlabelled = tuple(name for name in measures if name not in LABELLED)
    plan = Plan(unlabelled, base=base, normalize=normalize, from_logits=from_logits)

    def evaluate(p: ArrayLike, q: ArrayLike, labels: ArrayLike | None) -> NDArray[np.float64]:
        if type(p) is np.ndarray:
            row = plan.of_vectors(p, q)
            if row is not None:
                return row
        p, q = match_names(p, q)
        return read_rows(p, q, -1, ("p", "q"), from_logits).values(plan, n_threads).reshape(-1)

    if not labelled:
        return evaluate

    def evaluate_with_labels(p: ArrayLike, q: ArrayLike, labels: ArrayLike | None) -> NDArray[np.float64]:
        if labels is None:
            raise ValueError(f"labels must be given for the measure {labelled[0]!r}")
        values: dict[str, Any] = {}
        if unlabelled:
            values.update(zip(unlabelled, evaluate(p, q, None).reshape(len(unlabelled), -1), strict=True))
        p, q = match_names(p, q)
        options: Any = {"base": base, "normalize": normalize, "from_logits": from_logits, "n_threads": n_threads}
        for name in labelled:
            side = "q" if name == "log_loss" else "p"
            values[name] = label_loss(labels, q if side == "q" else p, 0.0, None, options, name=side)
        return np.concatenate([np.asarray(values[name], np.float64).reshape(-1) for name in measures])

    return evaluate_with_labels

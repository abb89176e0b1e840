"""Names of measures to per-row values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import divergence

_FUNCTIONS = {
    "kl": "kl_divergence",
    "cross_entropy": "cross_entropy",
}

Rows = Callable[..., list[NDArray[np.float64]]]


def row_measures(
    measures: tuple[str, ...], *, from_logits: bool, base: float | None, normalize: bool | str,
    n_threads: int | None,
) -> Rows:  # fmt: skip
    """Return a function of ``p, q, labels`` that gives each measure's values, one per row."""
    unknown = [name for name in measures if name not in _FUNCTIONS]
    if unknown:
        raise ValueError(f"measures must be among {', '.join(sorted(_FUNCTIONS))}, got {unknown[0]!r}")
    options: dict[str, Any] = {"base": base, "normalize": normalize, "n_threads": n_threads}
    if from_logits:
        options["from_logits"] = True

    def evaluate(p: ArrayLike, q: ArrayLike, labels: ArrayLike | None) -> list[NDArray[np.float64]]:
        functions = [getattr(divergence, _FUNCTIONS[name]) for name in measures]
        return [np.atleast_1d(function(p, q, **options)).reshape(-1) for function in functions]

    return evaluate

"""Evaluation over Dask arrays, on one machine or on many.

Each chunk of rows is reduced where it lies. Accumulators travel instead of rows, and merge in a tree. Merging
is exact, so the result has the same bits as that of ``kullback.evaluate`` on one machine. Recipes for Ray
and Spark, which exchange states in the same way, are in docs/streaming.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate as accumulate_sums
from typing import Any

from ._checks.arrays import as_numbers
from ._checks.names import axis_names, check_same_index, find_order
from ._checks.probabilities import BadRowError
from ._checks.scalars import check_flag
from .streaming import RowDivergence, RowResult

__all__ = ["accumulate", "evaluate", "merge"]

_FAN_IN = 8
"""How many accumulators one task merges."""


def __dir__() -> list[str]:
    return __all__


def accumulate(
    configuration: dict[str, Any], n_threads: int | None, p: Any, q: Any, first_row: int = 0
) -> RowDivergence:
    """Return an accumulator of one pair of row blocks, which begin at ``first_row``; workers run this."""
    try:
        return RowDivergence(**configuration, n_threads=n_threads).update(p, q)
    except BadRowError as error:
        raise error.in_block(first_row) from None


def merge(accumulators: Sequence[RowDivergence]) -> RowDivergence:
    """Return one accumulator of what all of these have seen; workers run this."""
    first, *others = accumulators
    total = first.copy()
    for accumulator in others:
        total.merge(accumulator)
    return total


def _as_dask_array(side: Any, name: str) -> Any:
    """Return a dask array, a dask frame or an array or frame in memory as a dask array."""
    import dask.array

    if isinstance(side, dask.array.Array):
        return side
    if hasattr(side, "to_dask_array"):
        return side.to_dask_array(lengths=True)
    return dask.array.from_array(as_numbers(side, name))  # type: ignore[no-untyped-call]


def evaluate(
    p: Any,
    q: Any,
    *,
    measures: Sequence[str] = ("kl",),
    from_logits: bool = False,
    quantiles: Sequence[float] | None = None,
    base: float | None = None,
    normalize: bool | str = "check",
    n_threads: int | None = 1,
    compute: bool = True,
) -> Any:
    """Return statistics over the rows of two dask arrays.

    Parameters
    ----------
    p, q
        Dask arrays of two axes, or frames, whose columns are matched by name; one of them may be an array or a frame in
        memory. Both are cut into the same chunks of whole rows. The lengths and the index of frames are computed first.
    measures, from_logits, quantiles, base, normalize
        As for ``kullback.streaming.RowDivergence``.
    n_threads
        Threads of each task. One is the default, as workers run several tasks at once.
    compute
        False returns a ``dask.delayed`` of the ``RowDivergence``, whose ``result()`` is the answer.
    """
    import dask.array
    from dask.delayed import delayed

    empty = RowDivergence(measures, from_logits=from_logits, quantiles=quantiles, base=base, normalize=normalize)
    sides = [_as_dask_array(side, name) for side, name in ((p, "p"), (q, "q"))]
    (rows_p, columns_p), (rows_q, columns_q) = ((None, None, *axis_names(side))[-2:] for side in (p, q))
    for name, side in zip("pq", sides, strict=True):
        if side.ndim != 2:
            raise ValueError(f"{name} must have two axes, rows and columns, got shape {side.shape}")
    if sides[0].shape != sides[1].shape:
        raise ValueError(f"p and q must have the same shape, got {sides[0].shape} and {sides[1].shape}")
    check_same_index(rows_p, rows_q, "p and q")
    order = find_order(columns_p, columns_q, "p and q")
    if order is not None:
        sides[1] = sides[1][:, order]
    is_lazy = isinstance(p, dask.array.Array) or hasattr(p, "to_dask_array")
    rows = sides[0].chunks[0] if is_lazy else sides[1].chunks[0]
    blocks = [side.rechunk({0: rows, 1: -1}).to_delayed().reshape(-1) for side in sides]
    configuration = empty._configuration()
    reduce = delayed(accumulate, pure=False)
    starts = [0, *accumulate_sums(rows)][:-1]
    level = [
        reduce(configuration, n_threads, left, right, start) for left, right, start in zip(*blocks, starts, strict=True)
    ]
    level = level or [delayed(empty)]
    while len(level) > 1:
        level = [delayed(merge, pure=False)(level[i : i + _FAN_IN]) for i in range(0, len(level), _FAN_IN)]
    if not check_flag(compute, "compute"):
        return level[0]
    result: RowResult = level[0].compute().result()
    return result

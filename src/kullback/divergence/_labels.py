"""Losses of probabilities or logits against integer labels: -log q[label]."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._checks.arrays import as_array, as_numbers, widen_bfloat16
from .._checks.labels import check_class_labels
from .._checks.scalars import check_base, check_probability
from .._options import RowOptions
from ._rows import reduce_rows, row_values


def is_labels(p: npt.ArrayLike, q: npt.ArrayLike) -> bool:
    """Return whether p holds labels for the rows of q, which are integers with one axis less."""
    p = as_array(p, "p")
    return p.dtype.kind in "iu" and p.ndim == np.ndim(q) - 1


def label_loss(
    labels: npt.ArrayLike,
    q: npt.ArrayLike,
    label_smoothing: float,
    ignore_index: int | None,
    options: RowOptions,
    name: str = "q",
) -> Any:
    """Return the loss -sum t log q of every row, where t = (1 - s) one-hot + s / n_classes and s is label_smoothing.

    Rows whose label is ``ignore_index`` do not count; ``name`` is that of q in messages.
    """
    share = check_probability(label_smoothing, "label_smoothing")
    given_base = options.get("base")
    base = None if given_base is None else check_base(given_base)
    q = as_numbers(q, name)
    axis = options.get("axis", -1)
    if not -q.ndim <= axis < q.ndim:
        raise ValueError(f"axis must be in [{-q.ndim}, {q.ndim - 1}] for shape {q.shape}, got {axis}")
    axis %= q.ndim
    batch = q.shape[:axis] + q.shape[axis + 1 :]
    index, keep = check_class_labels(labels, batch, q.shape[axis], ignore_index)
    where = options.get("where")
    keep = keep if where is None else keep & np.broadcast_to(np.asarray(where), batch)
    if options.get("smoothing", 0.0) and options.get("from_logits", False):
        raise ValueError("smoothing must be 0 with labels and from_logits=True")
    unreduced: Any = {key: value for key, value in options.items() if key not in _OF_REDUCTION}
    unreduced["where"] = keep
    loss = _one_hot_loss(index, q, axis, unreduced, name)
    if share > 0:
        uniform = _uniform_loss(q, axis, unreduced, name)
        loss = (1 - share) * loss + share * uniform if share < 1 else uniform
    if base is not None:
        loss = loss / np.log(base)
    return reduce_rows(
        loss, batch, axis, options.get("weights"), None if keep.all() else keep, options.get("reduction", "none"),
        options.get("keepdims", False), options.get("out"),
    )  # fmt: skip


_OF_REDUCTION = frozenset(("weights", "reduction", "keepdims", "out", "base"))
"""The options that act on finished losses in nats."""


def _one_hot_loss(index: npt.NDArray[Any], q: npt.NDArray[Any], axis: int, options: RowOptions, name: str) -> Any:
    """Return -log q[label] of every row, in nats."""
    logits = bool(options.get("from_logits", False))
    (mass,) = row_values(q, None, ("mass",), **options, names=(name, ""))
    picked = _as_float64(np.take_along_axis(q, np.expand_dims(index, axis), axis).squeeze(axis), logits)
    with np.errstate(divide="ignore", invalid="ignore"):
        if logits:
            return mass - picked / options.get("temperature", 1.0)
        if options.get("normalize", "check") is False:
            return -np.log(picked)
        return np.log(mass) - np.log(picked + options.get("smoothing", 0.0))


def _uniform_loss(q: npt.NDArray[Any], axis: int, options: RowOptions, name: str) -> Any:
    """Return -mean log q of every row, in nats: the cross-entropy of the uniform distribution."""
    n_classes = q.shape[axis]
    logits = bool(options.get("from_logits", False))
    uniform = np.zeros(n_classes) if logits else np.full(n_classes, 1.0 / n_classes)
    uniform = uniform.reshape([-1 if k == axis else 1 for k in range(q.ndim)])
    return row_values(uniform, q, ("cross_entropy",), **options, names=("p", name))[0]


def _as_float64(values: npt.NDArray[Any], logits: bool) -> npt.NDArray[np.float64]:
    """Return values in float64; logits of uint16 are the bits of bfloat16."""
    wide: npt.NDArray[np.float64] = widen_bfloat16(values, logits).astype(np.float64)
    return wide

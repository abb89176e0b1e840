"""Losses against integer labels: -log q[label], from probabilities or logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._checks.labels import check_class_labels
from .._checks.scalars import check_probability
from .._options import RowOptions
from ._rows import reduce_rows, row_values


def is_labels(p: npt.ArrayLike, q: npt.ArrayLike) -> bool:
    """Whether p holds labels for the rows of q: integers, with one axis less."""
    p = np.asarray(p)
    return p.dtype.kind in "iu" and p.ndim == np.ndim(q) - 1


def label_loss(
    labels: npt.ArrayLike,
    q: npt.ArrayLike,
    label_smoothing: float,
    ignore_index: int | None,
    options: RowOptions,
    name: str = "q",
) -> Any:
    """Return -sum t log q of every row, t = (1 - s) one-hot + s / n_classes."""
    share = check_probability(label_smoothing, "label_smoothing")
    q = np.asarray(q)
    axis = options.get("axis", -1)
    if not -q.ndim <= axis < q.ndim:
        raise ValueError(f"axis must be in [{-q.ndim}, {q.ndim - 1}] for shape {q.shape}, got {axis}")
    batch = q.shape[: axis % q.ndim] + q.shape[axis % q.ndim + 1 :]
    index, kept = check_class_labels(labels, batch, q.shape[axis], ignore_index)
    where = options.get("where")
    kept = kept if where is None else kept & np.broadcast_to(np.asarray(where), batch)
    inner: dict[str, Any] = {
        key: value for key, value in options.items() if key not in ("weights", "reduction", "keepdims", "out", "where")
    }
    inner["where"] = kept
    base = inner.pop("base", None)
    logits = bool(options.get("from_logits", False))
    smoothing = options.get("smoothing", 0.0)
    if smoothing and logits:
        raise ValueError("smoothing must be 0 with labels and from_logits=True")
    (mass,) = row_values(q, None, ("mass",), **inner, names=(name, ""))
    picked = _as_float(np.take_along_axis(q, np.expand_dims(index, axis), axis).squeeze(axis), logits)
    with np.errstate(divide="ignore", invalid="ignore"):
        if logits:
            loss = mass - picked / options.get("temperature", 1.0)
        elif options.get("normalize", "check") is False:
            loss = -np.log(picked)
        else:
            loss = np.log(mass) - np.log(picked + smoothing)
    if share > 0:
        uniform = np.zeros(q.shape[axis]) if logits else np.full(q.shape[axis], 1.0 / q.shape[axis])
        uniform = uniform.reshape([-1 if k == axis % q.ndim else 1 for k in range(q.ndim)])
        (spread,) = row_values(uniform, q, ("cross_entropy",), **inner, names=("p", name))
        loss = (1 - share) * loss + share * spread if share < 1 else spread
    if base is not None:
        loss = loss / np.log(base)
    reduction = options.get("reduction", "none")
    keep = None if kept.all() else kept
    return reduce_rows(
        loss, batch, axis % q.ndim, options.get("weights"), keep, reduction, options.get("keepdims", False),
        options.get("out"),
    )  # fmt: skip


def _as_float(values: npt.NDArray[Any], logits: bool) -> npt.NDArray[np.float64]:
    if logits and values.dtype == np.uint16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float64)

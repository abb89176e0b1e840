"""Losses of probabilities or logits against labels: -log q[label]."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._checks.arrays import as_array, as_numbers, check_dtype, widen_bfloat16
from .._checks.labels import check_class_labels, number_classes
from .._checks.names import axis_names, match_index, match_names
from .._checks.probabilities import check_where
from .._checks.scalars import check_base, check_normalize, check_probability, check_smoothing, check_temperature
from .._checks.sparse import as_sorted_rows, is_sparse
from .._options import DEFAULTS, RowOptions
from ._rows import reduce_rows, row_values


def is_labels(p: npt.ArrayLike, q: npt.ArrayLike) -> bool:
    """Return whether p holds labels for the rows of q, which are integers with one axis less."""
    if is_sparse(p):
        return False
    p = as_array(p, "p")
    return p.dtype.kind in "iu" and p.ndim == np.ndim(q) - 1


def label_loss(
    labels: npt.ArrayLike,
    q: Any,
    label_smoothing: float,
    ignore_index: int | None,
    options: RowOptions,
    name: str = "q",
) -> Any:
    """Return the loss -sum t log q of every row, where t = (1 - s) one-hot + s / n_classes and s is label_smoothing.

    Rows whose label is ``ignore_index`` do not count; ``name`` is that of q in messages.
    """
    share = check_probability(label_smoothing, "label_smoothing")
    match_index(q, {"labels": labels, **_of_rows(options)}, options.get("axis", -1))
    q = _read(q, name)
    axis = check_class_axis(options, q.shape)
    batch = q.shape[:axis] + q.shape[axis + 1 :]
    where = options.get("where")
    where = None if where is None else check_where(where, batch)
    index, keep = check_class_labels(labels, batch, q.shape[axis], ignore_index, where)
    if options.get("smoothing", 0.0) and options.get("from_logits", False):
        raise ValueError("smoothing must be 0 with labels and from_logits=True")
    unreduced: Any = {key: value for key, value in options.items() if key not in _OF_REDUCTION}
    unreduced["where"] = keep
    loss = _one_hot_loss(index, q, axis, unreduced, name)
    if share > 0:
        uniform = _uniform_loss(q, axis, unreduced, name)
        loss = (1 - share) * loss + share * uniform if share < 1 else uniform
    return _reduce(loss, batch, axis, keep, options)


def class_loss(
    y: npt.NDArray[Any],
    p: Any,
    labels: npt.ArrayLike | None,
    label_smoothing: float,
    ignore_index: int | None,
    options: RowOptions,
) -> Any:
    """Return the loss of every row for classes of any names, as `as_classes` returns them.

    Where p has as many axes as y, or a single column, it holds the probability of the second of two classes.
    """
    p = _read(p, "p")
    if p.ndim == 2 and y.ndim == 1 and p.shape[check_class_axis(options, p.shape)] == 1:
        p = (p.toarray() if is_sparse(p) else p).reshape(-1)
    is_binary = p.ndim == y.ndim
    if is_binary and is_sparse(p):
        p = p.toarray()
    axis = check_class_axis(options, p.shape)
    batch = p.shape if is_binary else p.shape[:axis] + p.shape[axis + 1 :]
    if y.shape != batch:
        raise ValueError(f"labels must have one entry a row, shape {batch}, got {y.shape}")
    counts = np.ones(batch, dtype=bool) if ignore_index is None else np.asarray(y != ignore_index)
    where = options.get("where")
    if where is not None:
        counts = counts & check_where(where, batch)
    index = np.where(counts, number_classes(y, labels, 2 if is_binary else p.shape[axis], counts), 0)
    if not is_binary:
        return label_loss(index, p, label_smoothing, None, {**options, "where": counts}, name="p")
    share = check_probability(label_smoothing, "label_smoothing")
    losses = _binary_losses(p, counts, options)
    weight = np.where(index == 1, 1 - share / 2, share / 2)
    with np.errstate(invalid="ignore"):
        parts = [np.where(part == 0, 0.0, part * loss) for part, loss in zip((1 - weight, weight), losses, strict=True)]
    return _reduce(parts[0] + parts[1], batch, 1, counts, options)


def match_rows(y: npt.ArrayLike, p: npt.ArrayLike, options: RowOptions) -> None:
    """Raise where labels, weights or a mask have an index of other rows than p, a frame or a series."""
    axis = options.get("axis", -1)
    others = {"y": y, **_of_rows(options)}
    if len(axis_names(p)) == 1:
        for name, value in others.items():
            match_names(p, value, (), f"p and {name}")
    match_index(p, others, axis)


def check_class_axis(options: RowOptions, shape: tuple[int, ...]) -> int:
    """Return the one axis of the classes, counted from the first."""
    axis = options.get("axis", -1)
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
        raise TypeError(f"axis must be an int where there are labels, got {axis!r}")
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis must be in [{-len(shape)}, {len(shape) - 1}] for shape {shape}, got {axis}")
    return int(axis) % len(shape)


def _reduce(loss: Any, batch: tuple[int, ...], axis: int, keep: npt.NDArray[np.bool_], options: RowOptions) -> Any:
    """Return losses in nats in the unit of ``base``, reduced over rows."""
    base = options.get("base")
    if base is not None:
        loss = loss / np.log(check_base(base))
    return reduce_rows(
        loss, batch, (axis,), options.get("weights"), None if keep.all() else keep, options.get("reduction", "none"),
        options.get("keepdims", False), options.get("out"),
    )  # fmt: skip


def _of_rows(options: RowOptions) -> dict[str, Any]:
    """Return the options that have a value for each row."""
    return {"weights": options.get("weights"), "where": options.get("where")}


_OF_REDUCTION = frozenset(("weights", "reduction", "keepdims", "out", "base"))
"""The options that act on finished losses in nats."""


def _binary_losses(p: npt.NDArray[Any], counts: npt.NDArray[np.bool_], options: RowOptions) -> Any:
    """Return -log(1 - p) and -log p in nats, for probabilities p or for logits, which are log(p / (1 - p))."""
    given: Any = {**DEFAULTS, **options}
    normalize = check_normalize(given["normalize"])
    logits = bool(given["from_logits"])
    temperature = check_temperature(given["temperature"], logits)
    smoothing = check_smoothing(given["smoothing"], given["normalize"])
    check_dtype(p, "p", "fiub")
    values = _as_float64(p, logits)
    if logits:
        if smoothing:
            raise ValueError("smoothing must be 0 with labels and from_logits=True")
        is_wrong = np.isnan(values) | (values == np.inf)
    else:
        is_wrong = ~((values >= 0) & (values <= 1))
    is_wrong &= counts
    if normalize == 2 and is_wrong.any():
        accepted = "logits < inf" if logits else "probabilities of the second class, in [0, 1]"
        raise ValueError(f"p must hold {accepted}, got {values[is_wrong][0]} in row {np.flatnonzero(is_wrong)[0]}")
    values = np.where(is_wrong | ~counts, np.nan, values)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        if logits:
            return [np.logaddexp(0.0, sign * (values / temperature)) for sign in (1, -1)]
        whole = np.log1p(2 * smoothing)
        return [whole - np.log1p(smoothing - values), whole - np.log(values + smoothing)]


def _read(q: npt.ArrayLike, name: str) -> Any:
    """Return q as it is where it is sparse, and otherwise as an array."""
    return q if is_sparse(q) else as_numbers(q, name)


def _pick(q: Any, index: npt.NDArray[Any], axis: int, name: str) -> npt.NDArray[Any]:
    """Return the element of each row of q, dense or sparse, that ``index`` names."""
    if not is_sparse(q):
        return np.take_along_axis(q, np.expand_dims(index, axis), axis).squeeze(axis)
    rows = as_sorted_rows(q if axis == q.ndim - 1 else q.T, name)
    return np.asarray(rows[np.arange(rows.shape[0]), index.reshape(-1)]).reshape(index.shape)


def _one_hot_loss(index: npt.NDArray[Any], q: Any, axis: int, options: RowOptions, name: str) -> Any:
    """Return -log q[label] of every row, in nats."""
    logits = bool(options.get("from_logits", False))
    (mass,) = row_values(q, None, ("mass",), **options, names=(name, ""))
    picked = _as_float64(_pick(q, index, axis, name), logits)
    with np.errstate(divide="ignore", invalid="ignore"):
        if logits:
            return mass - picked / options.get("temperature", 1.0)
        if options.get("normalize", "check") is False:
            return -np.log(picked)
        return np.log(mass) - np.log(picked + options.get("smoothing", 0.0))


def _uniform_loss(q: Any, axis: int, options: RowOptions, name: str) -> Any:
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

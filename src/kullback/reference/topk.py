"""The twin of :func:`kullback.kl_divergence_topk`: the nearest and the farthest distribution that a list allows."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .divergence import Array, as_probabilities


def kl_divergence_topk(
    indices: npt.ArrayLike,
    log_probs: npt.ArrayLike,
    q_logits: npt.ArrayLike,
    *,
    tail: Literal["bounds", "bucket", "uniform", "drop"] = "bounds",
    max_log_ratio: float | None = None,
    n_threads: int | None = None,
) -> Any:
    """Return D(p || q) where only the k largest probabilities of p are known.

    The rest of p is dropped, merged into one class, spread evenly, or bounded from below and above. For the bounds, the
    listed probabilities lie within the rounding of their dtype.
    """
    q, given = as_probabilities(q_logits, {"from_logits": True}), np.asarray(log_probs)
    eps = 2.0**-52
    if given.dtype == np.uint16:  # these are the bits of bfloat16, the upper half of float32
        given, eps = (given.astype(np.uint32) << 16).view(np.float32), 2.0**-7
    elif given.dtype.kind == "f":
        eps = float(np.finfo(given.dtype).eps)
    index, logs = np.asarray(indices), given.astype(np.float64)
    flat = (x.reshape(-1, x.shape[-1]) for x in (index, logs, q))
    rows = [(np.exp(p), x[i], np.delete(x, i)) for i, p, x in zip(*flat, strict=True)]
    with np.errstate(divide="ignore"):
        if tail == "bounds":
            limits = np.array([_limits(*row, eps, max_log_ratio) for row in rows])
            return tuple(limits.T.reshape(2, *q.shape[:-1]))
        find = {"bucket": _in_one_class, "uniform": _spread_evenly, "drop": _dropped}[tail]
        return np.reshape([find(*row) for row in rows], q.shape[:-1])


def _dropped(p: Array, listed: Array, others: Array) -> Any:
    return np.where(p > 0, p * np.log(p / listed), 0.0).sum()


def _in_one_class(p: Array, listed: Array, others: Array) -> Any:
    rest = max(1 - p.sum(), 0.0)
    return _dropped(p, listed, others) + (rest * np.log(rest / others.sum()) if rest else 0.0)


def _spread_evenly(p: Array, listed: Array, others: Array) -> Any:
    rest = max(1 - p.sum(), 0.0)
    return _dropped(p, listed, others) + (rest * np.log(rest / len(others) / others).mean() if rest else 0.0)


def _limits(p: Array, listed: Array, others: Array, eps: float, max_log_ratio: float | None) -> tuple[float, float]:
    """Return the least and the largest sum of p log(p / q) - p + q."""
    width = np.where(p > 0, eps * (1 - np.log(p)) / 2, 0.0)
    low, high = p * np.exp(-width), p * np.exp(width)
    cap = high[-1]
    t_low, t_high = (min(max(1 - side.sum(), 0.0), len(others) * cap) for side in (high, low))
    nearest = _fill(others, cap, t_low, t_high)
    lower = _terms(np.clip(listed, low, high), listed).sum() + _terms(nearest, others).sum()
    order = np.sort(others)
    steps = np.arange(len(others)) * cap
    masses = [t_low, t_high, *steps[(steps > t_low) & (steps < t_high)]]
    rest = max(_terms(np.clip(t - steps, 0, cap), order).sum() for t in masses)
    if max_log_ratio is not None:
        rest = min(rest, others.sum() + max((max_log_ratio - 1) * t for t in (t_low, t_high)))
    return lower, np.maximum(_terms(low, listed), _terms(high, listed)).sum() + rest


def _terms(p: Array, q: Array) -> Array:
    p = np.asarray(p, dtype=np.float64)
    terms: Array = q - p
    np.add(terms, p * np.log(np.where(p > 0, p, 1.0) / q), out=terms, where=p > 0)
    return terms


def _fill(q: Array, cap: float, t_low: float, t_high: float) -> Array:
    """Return min(c q, cap) with the c next to 1 for which its sum lies in [t_low, t_high]."""
    log_c = 0.0
    goal = np.clip(np.minimum(q, cap).sum(), t_low, t_high)
    low, high = -800.0, 800.0
    while low < log_c < high:
        if np.minimum(np.exp(log_c) * q, cap).sum() < goal:
            low = log_c
        else:
            high = log_c
        log_c = (low + high) / 2
    filled: Array = np.minimum(np.exp(log_c) * q, cap)
    return filled

"""KL divergence where P is known by its top k alone, as language models publish it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._checks.probabilities import check_topk
from .._checks.scalars import check_choice
from ._rows import row_values


class Bounds(NamedTuple):
    """What is certain of a divergence: ``lower <= KL <= upper``."""

    lower: Any
    upper: Any


def kl_divergence_topk(
    indices: npt.ArrayLike,
    log_probs: npt.ArrayLike,
    q_logits: npt.ArrayLike,
    *,
    tail: str = "bounds",
    n_threads: int | None = None,
) -> Any:
    """Return KL(P || Q) where only the k largest probabilities of P are known.

    Parameters
    ----------
    indices : integer array_like of shape (..., k)
        Where P's largest elements stand, distinct in every row.
    log_probs : array_like of shape (..., k)
        Their log-probabilities, in descending order.
    q_logits : array_like of shape (..., n_classes)
        Logits (or log-probabilities) of Q.
    tail : {"bounds", "bucket", "uniform", "drop"}, default "bounds"
        What to make of the mass t = 1 - sum exp(log_probs) that is not listed: ``"bounds"``
        returns :class:`Bounds`, a lower and an upper limit that hold for every tail;
        ``"bucket"`` takes all unlisted classes as one, which is the lower limit; ``"uniform"`` spreads t
        evenly over them; ``"drop"`` leaves it out.
    n_threads : int, optional
        Threads; ``None`` is all.

    Notes
    -----
    Lower limit: merging classes never increases KL (the log-sum inequality; Cover and Thomas, 2006, section 2.7).
    Upper limit: no unlisted element of P exceeds the smallest listed one, m, so the tail adds at most
    ``t (log min(m, t) - log min q)``, the last over unlisted classes.
    """
    check_choice(tail, "tail", ("bounds", "bucket", "uniform", "drop"))
    q = np.asarray(q_logits)
    (log_mass,) = row_values(q, None, ("mass",), from_logits=True, n_threads=n_threads, names=("q_logits", ""))
    index, logs = check_topk(indices, log_probs, q.shape[:-1], q.shape[-1])
    if q.dtype == np.uint16:
        q = (q.astype(np.uint32) << 16).view(np.float32)
    n_tail = q.shape[-1] - index.shape[-1]
    log_q = np.take_along_axis(q, index, axis=-1).astype(np.float64) - np.asarray(log_mass)[..., None]
    p = np.exp(logs)
    with np.errstate(invalid="ignore", divide="ignore"):
        head = np.where(p > 0, p * (logs - log_q), 0.0).sum(axis=-1)
        if tail == "drop":
            return head[()]
        rest_p = np.maximum(1 - p.sum(axis=-1), 0.0)
        rest_p = np.where(rest_p < 1e-15 * p.shape[-1], 0.0, rest_p)  # rounding of the sum
        rest_q = np.maximum(1 - np.exp(log_q).sum(axis=-1), 0.0)
        if tail == "uniform":
            return (head + _uniform(q, index, log_mass, rest_p, n_tail))[()]
        lower = head + np.where(rest_p > 0, rest_p * (np.log(rest_p) - np.log(rest_q)), 0.0)
        if tail == "bucket":
            return lower[()]
        unlisted = q.astype(np.float64)
        np.put_along_axis(unlisted, index, np.inf, axis=-1)
        least = unlisted.min(axis=-1) - log_mass
        most = rest_p * (np.minimum(logs[..., -1], np.log(rest_p)) - least)
        upper = head + np.where(rest_p > 0, most, 0.0)
    return Bounds(np.maximum(lower, 0.0)[()], np.maximum(upper, 0.0)[()])


def _uniform(q: Any, index: Any, log_mass: Any, rest_p: Any, n_tail: int) -> Any:
    """Return the tail's part where P spreads ``rest_p`` evenly over the unlisted classes."""
    if n_tail == 0:
        return np.where(rest_p > 0, np.inf, 0.0)
    unlisted = q.astype(np.float64)
    np.put_along_axis(unlisted, index, 0.0, axis=-1)
    mean_log_q = unlisted.sum(axis=-1) / n_tail - log_mass
    return np.where(rest_p > 0, rest_p * (np.log(rest_p / n_tail) - mean_log_q), 0.0)

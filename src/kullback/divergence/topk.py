"""The KL divergence from a distribution of which only the top k is known, which is what language models publish."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from .._checks.arrays import as_numbers, widen_bfloat16
from .._checks.names import match_names
from .._checks.probabilities import check_topk
from .._checks.scalars import check_choice
from ._rows import row_values


class Bounds(NamedTuple):
    """Two limits that hold for certain: ``lower <= KL <= upper``.

    Attributes
    ----------
    lower, upper : float64 array of shape (...), or scalar
        The limits in nats.
    """

    lower: Any
    upper: Any


@overload
def kl_divergence_topk(
    indices: npt.ArrayLike,
    log_probs: npt.ArrayLike,
    q_logits: npt.ArrayLike,
    *,
    tail: Literal["bounds"] = "bounds",
    n_threads: int | None = None,
) -> Bounds: ...
@overload
def kl_divergence_topk(
    indices: npt.ArrayLike,
    log_probs: npt.ArrayLike,
    q_logits: npt.ArrayLike,
    *,
    tail: Literal["bucket", "uniform", "drop"],
    n_threads: int | None = None,
) -> Any: ...
def kl_divergence_topk(
    indices: npt.ArrayLike,
    log_probs: npt.ArrayLike,
    q_logits: npt.ArrayLike,
    *,
    tail: Literal["bounds", "bucket", "uniform", "drop"] = "bounds",
    n_threads: int | None = None,
) -> Any:
    """Return KL(P || Q) where only the k largest probabilities of P are known.

    Parameters
    ----------
    indices : integer array_like of shape (..., k)
        The classes of the k largest probabilities of P. They are distinct in every row.
    log_probs : array_like of shape (..., k)
        The natural logarithms of these probabilities, in descending order.
    q_logits : array_like of shape (..., n_classes)
        Logits of Q, of which log-probabilities are a special case. Arrays of uint16, here and in ``log_probs``, are
        taken for the bits of bfloat16.
    tail : {"bounds", "bucket", "uniform", "drop"}, default "bounds"
        What to assume of the mass ``t = 1 - sum exp(log_probs)`` that is not listed. ``"bounds"`` assumes nothing and
        returns a lower and an upper limit. ``"bucket"`` takes all unlisted classes for one class, which gives the lower
        limit. ``"uniform"`` spreads t evenly over the unlisted classes. ``"drop"`` leaves t out.
    n_threads : int, optional
        How many threads to use; ``None`` is all. No bit of the result depends on it.

    Returns
    -------
    Bounds, or float64 array of shape (...), or scalar
        The two limits with ``tail="bounds"``; otherwise the divergence of each row. The unit is nats.

    Raises
    ------
    ValueError
        Where an index is no class or stands twice in a row, the probabilities ascend, or their sum exceeds 1.

    Notes
    -----
    The lower limit holds because merging classes never increases KL, by the log-sum inequality. The upper limit holds
    because no unlisted probability of P exceeds the smallest listed one, m. The tail therefore adds at most
    ``t (log min(m, t) - log min q)``, where the last minimum is over unlisted classes.

    References
    ----------
    T. M. Cover and J. A. Thomas (2006), Elements of information theory, section 2.7.

    Examples
    --------
    >>> import numpy as np
    >>> import kullback
    >>> bounds = kullback.kl_divergence_topk([[0, 2]], np.log([[0.6, 0.3]]), np.log([[0.5, 0.1, 0.3, 0.1]]))
    >>> bounds.lower.round(4), bounds.upper.round(4)
    (array([0.0401]), array([0.1094]))
    """
    check_choice(tail, "tail", ("bounds", "bucket", "uniform", "drop"))
    for name, listed in (("indices", indices), ("log_probs", log_probs)):
        match_names(q_logits, listed, (), f"q_logits and {name}")
    q = as_numbers(q_logits, "q_logits")
    (log_mass,) = row_values(q, None, ("mass",), from_logits=True, n_threads=n_threads, names=("q_logits", ""))
    index, logs = check_topk(indices, log_probs, q.shape[:-1], q.shape[-1])
    q = widen_bfloat16(q, from_logits=True)
    n_tail = q.shape[-1] - index.shape[-1]
    log_q = np.take_along_axis(q, index, axis=-1).astype(np.float64) - np.asarray(log_mass)[..., None]
    p = np.exp(logs)
    with np.errstate(invalid="ignore", divide="ignore"):
        head = np.where(p > 0, p * (logs - log_q), 0.0).sum(axis=-1)
        if tail == "drop":
            return head[()]
        rest_p = np.maximum(1 - p.sum(axis=-1), 0.0)
        rest_p = np.where(rest_p < 1e-15 * p.shape[-1], 0.0, rest_p)  # such a rest is the rounding of the sum
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
    """Return what the tail adds where P spreads ``rest_p`` evenly over the unlisted classes."""
    if n_tail == 0:
        return np.where(rest_p > 0, np.inf, 0.0)
    unlisted = q.astype(np.float64)
    np.put_along_axis(unlisted, index, 0.0, axis=-1)
    mean_log_q = unlisted.sum(axis=-1) / n_tail - log_mass
    return np.where(rest_p > 0, rest_p * (np.log(rest_p / n_tail) - mean_log_q), 0.0)

"""The KL divergence from a distribution of which only the top k is known, which is what language models publish."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from .._checks.arrays import as_numbers, widen_bfloat16
from .._checks.names import match_names
from .._checks.probabilities import check_topk, refuse_impossible_rest
from .._checks.scalars import check_choice, check_finite
from .._options import FloatArray
from ._rows import row_values

BLOCK_ELEMENTS = 1 << 19
"""How many logits are in float64 at a time."""

ROUNDING = 2.0**-48
"""How far sums may be off, in units of the sum of their absolute terms: 16 times eps."""


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
    max_log_ratio: float | None = None,
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
    max_log_ratio: float | None = None,
    n_threads: int | None = None,
) -> Any:
    """Return KL(P || Q) where only the k largest probabilities of P are known.

    Parameters
    ----------
    indices : integer array_like of shape (..., k)
        The classes of the k largest probabilities of P. They are distinct in every row.
    log_probs : array_like of shape (..., k)
        The natural logarithms of these probabilities, in descending order. They, or the probabilities, may have been
        rounded to the dtype of this array.
    q_logits : array_like of shape (..., n_classes)
        Logits of Q, of which log-probabilities are a special case. Arrays of uint16, here and in ``log_probs``, are
        taken for the bits of bfloat16.
    tail : {"bounds", "bucket", "uniform", "drop"}, default "bounds"
        What to assume of the mass ``t = 1 - sum exp(log_probs)`` that is not listed. ``"bounds"`` assumes nothing and
        returns a lower and an upper limit. ``"bucket"`` takes all unlisted classes for one class, which is exact where
        P is proportional to Q on them. ``"uniform"`` spreads t evenly over the unlisted classes. ``"drop"`` leaves t
        out.
    max_log_ratio : float, optional
        An assumption that makes the upper limit smaller: on no unlisted class is ``log(p / q)`` larger than this. It
        needs ``tail="bounds"``.
    n_threads : int, optional
        How many threads to use; ``None`` is all. No bit of the result depends on it.

    Returns
    -------
    Bounds, or float64 array of shape (...), or scalar
        The two limits with ``tail="bounds"``; otherwise the divergence of each row. The unit is nats.

    Raises
    ------
    ValueError
        Where an index is no class or stands twice in a row, the probabilities ascend, their sum exceeds 1, the unlisted
        classes cannot hold what is missing to 1, or ``max_log_ratio`` cannot hold.

    Notes
    -----
    No unlisted probability exceeds the smallest listed one, m. Of all P that the list allows, the nearest to Q has
    ``min(c q, m)`` on the unlisted classes, with the one c that gives them the mass t. The farthest has m on as many
    classes of the smallest q as t fills, and what remains on the next one. So the limits are the best that the list
    alone allows. The upper limit is infinite where an unlisted class has no probability under Q, unless t must be 0.

    Because listed values are rounded, each probability is known to ``eps (1 + |log p|) / 2`` of itself, where eps is
    that of the dtype. The limits hold for all probabilities within that distance.

    The upper limit is often far above the lower one, because t may lie where Q has almost nothing. Two assumptions make
    it useful. If ``log(p / q) <= r`` on the unlisted classes, they add at most ``t r``, see ``max_log_ratio``. If P is
    proportional to Q there, the divergence is that of ``tail="bucket"``.

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
    ratio = None if max_log_ratio is None else check_finite(max_log_ratio, "max_log_ratio")
    if ratio is not None and tail != "bounds":
        raise ValueError(f"max_log_ratio must be None with tail={tail!r}, got {max_log_ratio!r}")
    for name, listed in (("indices", indices), ("log_probs", log_probs)):
        match_names(q_logits, listed, (), f"q_logits and {name}")
    q = as_numbers(q_logits, "q_logits")
    row_values(q, None, ("mass",), from_logits=True, n_threads=n_threads, names=("q_logits", ""))  # checks the logits
    index, logs, error, tolerance = check_topk(indices, log_probs, q.shape[:-1], q.shape[-1])
    q = widen_bfloat16(q, from_logits=True)
    batch = q.shape[:-1]
    if not batch:
        q, index, logs, error = q[None], index[None], logs[None], error[None]
    n_rows = int(np.prod(q.shape[:-1]))
    step = max(1, BLOCK_ELEMENTS // q.shape[-1])
    values = np.empty((2 if tail == "bounds" else 1, n_rows))
    for start in range(0, n_rows, step):
        rows = np.unravel_index(np.arange(start, min(start + step, n_rows)), q.shape[:-1])
        block = _LogProbabilities(q[rows], index[rows], n_threads)
        if tail == "bounds":
            refuse_impossible_rest(
                logs[rows], error[rows], block.unlisted.shape[1], tolerance, start if batch else None
            )
            found = _limits(block, logs[rows], error[rows], ratio)
        else:
            found = _with_tail(block, logs[rows], error[rows], tail)
        values[:, start : start + step] = found
    shaped = values.reshape(len(values), *batch)
    return Bounds(shaped[0][()], shaped[1][()]) if tail == "bounds" else shaped[0][()]


class _LogProbabilities:
    """Rows of Q as logarithms of probabilities in float64: the listed classes, the others, and the mass of these."""

    def __init__(self, logits: Any, index: Any, n_threads: int | None) -> None:
        self.n_threads = n_threads
        shifted = np.array(logits, dtype=np.float64)
        shifted -= shifted.max(axis=-1, keepdims=True)  # differences of logits are exact where those are near
        is_unlisted = np.ones(shifted.shape, dtype=bool)
        np.put_along_axis(is_unlisted, index, False, axis=-1)
        self.listed = np.take_along_axis(shifted, index, axis=-1)
        self.unlisted = shifted[is_unlisted].reshape(len(shifted), -1)
        self.log_rest = self.log_sum(self.unlisted)
        log_mass = np.logaddexp(self.log_sum(self.listed), self.log_rest)
        self.log_rest -= log_mass
        self.listed -= log_mass[:, None]
        self.unlisted -= log_mass[:, None]

    def log_sum(self, logits: FloatArray) -> FloatArray:
        """Return log-sum-exp of each row, which is -inf where all of it is."""
        options: Any = {"from_logits": True, "normalize": True, "n_threads": self.n_threads}
        sums: FloatArray = row_values(logits, None, ("mass",), **options)[0]
        return np.nan_to_num(sums, copy=False, nan=-np.inf, neginf=-np.inf)

    def ends(self, n: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the n smallest unlisted logarithms, ascending, the n largest, descending, and the mass of the others.

        The last is the logarithm of the mass of all but the n largest.
        """
        ordered, n_unlisted = self.unlisted, self.unlisted.shape[1]
        n = min(n, n_unlisted)
        if 4 * n > n_unlisted:  # then to sort all costs no more
            ordered = np.sort(ordered, axis=-1)
            smallest = ordered[:, :n]
        else:
            ordered = np.partition(ordered, n_unlisted - n, axis=-1)
            smallest = np.sort(np.partition(ordered, n, axis=-1)[:, :n], axis=-1)
        largest = np.sort(ordered[:, n_unlisted - n :], axis=-1)[:, ::-1]
        return smallest, largest, self.log_sum(ordered[:, : n_unlisted - n])


def _with_tail(block: _LogProbabilities, logs: FloatArray, error: FloatArray, tail: str) -> Any:
    """Return the divergence where what is unlisted is one class, spread evenly, or left out."""
    p = np.exp(logs)
    rest, n_unlisted = np.maximum(1 - p.sum(axis=-1), 0.0), block.unlisted.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        divergence = np.where(p > 0, p * (logs - block.listed), 0.0).sum(axis=-1)
        if tail == "drop":
            return divergence
        if tail == "bucket":
            term = rest * (np.log(rest) - block.log_rest)
        else:
            mean = block.unlisted.mean(axis=-1) if n_unlisted else -np.inf
            term = rest * (np.log(rest / max(n_unlisted, 1)) - mean)
    rounding = np.isinf(term) & (rest <= (p * error).sum(axis=-1))  # a rest that may be 0 must not decide for inf
    return divergence + np.where((rest == 0) | rounding, 0.0, term)


def _limits(block: _LogProbabilities, logs: FloatArray, error: FloatArray, max_log_ratio: float | None) -> FloatArray:
    """Return the least and the largest divergence of the P that the list allows.

    Every class adds ``p log(p / q) - p + q``. These terms sum up to the divergence and are least where p is q, so that
    each may be bounded alone: the listed ones within their rounding, and the others together, whose mass is 1 less that
    of the listed ones.
    """
    low, high, q = logs - error, logs + error, block.listed
    masses = np.exp(low), np.exp(high)
    cap = masses[1][:, -1]
    room = block.unlisted.shape[1] * cap
    t_low = np.clip(1 - masses[1].sum(axis=-1) - ROUNDING, 0.0, room)
    t_high = np.clip(1 - masses[0].sum(axis=-1) + ROUNDING, 0.0, room)
    with np.errstate(invalid="ignore", divide="ignore"):
        n_full = np.where(cap > 0, np.floor(t_high / cap), 0.0)
        smallest, largest, log_others = block.ends(int(n_full.max(initial=0)) + 1)
        scale = 1 + np.where(masses[1] > 0, masses[1] * (np.abs(logs) + np.abs(q)), 0.0).sum(axis=-1)
        scale += np.where(t_high > 0, t_high * np.abs(np.log(cap)), 0.0)
        # The nearest P
        n_below = np.exp(log_others) + np.minimum(np.exp(largest), cap[:, None]).sum(axis=-1)  # its mass for c = 1
        t = np.clip(n_below, t_low, t_high)
        rest = np.where(t > 0, _nearest_rest(t, cap, largest, log_others, block), 0.0)
        lower = _excess(np.clip(q, low, high), q).sum(axis=-1) + rest - t + np.exp(block.log_rest)
        lower = np.where(np.isinf(lower), lower, np.maximum(lower - ROUNDING * (scale + np.abs(rest)), 0.0))
        # The farthest P
        n_worth = np.count_nonzero(smallest < np.log(cap)[:, None] - 1, axis=-1)
        between = np.clip(n_worth, np.ceil(t_low / cap), np.floor(t_high / cap)) * cap
        masses_of_rest = t_low, t_high, np.where(t_high > 0, np.clip(between, t_low, t_high), 0.0)
        rest = np.max([_farthest_rest(t, cap, smallest) - t for t in masses_of_rest], axis=0)
        if max_log_ratio is not None:
            rest = np.minimum(rest, np.maximum((max_log_ratio - 1) * t_low, (max_log_ratio - 1) * t_high))
        upper = np.maximum(_excess(low, q), _excess(high, q)).sum(axis=-1) + rest + np.exp(block.log_rest)
        upper = np.where(np.isinf(upper), upper, upper + ROUNDING * (scale + np.abs(rest)))
    if max_log_ratio is not None and (lower > upper).any():
        raise ValueError(
            f"max_log_ratio must be larger, as the divergence is at least {lower[lower > upper][0]:.9g} and "
            f"{max_log_ratio:.9g} allows at most {upper[lower > upper][0]:.9g}"
        )
    return np.stack([lower, np.maximum(upper, lower)])


def _excess(log_p: FloatArray, log_q: FloatArray) -> FloatArray:
    """Return p log(p / q) - p + q."""
    p = np.exp(log_p)
    return np.where(p > 0, p * (log_p - log_q), 0.0) - p + np.exp(log_q)


def _nearest_rest(
    t: FloatArray, cap: FloatArray, largest: FloatArray, log_others: FloatArray, block: _LogProbabilities
) -> FloatArray:
    """Return the least sum of p log(p / q) over unlisted classes of mass t, which p = min(c q, cap) gives.

    The n classes of the largest q have the cap, where n is the smallest number for which c times the next q is below.
    """
    n_rows, n_largest = largest.shape
    # The masses of all but the n largest, for n from 0 on, and what P has there.
    log_rests = np.logaddexp.accumulate(np.column_stack([log_others, largest[:, ::-1]]), axis=-1)[:, ::-1]
    rests = t[:, None] - np.arange(n_largest + 1) * cap[:, None]
    following = np.column_stack([largest, np.full(n_rows, -np.inf)])
    fits = (rests <= 0) | (np.log(rests) - log_rests + following <= np.log(cap)[:, None])
    n = np.argmax(fits, axis=-1)
    has_cap = np.arange(n_largest) < n[:, None]
    rest = np.maximum(t - n * cap, 0.0)
    log_rest = block.log_sum(np.column_stack([np.where(has_cap, -np.inf, largest), log_others]))
    with_cap = cap * (n * np.log(cap) - np.where(has_cap, largest, 0.0).sum(axis=-1))
    nearest: FloatArray = with_cap + np.where(rest > 0, rest * (np.log(rest) - log_rest), 0.0)
    return nearest


def _farthest_rest(t: FloatArray, cap: FloatArray, smallest: FloatArray) -> FloatArray:
    """Return the largest sum of p log(p / q) over unlisted classes of mass t, which fills those of the smallest q."""
    n = np.where(t > 0, np.minimum(np.floor(t / cap), smallest.shape[1]), 0.0)
    rest = np.maximum(t - n * cap, 0.0)
    is_full = np.arange(smallest.shape[1]) < n[:, None]
    full = np.where(n > 0, cap * (n * np.log(cap) - np.where(is_full, smallest, 0.0).sum(axis=-1)), 0.0)
    following = np.column_stack([smallest, np.zeros(len(t))])[np.arange(len(t)), n.astype(np.intp)]
    return full + np.where(rest > 0, rest * (np.log(rest) - following), 0.0)

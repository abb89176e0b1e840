"""Divergences of one pair of huge distributions that arrives in chunks along the support."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks.probabilities import BFLOAT16_EPS
from .._checks.scalars import check_base, check_choices, check_flag
from .._checks.streams import check_support, check_total, raise_bad_logits
from .._kernels import exact_sum as exact_sum_kernel
from .._kernels import support as support_kernel
from .._states import Arrays, refuse_unknown, take
from .._threads import resolve_threads
from ._exact import MAX_COUNT, MAX_PENDING, N_CHUNKS_VALUES, is_canonical, to_float, to_fraction
from ._state import Accumulator
from ._support_result import SupportResult

# The sums of terms that are kept, in the order of the kernel ``support``; a and b are the logits of p and of q.
_TERMS = ("sum_p", "sum_q", "kl", "reverse_kl", "p_log_p", "q_log_q", "p_log_q", "js", "total_variation")
_LOGIT_TERMS = ("exp_a", "a_difference", "a_logit", "a_other", "exp_b", "b_difference", "b_logit")
_N_TERMS_A = 4  # so many terms of logits belong to the windows of e^a, the others to those of e^b
_TERM_OF = {
    "kl": "kl", "reverse_kl": "reverse_kl", "entropy_p": "p_log_p", "entropy_q": "q_log_q",
    "cross_entropy": "p_log_q", "js": "js", "total_variation": "total_variation",
}  # fmt: skip
"""The sum that each measure of probabilities needs, beside those of p and of q."""

_LOGIT_TERM_OF = {
    "kl": "a_difference", "reverse_kl": "b_difference", "entropy_p": "a_logit", "entropy_q": "b_logit",
    "cross_entropy": "a_other",
}  # fmt: skip
"""The sum that each measure of logits needs, beside those of e^a and of e^b."""

_IN_NATS = {"kl", "reverse_kl", "entropy_p", "entropy_q", "cross_entropy", "js"}

N_WINDOWS = 40
"""Windows of 32 binary exponents of e^logit that are kept. They reach down to 2^-1248 of the largest."""

_NO_WINDOW = -(1 << 62)  # where no logit was seen
_NO_WINDOWS = _NO_WINDOW, _NO_WINDOW

_ELEMENTS_PER_THREAD = 1 << 12
"""Elements that each thread must have, because with fewer it costs more to start threads than they bring."""

_MAY_BE_INFINITE = {"kl", "reverse_kl", "p_log_q", "a_difference", "b_difference", "a_other"}
"""The terms that are infinite where one side alone is zero."""

_NOT_NEGATIVE = {"sum_p", "sum_q", "exp_a", "exp_b", "total_variation"}
"""The terms that are not negative, however they are rounded."""

_EPS = {BFLOAT16_EPS, *(float(np.finfo(kind).eps) for kind in ("float16", "float32", "float64", "longdouble"))}
"""What the coarsest dtype may have as its eps."""

_LARGEST_WINDOW = 1 << 36  # logits are at most 2^40, and so their binary exponents are less than 2^41

_DECIMAL = Context(prec=50)  # far beyond float64, so that what cancels in the last steps does no harm


class _Contents(NamedTuple):
    """What a ``SupportDivergence`` holds: new arrays for each change, so that whoever has contents may keep them."""

    sums: NDArray[np.int64]  # term x chunk; of logits, window x term x chunk
    infinite: NDArray[np.int64]  # how many terms were infinite
    tops: tuple[int, int]  # the highest window of e^a, and that of e^b
    n_elements: int
    eps: float
    pending: int  # additions since the sums were carried, or more

    def copy(self) -> _Contents:
        """Return carried contents."""
        sums = self.sums.copy()
        exact_sum_kernel.carry(sums.reshape(-1, N_CHUNKS_VALUES))
        return self._replace(sums=sums, pending=1)

    def add(self, other: _Contents) -> _Contents:
        """Return contents with those of ``other`` added, whose sums may be written to."""
        tops, total, addend = self.tops, other.sums, self.sums
        if other.tops != self.tops:
            tops = _higher(self.tops, other.tops)
            total, addend = _raise_tops(total, other.tops, tops), _raise_tops(addend, self.tops, tops)
        total += addend
        pending = self.pending + other.pending
        if pending >= MAX_PENDING:
            exact_sum_kernel.carry(total.reshape(-1, N_CHUNKS_VALUES))
            pending = 1
        n_elements, eps = self.n_elements + other.n_elements, max(self.eps, other.eps)
        return _Contents(total, self.infinite + other.infinite, tops, n_elements, eps, pending)


def _higher(first: tuple[int, int], second: tuple[int, int]) -> tuple[int, int]:
    """Return the higher windows of both sides."""
    return max(first[0], second[0]), max(first[1], second[1])


def _raise_tops(sums: NDArray[np.int64], old: tuple[int, int], new: tuple[int, int]) -> NDArray[np.int64]:
    """Return windows that begin higher; what falls out at the end is dropped."""
    if old == new:
        return sums
    raised = np.zeros_like(sums)
    for low, high, terms in zip(old, new, (slice(0, _N_TERMS_A), slice(_N_TERMS_A, None)), strict=True):
        if high - low < len(sums):
            raised[high - low :, terms] = sums[: len(sums) - (high - low), terms]
    return raised


class SupportDivergence(Accumulator):
    """Divergences of one pair of distributions whose support arrives in chunks, in any order.

    Each element of the support must come exactly once, with both of its sides. Sums of terms are exact, so
    any chunking, any order of merging and any thread count give the same bits.

    Parameters
    ----------
    measures
        Among "kl", "reverse_kl", "entropy_p", "entropy_q", "cross_entropy", "js", "total_variation".
        The last two are not to be had from logits or with ``normalize=True``, because their terms need the
        totals.
    from_logits
        Whether ``p`` and ``q`` are logits or log-probabilities, which are then normalised. -inf
        and logits below -2^40 are probability zero; NaN and logits above 2^40 are refused.
    base
        Base of the logarithm in the logarithmic measures; e, that is nats, by default.
    normalize
        True divides by the totals. "check" does the same, but ``result`` raises where a total is off
        by more than sqrt(eps) of the coarsest dtype that came. False takes the terms as they are; KL is
        then sum(p log(p / q) - p + q).
    n_threads
        Threads of the kernels; no bit of the result depends on it.

    Notes
    -----
    For logits a and b, KL = sum(e^a (a - b)) / sum(e^a) - log sum(e^a) + log sum(e^b). A running
    log-sum-exp would depend on the order in which its maximum grew. Here the terms are kept in one
    exact sum for each fixed window of 32 binary exponents, and whole windows are dropped where they lie
    below 2^-1216 of the largest. Both depend on the set of elements alone. The last steps are
    taken with 50 decimal digits, so the error is that of the terms: it is absolute, a few 1e-16 at
    worst, and 0 for equal sides. A divergence that it would make negative is 0.
    """

    _contents: _Contents
    _format = "kullback.streaming.SupportDivergence"

    def __init__(
        self,
        measures: Sequence[str] = ("kl",),
        *,
        from_logits: bool = False,
        base: float | None = None,
        normalize: bool | str = "check",
        n_threads: int | None = None,
    ) -> None:
        self.from_logits = check_flag(from_logits, "from_logits")
        if normalize not in (True, False, "check"):
            raise ValueError(f"normalize must be True, False or 'check', got {normalize!r}")
        self.normalize = normalize
        choices = tuple(_LOGIT_TERM_OF if from_logits else _TERM_OF)
        if normalize is True and not from_logits:
            choices = tuple(name for name in choices if name not in ("js", "total_variation"))
        self.measures = check_choices(measures, "measures", choices)
        self.base = None if base is None else check_base(base)
        self.n_threads = n_threads
        if self.from_logits:
            wanted = {"exp_a", "exp_b", *(_LOGIT_TERM_OF[name] for name in self.measures)}
            self._names: tuple[str, ...] = _LOGIT_TERMS
            self._codes = np.array([name in wanted for name in _LOGIT_TERMS], np.intc)
            self._shape: tuple[int, ...] = (N_WINDOWS, len(_LOGIT_TERMS), N_CHUNKS_VALUES)
        else:
            terms = {"sum_p", "sum_q", *(_TERM_OF[name] for name in self.measures)}
            self._names = tuple(name for name in _TERMS if name in terms)
            self._codes = np.array([_TERMS.index(name) for name in self._names], np.intc)
            self._shape = (len(self._names), N_CHUNKS_VALUES)
        self._contents = self._empty()

    def _configuration(self) -> dict[str, Any]:
        return {
            "measures": list(self.measures),
            "from_logits": self.from_logits,
            "base": self.base,
            "normalize": self.normalize,
        }

    # -- updating

    def update(self, p: ArrayLike, q: ArrayLike) -> SupportDivergence:
        """Add elements of the support, and return ``self``; an error leaves the accumulator as it was.

        Parameters
        ----------
        p, q
            Probabilities (or logits) of the same elements, in arrays of one shape. Logits of uint16 are taken for the
            bits of bfloat16.
        """
        left, right, eps = check_support(p, q, from_logits=self.from_logits)
        own = self._survey(left, right) if self.from_logits else _NO_WINDOWS
        while True:
            contents = self._contents
            found = self._reduce(left, right, _higher(own, contents.tops), eps)
            with self._lock:
                now = _higher(own, self._contents.tops)
                if _higher(now, found.tops) == now:  # or else it was reset meanwhile
                    self._contents = self._contents.add(found)
                    return self

    def _reduce(self, left: NDArray[Any], right: NDArray[Any], tops: tuple[int, int], eps: float) -> _Contents:
        """Return the contents of some elements, with windows that begin at ``tops``."""
        threads = resolve_threads(self.n_threads)
        parts = threads if left.size >= _ELEMENTS_PER_THREAD * threads else 1
        sums = np.zeros((parts, *self._shape), np.int64)
        infinite = np.zeros((parts, len(self._names)), np.int64)
        for start in range(0, left.size, MAX_PENDING):
            chunk = slice(start, start + MAX_PENDING)
            if self.from_logits:
                support_kernel.add_logits(left[chunk], right[chunk], self._codes, *tops, sums, infinite, threads)
            else:
                support_kernel.add_probabilities(left[chunk], right[chunk], self._codes, sums, infinite, threads)
            exact_sum_kernel.carry(sums.reshape(-1, N_CHUNKS_VALUES))
        total = sums[0] if parts == 1 else sums.sum(0)
        return _Contents(total, infinite[0] if parts == 1 else infinite.sum(0), tops, left.size, eps, parts)

    def _survey(self, a: NDArray[Any], b: NDArray[Any]) -> tuple[int, int]:
        """Return the windows of the highest exponents of both sides; raise for what is no logit."""
        tops, survey = [_NO_WINDOW, _NO_WINDOW], np.empty(3, np.int64)
        for side, logits in enumerate((a, b)):
            support_kernel.survey_logits(logits, survey)
            highest, n_counted, n_refused = survey.tolist()
            if n_refused:
                raise_bad_logits("pq"[side], n_refused)
            if n_counted:
                tops[side] = highest >> 5
        return tops[0], tops[1]

    # -- merging and states

    def _empty(self) -> _Contents:
        n_terms = len(self._names)
        return _Contents(np.zeros(self._shape, np.int64), np.zeros(n_terms, np.int64), _NO_WINDOWS, 0, 0.0, 0)

    def _fold(self, contents: _Contents) -> _Contents:
        return self._contents.add(contents)

    def _export(self, contents: _Contents) -> Arrays:
        return {
            "sums": contents.sums,
            "infinite": contents.infinite.copy(),
            "tops": np.array(contents.tops),
            "n_elements": np.array(contents.n_elements),
            "eps": np.array(contents.eps),
        }

    def _import(self, arrays: Arrays) -> _Contents:
        contents = _Contents(
            take(arrays, "sums", "int64", self._shape),
            take(arrays, "infinite", "int64", (len(self._names),)),
            tuple(take(arrays, "tops", "int64", (2,)).tolist()),
            int(take(arrays, "n_elements", "int64", ())),
            float(take(arrays, "eps", "float64", ())),
            1,
        )
        refuse_unknown(arrays)
        self._check(contents)
        return contents

    def _check(self, contents: _Contents) -> None:
        """Raise where no elements of a support can have made these contents."""
        sums, infinite, tops, n, eps, _ = contents
        if not 0 <= n < MAX_COUNT:
            raise ValueError(f"state['n_elements'] must not be negative, nor 2^60 or more, got {n}")
        is_finite = [name not in _MAY_BE_INFINITE for name in self._names]
        if not ((infinite >= 0) & (infinite <= n)).all() or infinite[is_finite].any():
            raise ValueError("state['infinite'] must not be negative, nor count more elements than state['n_elements']")
        if eps not in _EPS and not (eps == 0 and n == 0):
            raise ValueError(f"state['eps'] must be that of a float dtype, got {eps}")
        if not is_canonical(sums):
            raise ValueError("state['sums'] must be in canonical form")
        known = [abs(top) for top in tops if top != _NO_WINDOW]
        if known and not (self.from_logits and n and max(known) <= _LARGEST_WINDOW):
            raise ValueError("state['tops'] must be the windows of the highest logits that came")
        if n == 0 and sums.any():
            raise ValueError("state['sums'] must be 0 where no elements came")
        not_negative = [name in _NOT_NEGATIVE for name in self._names]
        if (sums[..., not_negative, -1] < 0).any():
            raise ValueError("state['sums'] must not be negative where they are those of probabilities")
        if self.from_logits:
            self._check_windows(sums, tops)

    def _check_windows(self, sums: NDArray[np.int64], tops: tuple[int, int]) -> None:
        """Raise where the first windows do not hold the highest logits, or terms are kept that are not wanted."""
        if sums[:, self._codes == 0].any():
            raise ValueError("state['sums'] must be 0 for terms that no measure needs")
        for side, terms in enumerate((slice(0, _N_TERMS_A), slice(_N_TERMS_A, None))):
            part = sums[:, terms]
            if part.any() if tops[side] == _NO_WINDOW else not part[0, 0].any():
                raise ValueError("state['sums'] must be those of logits whose highest windows are state['tops']")

    # -- reading

    def result(self) -> SupportResult:
        """Return the measures of everything seen so far."""
        contents = self._snapshot()
        unit = 1.0 if self.base is None else math.log(self.base)
        infinite = dict(zip(self._names, contents.infinite.tolist(), strict=True))
        read = self._from_logits if self.from_logits else self._from_probabilities
        sum_p = sum_q = math.nan
        if not self.from_logits:
            sum_p, sum_q = (to_float(to_fraction(contents.sums[i])) for i in (0, 1))
            if self.normalize == "check" and contents.n_elements:
                check_total(sum_p, "p", contents.eps)
                check_total(sum_q, "q", contents.eps)
        values = {}
        for name in self.measures:
            term = _LOGIT_TERM_OF[name] if self.from_logits else _TERM_OF[name]
            value = math.inf if infinite[term] else read(contents, name)
            if value < 0 and name != "cross_entropy" and (self.from_logits or self.normalize is not False):
                value = 0.0  # by the rounding of terms
            values[name] = value / unit if name in _IN_NATS else value
        return SupportResult(values, contents.n_elements, sum_p, sum_q)

    def _from_probabilities(self, contents: _Contents, name: str) -> float:
        """Return a measure of probabilities in nats."""
        sums = {term: to_fraction(contents.sums[i]) for i, term in enumerate(self._names)}
        p, q = sums["sum_p"], sums["sum_q"]
        if name in ("js", "total_variation"):
            return to_float(sums[name])
        if self.normalize is False:
            value = sums[_TERM_OF[name]]
            return to_float(value if name in ("kl", "reverse_kl") else -value)
        if p == 0 or q == 0:
            return math.nan
        if name == "reverse_kl":
            p, q = q, p
        if name in ("kl", "reverse_kl"):
            return _combine((sums[name] + p - q) / p, (-1, p), (1, q))
        if name == "entropy_q":
            return _combine(-sums["q_log_q"] / q, (1, q))
        term, total = ("p_log_p", p) if name == "entropy_p" else ("p_log_q", q)
        return _combine(-sums[term] / p, (1, total))

    def _from_logits(self, contents: _Contents, name: str) -> float:
        """Return a measure of logits in nats."""
        if _NO_WINDOW in contents.tops:
            return math.nan
        p, q = self._total(contents, "exp_a"), self._total(contents, "exp_b")
        shift_p, shift_q = (32 * top for top in contents.tops)
        if name in ("reverse_kl", "entropy_q"):
            p, q, shift_p, shift_q = q, p, shift_q, shift_p
        mean = self._total(contents, _LOGIT_TERM_OF[name]) / p
        if name in ("kl", "reverse_kl"):
            return _combine(mean, (-1, p), (1, q), power=shift_q - shift_p)
        if name == "cross_entropy":
            return _combine(-mean, (1, q), power=shift_q)
        return _combine(-mean, (1, p), power=shift_p)

    def _total(self, contents: _Contents, term: str) -> Fraction:
        """Return the exact sum of a term over all windows, in units of the highest one."""
        windows = contents.sums[:, self._names.index(term)]
        return sum((to_fraction(row) / (1 << (32 * k)) for k, row in enumerate(windows) if row.any()), Fraction(0))


def _combine(value: Fraction, *logarithms: tuple[int, Fraction], power: int = 0) -> float:
    """Return ``value + sum(sign * log(number)) + power * log(2)``, computed with 50 digits and then rounded."""
    total = _decimal(value)
    for sign, number in logarithms:
        total = _DECIMAL.add(total, _DECIMAL.multiply(Decimal(sign), _DECIMAL.ln(_decimal(number))))
    total = _DECIMAL.add(total, _DECIMAL.multiply(Decimal(power), _DECIMAL.ln(Decimal(2))))
    return float(total)


def _decimal(value: Fraction) -> Decimal:
    return _DECIMAL.divide(Decimal(value.numerator), Decimal(value.denominator))

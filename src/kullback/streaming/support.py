"""Divergences of one pair of huge distributions that arrives in chunks along the support."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks.scalars import check_base, check_choices, check_flag
from .._checks.streams import check_support, check_total, raise_bad_logits
from .._kernels import exact_sum as exact_sum_kernel
from .._kernels import support as support_kernel
from .._states import Arrays, refuse_unknown, take
from .._threads import resolve_threads, startable_threads
from ._exact import MAX_COUNT, MAX_PENDING, N_CHUNKS_VALUES, is_canonical, to_float, to_fraction
from ._state import Accumulator

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

_ELEMENTS_PER_THREAD = 1 << 12
"""Elements that each thread must have, because with fewer it costs more to start threads than they bring."""

_DECIMAL = Context(prec=50)  # far beyond float64, so that what cancels in the last steps does no harm


@dataclass(frozen=True, repr=False)
class SupportResult(Mapping[str, float]):
    """What ``SupportDivergence.result`` returns: ``result["kl"]`` or ``result.kl``.

    Attributes
    ----------
    measures
        Measure to value.
    n_elements
        How many elements of the support were seen.
    sum_p, sum_q
        Sums of the probabilities; NaN for logits.
    """

    measures: dict[str, float]
    n_elements: int
    sum_p: float
    sum_q: float

    def __getitem__(self, measure: str) -> float:
        return self.measures[measure]

    def __iter__(self) -> Iterator[str]:
        return iter(self.measures)

    def __len__(self) -> int:
        return len(self.measures)

    def __getattr__(self, name: str) -> float:
        if not name.startswith("_") and name in self.measures:
            return self.measures[name]
        raise AttributeError(f"no measure {name!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts."""
        return {
            "measures": dict(self.measures),
            "n_elements": self.n_elements,
            "sum_p": self.sum_p,
            "sum_q": self.sum_q,
        }

    def __repr__(self) -> str:
        values = ", ".join(f"{name} {value:.6g}" for name, value in self.measures.items())
        return f"SupportResult: {values} over {self.n_elements} elements"


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
            self._sums = np.zeros((N_WINDOWS, len(_LOGIT_TERMS), N_CHUNKS_VALUES), np.int64)
        else:
            terms = {"sum_p", "sum_q", *(_TERM_OF[name] for name in self.measures)}
            self._names = tuple(name for name in _TERMS if name in terms)
            self._codes = np.array([_TERMS.index(name) for name in self._names], np.intc)
            self._sums = np.zeros((len(self._names), N_CHUNKS_VALUES), np.int64)
        self._infinite = np.zeros(len(self._names), np.int64)
        self._tops = np.full(2, _NO_WINDOW, np.int64)  # the highest window of e^a, and that of e^b
        self._n_elements = 0
        self._eps = 0.0
        self._pending = 0

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
        threads = resolve_threads(self.n_threads)
        parts = threads if left.size >= _ELEMENTS_PER_THREAD * threads else 1
        run = startable_threads(parts)
        if self.from_logits:
            tops = self._survey(left, right)
            self._raise_tops(tops)
        top_a, top_b = self._tops.tolist()
        sums = np.zeros((parts, *self._sums.shape), np.int64)
        infinite = np.zeros((parts, len(self._infinite)), np.int64)
        for start in range(0, left.size, MAX_PENDING):
            chunk = slice(start, start + MAX_PENDING)
            if self.from_logits:
                support_kernel.add_logits(left[chunk], right[chunk], self._codes, top_a, top_b, sums, infinite, run)
            else:
                support_kernel.add_probabilities(left[chunk], right[chunk], self._codes, sums, infinite, run)
            exact_sum_kernel.carry(sums.reshape(-1, N_CHUNKS_VALUES))
        self._sums += sums.sum(0)
        self._pending += parts
        self._infinite += infinite.sum(0)
        self._n_elements += left.size
        self._eps = max(self._eps, eps)
        if self._pending >= MAX_PENDING:
            self._carry()
        return self

    def _survey(self, a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.int64]:
        """Return the windows of the highest exponents of both sides; raise for what is no logit."""
        tops = np.full(2, _NO_WINDOW, np.int64)
        survey = np.empty(3, np.int64)
        for side, logits in enumerate((a, b)):
            support_kernel.survey_logits(logits, survey)
            highest, n_counted, n_refused = survey.tolist()
            if n_refused:
                raise_bad_logits("pq"[side], n_refused)
            if n_counted:
                tops[side] = highest >> 5
        return tops

    def _raise_tops(self, tops: NDArray[np.int64]) -> None:
        """Let higher windows become the first ones; what falls out at the end is dropped."""
        for side, terms in enumerate((slice(0, _N_TERMS_A), slice(_N_TERMS_A, None))):
            rise = int(tops[side] - self._tops[side])
            if rise <= 0:
                continue
            kept = self._sums[: max(0, N_WINDOWS - rise), terms].copy()
            self._sums[:, terms] = 0
            self._sums[N_WINDOWS - len(kept) :, terms] = kept
            self._tops[side] = tops[side]

    def _carry(self) -> None:
        """Bring all sums into canonical form."""
        exact_sum_kernel.carry(self._sums.reshape(-1, N_CHUNKS_VALUES))
        self._pending = 0

    # -- merging and states

    def _fold(self, other: SupportDivergence) -> None:
        other = other.copy()
        self._carry()
        if self.from_logits:
            self._raise_tops(other._tops)
            other._raise_tops(self._tops)
        self._sums += other._sums
        self._carry()
        self._infinite += other._infinite
        self._n_elements += other._n_elements
        self._eps = max(self._eps, other._eps)

    def _export(self) -> Arrays:
        self._carry()
        return {
            "sums": self._sums.copy(),
            "infinite": self._infinite.copy(),
            "tops": self._tops.copy(),
            "n_elements": np.array(self._n_elements),
            "eps": np.array(self._eps),
        }

    def _import(self, arrays: Arrays) -> None:
        sums = take(arrays, "sums", "int64", self._sums.shape)
        infinite = take(arrays, "infinite", "int64", self._infinite.shape)
        tops = take(arrays, "tops", "int64", (2,))
        n_elements = int(take(arrays, "n_elements", "int64", ()))
        eps = float(take(arrays, "eps", "float64", ()))
        refuse_unknown(arrays)
        if not is_canonical(sums):
            raise ValueError("the state's sums are not in canonical form")
        counted = 0 <= n_elements < MAX_COUNT and ((infinite >= 0) & (infinite <= n_elements)).all()
        if not counted or not 0 <= eps <= 1:
            raise ValueError("the state's counts must not be negative, nor more elements infinite than seen")
        if not ((tops == _NO_WINDOW) | (abs(tops) <= 1 << 37)).all():
            raise ValueError("the state's windows are out of range")
        if n_elements == 0 and (sums.any() or (tops != _NO_WINDOW).any()):
            raise ValueError("the state has sums without elements")
        positive = [self._names.index(name) for name in ("sum_p", "sum_q", "exp_a", "exp_b") if name in self._names]
        if (sums[..., positive, -1] < 0).any():
            raise ValueError("the state has negative sums of probabilities")
        self._sums, self._infinite, self._tops = sums, infinite, tops
        self._n_elements, self._eps = n_elements, eps

    # -- reading

    def result(self) -> SupportResult:
        """Return the measures of everything seen so far."""
        self._carry()
        unit = 1.0 if self.base is None else math.log(self.base)
        infinite = dict(zip(self._names, self._infinite.tolist(), strict=True))
        read = self._from_logits if self.from_logits else self._from_probabilities
        sum_p = sum_q = math.nan
        if not self.from_logits:
            sum_p, sum_q = (to_float(to_fraction(self._sums[i])) for i in (0, 1))
            if self.normalize == "check" and self._n_elements:
                check_total(sum_p, "p", self._eps)
                check_total(sum_q, "q", self._eps)
        values = {}
        for name in self.measures:
            term = _LOGIT_TERM_OF[name] if self.from_logits else _TERM_OF[name]
            value = math.inf if infinite[term] else read(name)
            if value < 0 and name != "cross_entropy" and (self.from_logits or self.normalize is not False):
                value = 0.0  # by the rounding of terms
            values[name] = value / unit if name in _IN_NATS else value
        return SupportResult(values, self._n_elements, sum_p, sum_q)

    def _from_probabilities(self, name: str) -> float:
        """Return a measure of probabilities in nats."""
        sums = {term: to_fraction(self._sums[i]) for i, term in enumerate(self._names)}
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

    def _from_logits(self, name: str) -> float:
        """Return a measure of logits in nats."""
        if (self._tops == _NO_WINDOW).any():
            return math.nan
        p, q = self._total("exp_a"), self._total("exp_b")
        shift_p, shift_q = (32 * int(top) for top in self._tops)
        if name in ("reverse_kl", "entropy_q"):
            p, q, shift_p, shift_q = q, p, shift_q, shift_p
        mean = self._total(_LOGIT_TERM_OF[name]) / p
        if name in ("kl", "reverse_kl"):
            return _combine(mean, (-1, p), (1, q), power=shift_q - shift_p)
        if name == "cross_entropy":
            return _combine(-mean, (1, q), power=shift_q)
        return _combine(-mean, (1, p), power=shift_p)

    def _total(self, term: str) -> Fraction:
        """Return the exact sum of a term over all windows, in units of the highest one."""
        windows = self._sums[:, self._names.index(term)]
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

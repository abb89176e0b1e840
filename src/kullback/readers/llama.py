"""A report of what a second model makes of the tokens whose logits under a base model are given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._blocks import Blocks
from .._checks.arrays import widen_bfloat16
from .._checks.labels import check_class_labels
from .._interrupts import note_interrupts
from .._threads import resolve_threads
from ..streaming import RowStatistics, RowValues
from ._formats import SparseSource
from ._llama_file import CLIPPED_SPAN, N_STEPS, LlamaLogits, is_llama_logits
from ._open import open_source
from ._source import Source

__all__ = ["LlamaLogits", "LogitsReport", "compare_logits", "is_llama_logits"]

Floats = NDArray[np.float64]
Tokens = NDArray[np.integer[Any]]

_ROUNDING = 2.0**-17
"""A bound of the rounding of stored values: each is a float32 sum of two terms below 2^5, both rounded to 2^-24."""

_LARGEST_BLOCK_ROWS = 64
"""Rows of a block at most, so that progress shows and Ctrl-C is soon obeyed."""

_PIECE_BYTES = 1 << 17
"""Bytes of one float64 array of the rows that are reduced at once."""

_LARGEST_EXPONENT = 709
"""The exponential of a larger number is infinite in float64, and math.exp raises instead of returning that."""


@dataclass(frozen=True, repr=False)
class LogitsReport:
    """What ``compare_logits`` returns: each statistic with its error, and a readable ``repr``.

    Attributes
    ----------
    n_tokens
        Number of scored positions.
    perplexity, perplexity_base, perplexity_ratio
        Perplexity of the second model, of the base, and their ratio: (value, standard error).
    kl
        Statistics of KL(base || second) in nats over positions.
    kl_bounds
        Two numbers between which the mean KL of the unquantised base lies: rigorous bounds over all logits
        that the stored codes can stand for. None where the base is not quantised.
    top1_agreement
        Share of positions whose largest probability is the same token's: (value, standard error).
    p_change
        Statistics of p(correct token) under the second model less that under the base.
    p_change_rms
        Root of the mean square of that change.
    """

    n_tokens: int
    perplexity: tuple[float, float]
    perplexity_base: tuple[float, float]
    perplexity_ratio: tuple[float, float]
    kl: RowStatistics
    kl_bounds: tuple[float, float] | None
    top1_agreement: tuple[float, float]
    p_change: RowStatistics
    p_change_rms: float

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain dicts."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return fields | {"kl": self.kl.to_dict(), "p_change": self.p_change.to_dict()}

    def __repr__(self) -> str:
        pairs = (
            ("PPL(second)", self.perplexity),
            ("PPL(base)", self.perplexity_base),
            ("PPL(second)/PPL(base)", self.perplexity_ratio),
            ("Mean KL [nats]", (self.kl.mean, self.kl.standard_error)),
            ("Same top token", self.top1_agreement),
            ("Mean change of p(correct)", (self.p_change.mean, self.p_change.standard_error)),
        )
        lines = [f"{self.n_tokens} tokens"]
        lines += [f"{name:<28} {value:12.6f} +- {error:.6f}" for name, (value, error) in pairs]
        lines.append(f"{'RMS change of p(correct)':<28} {self.p_change_rms:12.6f}")
        if self.kl_bounds is not None:
            low, high = self.kl_bounds
            lines.append(f"{'KL of the unquantised base':<28} {low:12.6f} to {high:.6f}")
        lines.append(f"{'Maximum KL':<28} {self.kl.max:12.6f}")
        for p, value in sorted(self.kl.quantiles.items(), reverse=True):
            value = min(max(value, self.kl.min), self.kl.max)  # the middle of a bucket may lie outside
            lines.append(f"{f'{100 * p:g} % of KL':<28} {value:12.6f}")
        lines.append(f"{'Minimum KL':<28} {self.kl.min:12.6f}")
        return "\n".join(lines)


def compare_logits(
    base: Any,
    second: Any,
    labels: NDArray[np.integer[Any]] | None = None,
    *,
    quantiles: tuple[float, ...] = (0.01, 0.05, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999),
    progress: bool = True,
    max_memory: int = 256 << 20,
    n_threads: int | None = None,
) -> LogitsReport:
    """Compare a second model's logits with a base model's, token by token.

    Parameters
    ----------
    base, second
        Logits or log-probabilities, one row for each scored position: files of llama.cpp's base
        logits, or anything that ``open_source`` takes. Arrays of uint16 are taken for the bits of bfloat16.
    labels
        The correct token of each row; by default those of the llama.cpp file.
    quantiles
        Probabilities whose quantiles of KL and of the change of p(correct) are reported.
    progress
        Whether to show progress where the error stream is a terminal.
    max_memory
        Bytes that all blocks together may take while they are reduced, with what is computed from them.
    n_threads
        Threads; no bit of the result depends on them.

    Notes
    -----
    Both sides are normalised in float64. Let l be a stored log-probability, and e half a step of the codes
    plus the rounding of float32. The true p of that token lies between exp(l - e) and exp(l + e). Where the
    code is 0 in a row that spans all 16 nats, smaller values were clipped, and p lies between 0 and
    exp(l + e). As p and q both sum to 1, KL is the sum of h(p) = p log(p / q) - p + q over all tokens. The
    function h is convex and has its minimum 0 at p = q. So the sum of its least values over these intervals,
    and the sum of its greatest values, bound the true KL.
    """
    sources: list[Source] = []
    try:
        sources.append(open_source(base))
        sources.append(open_source(second))
        totals = _Totals(quantiles)
        tokens = _check_tokens(sources, labels)
        block_rows, n_workers = _plan(sources, max_memory, n_threads)
        parts = [_Totals(quantiles) for _ in range(n_workers)]
        # Codes are read as they are stored, because the bounds need their scale.
        stored = [_StoredLogits(source) if isinstance(source, LlamaLogits) else source for source in sources]
        _run(Blocks(stored, len(tokens), block_rows), parts, tokens, progress)
    finally:
        for source, given in zip(sources, (base, second), strict=False):
            if source is not given:
                source.close()
    for part in parts:
        totals.merge(part)
    return totals.report(len(tokens), is_quantised=isinstance(sources[0], LlamaLogits))


def _check_tokens(sources: list[Source], labels: Any) -> Tokens:
    """Return the correct token of each row; raise where the sides do not fit them or each other."""
    base, second = sources
    tokens = next((source.labels for source in sources if isinstance(source, LlamaLogits)), None)
    tokens = tokens if labels is None else np.asarray(labels)
    if tokens is None:
        raise ValueError("labels must be given, as neither base nor second is a file that holds tokens")
    n_rows = len(tokens)
    for name, source in zip(("base", "second"), sources, strict=True):
        if isinstance(source, SparseSource):
            raise TypeError(f"{name} must be dense, got a sparse matrix; pass {name}.toarray()")
        if source.n_rows not in (None, n_rows):
            raise ValueError(f"{name} must have {n_rows} rows, one per label, got {source.n_rows}")
    if None not in (base.n_columns, second.n_columns) and base.n_columns != second.n_columns:
        raise ValueError(f"base and second must have one vocabulary, got {base.n_columns} and {second.n_columns}")
    if (
        isinstance(base, LlamaLogits)
        and isinstance(second, LlamaLogits)
        and not np.array_equal(base.labels, second.labels)
    ):
        raise ValueError("base and second must be of the same text, but their tokens differ")
    return tokens


def _plan(sources: list[Source], max_memory: int, n_threads: int | None) -> tuple[int, int]:
    """Return the rows of a block and the number of threads, within the memory allowed."""
    width = sources[0].n_columns or sources[1].n_columns or 1
    # A thread computes with up to ten float64 arrays of a piece. Each side of a row is held as it was read, and once
    # more as its reader returns it; that is at most 24 bytes for each column.
    piece_bytes, row_bytes = 80 * width * _piece_rows(width), 24 * width
    n_workers = max(1, min(resolve_threads(n_threads), max_memory // (piece_bytes + row_bytes)))
    affordable_rows = (max_memory // n_workers - piece_bytes) // row_bytes
    return max(1, min(_LARGEST_BLOCK_ROWS, affordable_rows)), n_workers


def _run(blocks: Blocks, parts: list[_Totals], tokens: Tokens, progress: bool) -> None:
    """Add all rows to the totals of the threads. Ctrl-C takes effect when the blocks that were begun are done."""
    from tqdm import tqdm

    bar = tqdm(total=blocks.n_rows, unit="token", disable=None if progress else True)
    with bar, note_interrupts() as interrupted:
        blocks.run(
            [partial(part.reduce, tokens) for part in parts],
            interrupted=interrupted,
            show=lambda n_done: bar.update(n_done - bar.n),
        )
        if interrupted.is_set():
            raise KeyboardInterrupt


class _StoredLogits(Source):
    """The rows of a file of base logits as they are stored, which keep the scale of their codes."""

    concurrent = True

    def __init__(self, logits: LlamaLogits) -> None:
        self._logits = logits
        self.n_rows = logits.n_rows
        self.n_columns = self.dtype = None  # so that no buffer is made for what is not read into one

    def read(self, start: int, stop: int, buffer: NDArray[Any] | None = None) -> NDArray[Any]:
        return self._logits.read_records(start, stop)


_MEANS = ("nll", "nll_base", "nll_change", "kl", "kl_low", "kl_high", "same_top", "p_change", "p_square")
_RANKED = ("kl", "p_change")


class _Totals:
    """Statistics of the values of each row: means of all of them, and quantiles of two."""

    def __init__(self, quantiles: Sequence[float]) -> None:
        self.means = RowValues(_MEANS)
        self.ranked = RowValues(_RANKED, quantiles=quantiles)

    def reduce(self, tokens: Tokens, start: int, stop: int, blocks: list[NDArray[Any]]) -> None:
        """Add one block of rows."""
        base, second = blocks
        values = _values_of_rows(base, second, tokens[start:stop], start)
        self.means.update([values[name] for name in _MEANS])
        self.ranked.update([values[name] for name in _RANKED])

    def merge(self, other: _Totals) -> None:
        """Add what another thread has reduced."""
        self.means.merge(other.means)
        self.ranked.merge(other.ranked)

    def report(self, n_rows: int, *, is_quantised: bool) -> LogitsReport:
        """Return the report of everything that was added."""
        means, ranked = self.means.result(), self.ranked.result()

        def perplexity(name: str) -> tuple[float, float]:
            mean = means[name].mean
            value = math.inf if mean > _LARGEST_EXPONENT else math.exp(mean)
            return value, value * means[name].standard_error

        return LogitsReport(
            n_tokens=n_rows,
            perplexity=perplexity("nll"),
            perplexity_base=perplexity("nll_base"),
            perplexity_ratio=perplexity("nll_change"),  # rows are paired, so its error is that of the differences
            kl=ranked["kl"],
            kl_bounds=(means["kl_low"].mean, means["kl_high"].mean) if is_quantised else None,
            top1_agreement=(means["same_top"].mean, means["same_top"].standard_error),
            p_change=ranked["p_change"],
            p_change_rms=math.sqrt(means["p_square"].mean) if n_rows else math.nan,
        )


# ---- The values of each row ----------------------------------------------------------------------


def _piece_rows(width: int) -> int:
    """Return how many rows are reduced at once: so few that what is computed from them stays in the caches."""
    return max(1, _PIECE_BYTES // (8 * width))


def _values_of_rows(base: NDArray[Any], second: NDArray[Any], tokens: Tokens, first_row: int) -> dict[str, Floats]:
    """Return the values of each row of a block by their names; ``first_row`` is the block's place in the data."""
    shapes = [_logits_shape(side) for side in (base, second)]
    if shapes[0][0] != len(tokens) or shapes[0] != shapes[1]:
        expected = (len(tokens), shapes[0][-1])
        raise ValueError(
            f"base and second must have shape {expected} from row {first_row} on, got {shapes[0]} and {shapes[1]}"
        )
    tokens, _ = check_class_labels(tokens, (len(tokens),), shapes[0][-1], None)
    step = _piece_rows(shapes[0][-1])
    pieces = [slice(start, start + step) for start in range(0, len(tokens), step)]
    parts = [_values_of_piece(base[rows], second[rows], tokens[rows]) for rows in pieces]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _logits_shape(rows: NDArray[Any]) -> tuple[int, ...]:
    return rows.shape if rows.dtype.names is None else rows["codes"].shape


def _decode(rows: NDArray[Any]) -> Floats:
    """Return logits in float64, of rows that are logits or records of a file of base logits."""
    if rows.dtype.names is None:
        plain: Floats = widen_bfloat16(rows, from_logits=True).astype(np.float64)
        return plain
    logits: Floats = np.multiply(rows["codes"], rows["scale"].astype(np.float64)[:, None], dtype=np.float64)
    logits += rows["minimum"].astype(np.float64)[:, None]
    return logits


def _normalise(logits: Floats) -> tuple[Floats, Floats, Floats]:
    """Return e^(logit - largest), the largest of each row and the logarithm of the sum of e^logit."""
    largest = logits.max(-1, keepdims=True)
    exponentials = np.subtract(logits, largest)
    np.exp(exponentials, out=exponentials)
    return exponentials, largest, largest + np.log(exponentials.sum(-1, keepdims=True))


def _values_of_piece(base: NDArray[Any], second: NDArray[Any], tokens: Tokens) -> dict[str, Floats]:
    """Return the values of a few rows. Arrays are overwritten where their content is not needed any more."""
    log_p, log_q = _decode(base), _decode(second)
    rows = np.arange(len(tokens))
    same_top = log_p.argmax(-1) == log_q.argmax(-1)
    with np.errstate(invalid="ignore"):
        p, largest_p, log_sum_p = _normalise(log_p)
        q, largest_q, log_sum_q = _normalise(log_q)
        nll_base, nll = log_sum_p[:, 0] - log_p[rows, tokens], log_sum_q[:, 0] - log_q[rows, tokens]
        # p is now e^(logit - largest), and p * factor_p the probability; q becomes the probability.
        factor_p = np.exp(largest_p - log_sum_p)
        q *= np.exp(largest_q - log_sum_q)
        difference = np.subtract(log_p, log_q, out=log_p)
        difference -= log_sum_p - log_sum_q  # log(p / q)
        if not np.isfinite(difference).all():
            difference[p == 0] = 0.0
        terms = np.subtract(difference, 1.0, out=log_q)
        terms *= p
        terms *= factor_p
        terms += q  # p log(p / q) - p + q
    change = np.exp(-nll) - np.exp(-nll_base)
    kl = np.maximum(terms.sum(-1), 0.0)
    low, high = kl, kl
    if base.dtype.names is not None:
        difference += log_sum_p  # the stored p, which is not normalised, has the logarithm log p + log_sum_p
        scale = base["scale"].astype(np.float64)
        low, high = _bounds(base["codes"], scale, p, np.exp(largest_p), difference, q, scratch=terms)
    return {
        "nll": nll, "nll_base": nll_base, "nll_change": nll - nll_base, "kl": kl, "kl_low": low, "kl_high": high,
        "p_change": change, "p_square": change**2, "same_top": same_top.astype(np.float64),
    }  # fmt: skip


def _bounds(
    codes: NDArray[Any], scale: Floats, p: Floats, factor: Floats, difference: Floats, q: Floats, *, scratch: Floats
) -> tuple[Floats, Floats]:
    """Return the least and the greatest KL of any p that these codes can stand for; see ``compare_logits``.

    The stored p is ``p * factor``. ``difference`` is its logarithm less that of q, and is overwritten.
    """
    half_step = (scale / 2 + _ROUNDING)[:, None]
    difference -= 1.0
    greatest_p = p * (factor * np.exp(half_step))
    is_outside = q > greatest_p
    at_greatest = np.add(difference, half_step, out=scratch)  # h(p) = p (log(p / q) - 1) + q
    at_greatest *= greatest_p
    at_greatest += q
    least_p = np.multiply(p, factor * np.exp(-half_step), out=greatest_p)
    # Only a row that spans all 16 nats was clipped; in any other row, the minimum is a value of its own.
    is_clipped = scale * N_STEPS > CLIPPED_SPAN - _ROUNDING
    if is_clipped.any():
        least_p[(codes == 0) & is_clipped[:, None]] = 0.0
    is_outside |= q < least_p
    at_least = np.subtract(difference, half_step, out=difference)
    at_least *= least_p
    at_least += q
    high = np.maximum(at_least, at_greatest).sum(-1)
    low = np.minimum(at_least, at_greatest, out=at_least)
    low *= is_outside  # where q lies between the two values of p, p can equal q, and the least term is 0
    return low.sum(-1), high

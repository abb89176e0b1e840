"""llama.cpp's file of base logits, and a report of what a second model makes of the same tokens."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._checks.labels import check_class_labels
from .._threads import resolve_threads
from ..streaming import RowStatistics, RowValues
from ._sources import Source, open_source

_MAGIC = b"_logits_"
_HEADER = 20  # bytes: magic, then n_ctx, n_vocab and n_chunk as int32
_RECORD_HEADER = 4  # uint16: scale and minimum as float32
# Stored values are float32 sums of two terms below 2^5 in size, each rounded: 2^-24 of it, with room
_ROUNDING = 2.0**-17
_STEPS, _CLIPPED = 65535, 16.0  # codes, and how far below the largest logit they reach at most
_BLOCK_ROWS = 64  # that a thread gets at once, at most
_PIECE_BYTES = 1 << 17  # of one float64 array of the rows that are reduced at once

Floats = NDArray[np.float64]


def is_llama_logits(path: str | os.PathLike[str]) -> bool:
    """Return whether a file begins as llama.cpp's base logits do."""
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


class LlamaLogits(Source):
    """Base logits as written by ``llama-perplexity --kl-divergence-base``.

    The file holds "_logits_", n_ctx, n_vocab and n_chunk (int32), n_ctx * n_chunk tokens (int32), then one
    record for each scored position, the second half of each chunk: a float32 scale, a float32 minimum,
    and n_vocab log-probabilities as uint16, padded to an even number. Values more than 16 below the
    largest are stored as the minimum.

    ``read`` returns float32 log-probabilities, which are not quite normalised; ``evaluate`` takes them
    with ``from_logits=True``.

    Attributes
    ----------
    tokens
        Of shape ``(n_chunk, n_ctx)``.
    labels
        The token that follows each scored position: one for each row.
    """

    concurrent = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            header = file.read(_HEADER)
            if header[: len(_MAGIC)] != _MAGIC or len(header) < _HEADER:
                raise ValueError(f"{self._path!r} is no file of llama.cpp's base logits")
            self.n_ctx, self.n_vocab, self.n_chunk = (int(x) for x in np.frombuffer(header, "<i4", 3, 8))
            if self.n_ctx < 4 or self.n_vocab < 1 or self.n_chunk < 1:
                raise ValueError(
                    f"{self._path!r} is damaged: n_ctx {self.n_ctx}, n_vocab {self.n_vocab}, n_chunk {self.n_chunk}"
                )
            self._record = _RECORD_HEADER + 2 * ((self.n_vocab + 1) // 2)  # uint16
            first = self.n_ctx // 2
            scored = self.n_ctx - 1 - first
            self.n_rows, self.n_columns, self.dtype = (
                self.n_chunk * scored,
                self.n_vocab,
                np.dtype(np.float32),
            )
            self._offset = _HEADER + 4 * self.n_ctx * self.n_chunk
            expected = self._offset + 2 * self._record * self.n_rows
            if size != expected:
                raise ValueError(f"{self._path!r} has {size} bytes, but its header speaks of {expected}")
            tokens = np.frombuffer(file.read(self._offset - _HEADER), "<i4")
        self.tokens = tokens.reshape(self.n_chunk, self.n_ctx)
        if not ((tokens >= 0) & (tokens < self.n_vocab)).all():
            raise ValueError(f"{self._path!r} is damaged: it has tokens outside of [0, {self.n_vocab})")
        self.labels = self.tokens[:, first + 1 :].reshape(-1)
        self._descriptor = os.open(path, os.O_RDONLY)

    def read_codes(self, start: int, stop: int) -> tuple[Floats, Floats, NDArray[np.uint16]]:
        """Return scale, minimum and codes of some rows, as they are stored."""
        assert self.n_rows is not None
        n = min(stop, self.n_rows) - start
        data = os.pread(self._descriptor, 2 * self._record * n, self._offset + 2 * self._record * start)
        if len(data) != 2 * self._record * n:
            raise OSError(f"{self._path!r} ended early: it was cut while it was read")
        records = np.frombuffer(data, "<u2").reshape(n, self._record)
        head = np.ascontiguousarray(records[:, :_RECORD_HEADER]).view("<f4").astype(np.float64)
        span = head[:, 0] * _STEPS
        # Log-probabilities end below 0 and span 16; the lowest is above -16 - log(2^31); with room
        possible = (span >= 0) & (span < _CLIPPED + 1) & (head[:, 1] > -40) & (head[:, 1] + span < 1)
        if not possible.all():
            raise ValueError(f"{self._path!r} is damaged between rows {start} and {stop}")
        return head[:, 0], head[:, 1], records[:, _RECORD_HEADER : _RECORD_HEADER + self.n_vocab]

    def read(self, start: int, stop: int, buffer: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return float32 log-probabilities."""
        scale, minimum, codes = self.read_codes(start, stop)
        rows = np.empty(codes.shape, np.float32) if buffer is None or len(buffer) < len(codes) else buffer
        rows = rows[: len(codes)]
        np.multiply(codes, scale.astype(np.float32)[:, None], out=rows, dtype=np.float32)
        rows += minimum.astype(np.float32)[:, None]
        return rows

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


@dataclass(frozen=True, repr=False)
class LogitsReport:
    """What ``compare_logits`` returns: each statistic with its error, and a readable ``repr``.

    Attributes
    ----------
    n_tokens
        Scored positions.
    perplexity, perplexity_base, perplexity_ratio
        Of the second model, of the base, and their ratio: (value, standard error).
    kl
        Statistics of KL(base || second) in nats over positions.
    kl_bounds
        Between which the mean KL of the unquantised base lies: a rigorous bound over all logits that
        the stored codes can stand for. None where the base is not quantised.
    top1_agreement
        Share of positions whose largest probability is the same token's: (value, standard error).
    p_change
        Statistics of p(correct token) under the second model less that under the base.
    p_change_rms
        Root of its mean square.
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
            value = min(max(value, self.kl.min), self.kl.max)  # as buckets have a width
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
        logits, or anything that ``open_source`` takes.
    labels
        The correct token of each row; by default those of the llama.cpp file.
    quantiles
        Of KL and of the change of p(correct).
    progress
        Whether to show progress where the error stream is a terminal.
    max_memory
        Bytes that the blocks in work may take with all that is computed from them.
    n_threads
        Threads; no bit of the result depends on them.

    Notes
    -----
    Both sides are normalised, in float64. Let l be a stored log-probability and e half a step, with the
    rounding of float32. The true p of that token lies between exp(l - e) and exp(l + e); where the code
    is 0 in a row that spans all 16 nats, smaller values were clipped and it lies between 0 and
    exp(l + e). As p and q both sum to 1, KL is the sum of h(p) = p log(p / q) - p + q, which is convex
    with its minimum 0 at p = q; so the sums of its least and of its greatest values over these intervals
    bound the true KL.
    """
    from tqdm import tqdm

    sources = [open_source(base), open_source(second)]
    left, right = sources
    names = ("nll", "nll_base", "nll_change", "kl", "kl_low", "kl_high", "same_top", "p_change", "p_square")
    plain = RowValues(names)
    ranked = RowValues(("kl", "p_change"), quantiles=quantiles)
    try:
        tokens = next((source.labels for source in sources if isinstance(source, LlamaLogits)), labels)
        tokens = tokens if labels is None else np.asarray(labels)
        if tokens is None:
            raise ValueError("labels must be given, as neither base nor second is a file that holds tokens")
        n_rows = len(tokens)
        for name, source in zip(("base", "second"), sources, strict=True):
            if source.n_rows not in (None, n_rows):
                raise ValueError(f"{name} must have {n_rows} rows, one per label, got {source.n_rows}")
        if None not in (left.n_columns, right.n_columns) and left.n_columns != right.n_columns:
            raise ValueError(f"base and second must have one vocabulary, got {left.n_columns} and {right.n_columns}")
        if (
            isinstance(left, LlamaLogits)
            and isinstance(right, LlamaLogits)
            and not np.array_equal(left.labels, right.labels)
        ):
            raise ValueError("base and second must be of the same text, but their tokens differ")
        width = left.n_columns or right.n_columns or 1
        # ten float64 arrays of a thread's piece; a row as its reader returns it, and as it was read
        piece, row = 80 * width * _piece_rows(width), 24 * width
        threads = max(1, min(resolve_threads(n_threads), max_memory // (piece + row)))
        block = max(1, min(_BLOCK_ROWS, (max_memory // threads - piece) // row))
        with (
            ThreadPoolExecutor(threads) as pool,
            tqdm(total=n_rows, unit="token", disable=None if progress else True) as bar,
        ):
            for first in range(0, n_rows, threads * block):
                bounds = [
                    (start, min(start + block, n_rows))
                    for start in range(first, min(first + threads * block, n_rows), block)
                ]
                read = [(_read(left, *rows), _read(right, *rows), tokens[slice(*rows)], rows[0]) for rows in bounds]
                for values in pool.map(_per_row, *zip(*read, strict=True)):
                    plain.update([values[name] for name in names])
                    ranked.update([values["kl"], values["p_change"]])
                    bar.update(len(values["kl"]))
    finally:
        for source, given in zip(sources, (base, second), strict=True):
            if source is not given:
                source.close()
    found, quantile = plain.result(), ranked.result()

    def perplexity(name: str) -> tuple[float, float]:
        mean = found[name].mean
        value = math.inf if mean > 709 else math.exp(mean)  # where it would overflow
        return value, value * found[name].standard_error

    return LogitsReport(
        n_tokens=n_rows,
        perplexity=perplexity("nll"),
        perplexity_base=perplexity("nll_base"),
        perplexity_ratio=perplexity("nll_change"),  # paired: its error is that of the differences
        kl=quantile["kl"],
        kl_bounds=(found["kl_low"].mean, found["kl_high"].mean) if isinstance(left, LlamaLogits) else None,
        top1_agreement=(found["same_top"].mean, found["same_top"].standard_error),
        p_change=quantile["p_change"],
        p_change_rms=math.sqrt(found["p_square"].mean) if n_rows else math.nan,
    )


class _Logits(NamedTuple):
    """Logits of some rows: as they are, or codes with the scale and the minimum of each row."""

    values: NDArray[Any]
    scale: Floats | None = None
    minimum: Floats | None = None

    def part(self, rows: slice) -> _Logits:
        return _Logits(*(None if field is None else field[rows] for field in self))  # type: ignore[arg-type]

    def decoded(self) -> Floats:
        if self.scale is None or self.minimum is None:
            return self.values.astype(np.float64)
        logits: Floats = np.multiply(self.values, self.scale[:, None], dtype=np.float64)
        logits += self.minimum[:, None]
        return logits


def _read(source: Source, start: int, stop: int) -> _Logits:
    if not isinstance(source, LlamaLogits):
        return _Logits(source.read(start, stop))
    scale, minimum, codes = source.read_codes(start, stop)
    return _Logits(codes, scale, minimum)


def _piece_rows(width: int) -> int:
    """Return how many rows are reduced at once: few, so that what is computed from them stays in the caches."""
    return max(1, _PIECE_BYTES // (8 * width))


def _per_row(left: _Logits, right: _Logits, tokens: NDArray[np.integer[Any]], first_row: int) -> dict[str, Floats]:
    if len(left.values) != len(tokens) or left.values.shape != right.values.shape:
        expected = (len(tokens), left.values.shape[-1])
        raise ValueError(
            f"base and second must have shape {expected} from row {first_row} on,"
            f" got {left.values.shape} and {right.values.shape}"
        )
    tokens, _ = check_class_labels(tokens, (len(tokens),), left.values.shape[-1], None)
    step = _piece_rows(left.values.shape[-1])
    pieces = [slice(start, start + step) for start in range(0, len(tokens), step)]
    parts = [_of_piece(left.part(rows), right.part(rows), tokens[rows]) for rows in pieces]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _normalised(logits: Floats) -> tuple[Floats, Floats, Floats]:
    """Return e^(logit - largest), the largest of each row and the logarithm of the sum of e^logit."""
    top = logits.max(-1, keepdims=True)
    exponentials = np.subtract(logits, top)
    np.exp(exponentials, out=exponentials)
    return exponentials, top, top + np.log(exponentials.sum(-1, keepdims=True))


def _of_piece(left: _Logits, right: _Logits, tokens: NDArray[np.integer[Any]]) -> dict[str, Floats]:
    log_p, log_q = left.decoded(), right.decoded()
    rows = np.arange(len(tokens))
    same_top = log_p.argmax(-1) == log_q.argmax(-1)
    with np.errstate(invalid="ignore"):
        p, top, total_p = _normalised(log_p)
        q, top_q, total_q = _normalised(log_q)
        nll_base, nll = total_p[:, 0] - log_p[rows, tokens], total_q[:, 0] - log_q[rows, tokens]
        factor_p = np.exp(top - total_p)
        q *= np.exp(top_q - total_q)
        difference = np.subtract(log_p, log_q, out=log_p)
        difference -= total_p - total_q  # log p - log q; of the stored p it is larger by total_p
        if not np.isfinite(difference).all():
            difference[p == 0] = 0.0
        terms = np.subtract(difference, 1.0, out=log_q)
        terms *= p
        terms *= factor_p
        terms += q  # p log(p / q) - p + q
    change = np.exp(-nll) - np.exp(-nll_base)
    kl = np.maximum(terms.sum(-1), 0.0)
    low, high = kl, kl
    if left.scale is not None:
        difference += total_p
        low, high = _bounds(left.values, left.scale, p, np.exp(top), difference, q, scratch=terms)
    return {
        "nll": nll, "nll_base": nll_base, "nll_change": nll - nll_base, "kl": kl, "kl_low": low, "kl_high": high,
        "p_change": change, "p_square": change**2, "same_top": same_top.astype(np.float64),
    }  # fmt: skip


def _bounds(
    codes: NDArray[Any], scale: Floats, p: Floats, factor: Floats, difference: Floats, q: Floats, *, scratch: Floats
) -> tuple[Floats, Floats]:
    """Return the least and the greatest KL of any p that these codes can stand for; see ``compare_logits``.

    The stored p is ``p * factor``, and ``difference`` its logarithm less that of q, which is overwritten.
    """
    half = (scale / 2 + _ROUNDING)[:, None]
    difference -= 1.0
    greatest = p * (factor * np.exp(half))
    outside = q > greatest
    at_greatest = np.add(difference, half, out=scratch)  # h(p) = p (log(p / q) - 1) + q
    at_greatest *= greatest
    at_greatest += q
    least = np.multiply(p, factor * np.exp(-half), out=greatest)
    full_range = scale * _STEPS > _CLIPPED - _ROUNDING  # else the minimum is the row's own
    clipped = (codes == 0) & full_range[:, None] if full_range.any() else None
    if clipped is not None:
        least[clipped] = 0.0
    outside |= q < least
    at_least = np.subtract(difference, half, out=difference)
    at_least *= least
    at_least += q
    high = np.maximum(at_least, at_greatest).sum(-1)
    low = np.minimum(at_least, at_greatest, out=at_least)
    low *= outside  # 0 where q can be p
    return low.sum(-1), high

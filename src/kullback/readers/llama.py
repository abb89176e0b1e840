"""llama.cpp's file of base logits, and a report of what a second model makes of the same tokens."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..streaming import RowStatistics, RowValues
from ._sources import Source, open_source

_MAGIC = b"_logits_"
_HEADER = 20  # bytes: magic, then n_ctx, n_vocab and n_chunk as int32
_RECORD_HEADER = 4  # uint16: scale and minimum as float32
# Stored values are float32 sums of two terms below 2^5 in size, each rounded: 2^-24 of it, with room
_ROUNDING = 2.0**-17
_STEPS, _CLIPPED = 65535, 16.0  # codes, and how far below the largest logit they reach at most

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
                    f"{self._path!r} is damaged: n_ctx {self.n_ctx}, n_vocab {self.n_vocab},"
                    f" n_chunk {self.n_chunk}"
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
        Bytes that a block may take with all that is computed from it.

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
            raise ValueError(
                f"base and second must have one vocabulary, got {left.n_columns} and {right.n_columns}"
            )
        if (
            isinstance(left, LlamaLogits)
            and isinstance(right, LlamaLogits)
            and not np.array_equal(left.labels, right.labels)
        ):
            raise ValueError("base and second must be of the same text, but their tokens differ")
        width = left.n_columns or right.n_columns or 1
        block = max(1, max_memory // (120 * width))  # about fifteen float64 arrays
        with tqdm(total=n_rows, unit="token", disable=None if progress else True) as bar:
            for start in range(0, n_rows, block):
                stop = min(start + block, n_rows)
                values = _per_row(left, right, start, stop, tokens[start:stop])
                plain.update([values[name] for name in names])
                ranked.update([values["kl"], values["p_change"]])
                bar.update(stop - start)
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


def _normalised(logits: Floats) -> Floats:
    """Return log-probabilities; -inf stays, as probability zero."""
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def _logits(source: Source, start: int, stop: int) -> tuple[Floats, tuple[NDArray[np.uint16], Floats] | None]:
    """Return logits, and the codes and scales behind them where they are quantised."""
    if not isinstance(source, LlamaLogits):
        return source.read(start, stop).astype(np.float64), None
    scale, minimum, codes = source.read_codes(start, stop)
    return codes * scale[:, None] + minimum[:, None], (codes, scale)


def _per_row(
    left: Source, right: Source, start: int, stop: int, tokens: NDArray[np.integer[Any]]
) -> dict[str, Floats]:
    raw, stored = _logits(left, start, stop)
    other, _ = _logits(right, start, stop)
    if len(raw) != len(tokens) or raw.shape != other.shape:
        expected = (len(tokens), raw.shape[-1])
        raise ValueError(
            f"base and second must have shape {expected} from row {start} on,"
            f" got {raw.shape} and {other.shape}"
        )
    log_p, log_q = _normalised(raw), _normalised(other)
    p, q = np.exp(log_p), np.exp(log_q)
    with np.errstate(invalid="ignore"):
        terms = np.where(p > 0, p * (log_p - log_q), 0.0) - p + q
    rows = np.arange(len(tokens))
    change = q[rows, tokens] - p[rows, tokens]
    nll, nll_base = -log_q[rows, tokens], -log_p[rows, tokens]
    values = {
        "nll": nll, "nll_base": nll_base, "nll_change": nll - nll_base,
        "kl": np.maximum(terms.sum(-1), 0.0), "p_change": change, "p_square": change**2,
        "same_top": (raw.argmax(-1) == other.argmax(-1)).astype(np.float64),
    }  # fmt: skip
    low, high = values["kl"], values["kl"]
    if stored is not None:
        low, high = _bounds(raw, *stored, log_q, q)
    return values | {"kl_low": low, "kl_high": high}


def _bounds(
    stored: Floats, codes: NDArray[np.uint16], scale: Floats, log_q: Floats, q: Floats
) -> tuple[Floats, Floats]:
    """Return the least and the greatest KL of any p that these codes can stand for; see the notes above."""
    half = (scale / 2 + _ROUNDING)[:, None]
    full_range = (scale * _STEPS > _CLIPPED - _ROUNDING)[:, None]  # else the minimum is the row's own
    greatest = np.exp(stored + half)
    least = np.where((codes == 0) & full_range, 0.0, np.exp(stored - half))

    def h(p: Floats, log_p: Floats) -> Floats:
        return np.where(p > 0, p * (log_p - log_q), 0.0) - p + q

    with np.errstate(invalid="ignore"):
        at_least, at_greatest = h(least, stored - half), h(greatest, stored + half)
    inside = (least <= q) & (q <= greatest)
    low = np.where(inside, 0.0, np.minimum(at_least, at_greatest)).sum(-1)
    return low, np.maximum(at_least, at_greatest).sum(-1)

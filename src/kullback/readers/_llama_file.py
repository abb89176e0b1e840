"""The reader of llama.cpp's files of base logits."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._stored import StoredRows

Floats = NDArray[np.float64]

_MAGIC = b"_logits_"
_HEADER_BYTES = 20  # the magic, then n_ctx, n_vocab and n_chunk as int32
_RECORD_HEADER_BYTES = 8  # scale and minimum as float32

N_STEPS = 65535
"""Codes of uint16 reach from 0, the minimum of a row, to this, its maximum."""

CLIPPED_SPAN = 16.0
"""How many nats below a row's largest logit the codes reach at most; smaller values are stored as the minimum."""


def is_llama_logits(path: str | os.PathLike[str]) -> bool:
    """Return whether a file begins as llama.cpp's base logits do."""
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


class LlamaLogits(StoredRows):
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
        The tokens of the text, of shape ``(n_chunk, n_ctx)``.
    labels
        The token that follows each scored position: one for each row.
    """

    n_rows: int

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            self.n_ctx, self.n_vocab, self.n_chunk = self._read_header(file.read(_HEADER_BYTES))
            record_bytes = _RECORD_HEADER_BYTES + 2 * (self.n_vocab + self.n_vocab % 2)
            first_scored = self.n_ctx // 2
            self.n_rows = self.n_chunk * (self.n_ctx - 1 - first_scored)
            self.n_columns, self.dtype = self.n_vocab, np.dtype(np.float32)
            self._offset = _HEADER_BYTES + 4 * self.n_ctx * self.n_chunk
            expected = self._offset + record_bytes * self.n_rows
            if size != expected:
                raise ValueError(f"{self._path!r} has {size} bytes, but its header speaks of {expected}")
            self._record = np.dtype({
                "names": ["scale", "minimum", "codes"],
                "formats": ["<f4", "<f4", ("<u2", (self.n_vocab,))],
                "offsets": [0, 4, _RECORD_HEADER_BYTES],
                "itemsize": record_bytes,
            })  # fmt: skip
            tokens = np.frombuffer(file.read(self._offset - _HEADER_BYTES), "<i4")
            if not ((tokens >= 0) & (tokens < self.n_vocab)).all():
                raise ValueError(f"{self._path!r} is damaged: it has tokens outside of [0, {self.n_vocab})")
            self._keep(file, path)
        self.tokens = tokens.reshape(self.n_chunk, self.n_ctx)
        self.labels = self.tokens[:, first_scored + 1 :].reshape(-1)

    def _read_header(self, header: bytes) -> tuple[int, int, int]:
        """Return n_ctx, n_vocab and n_chunk."""
        if header[: len(_MAGIC)] != _MAGIC or len(header) < _HEADER_BYTES:
            raise ValueError(f"{self._path!r} is no file of llama.cpp's base logits")
        n_ctx, n_vocab, n_chunk = (int(x) for x in np.frombuffer(header, "<i4", 3, len(_MAGIC)))
        if n_ctx < 4 or n_vocab < 1 or n_chunk < 1:
            raise ValueError(f"{self._path!r} is damaged: n_ctx {n_ctx}, n_vocab {n_vocab}, n_chunk {n_chunk}")
        return n_ctx, n_vocab, n_chunk

    def read_records(self, start: int, stop: int) -> NDArray[np.void]:
        """Return rows as they are stored: a structured array with the fields ``scale``, ``minimum`` and ``codes``."""
        records: NDArray[np.void] = np.empty(max(0, min(stop, self.n_rows) - start), self._record)
        self._read_at(self._offset + self._record.itemsize * start, records)
        minimum, span = records["minimum"].astype(np.float64), records["scale"].astype(np.float64) * N_STEPS
        # Log-probabilities end below 0 and span at most 16. The lowest of them is above -16 - log(2^31), as no
        # vocabulary has more than 2^31 tokens. These bounds leave room for rounding.
        is_possible = (span >= 0) & (span < CLIPPED_SPAN + 1) & (minimum > -40) & (minimum + span < 1)
        if not is_possible.all():
            raise ValueError(f"{self._path!r} is damaged between rows {start} and {stop}")
        return records

    def read_codes(self, start: int, stop: int) -> tuple[Floats, Floats, NDArray[np.uint16]]:
        """Return scale, minimum and codes of some rows, as they are stored."""
        records = self.read_records(start, stop)
        return (
            records["scale"].astype(np.float64),
            records["minimum"].astype(np.float64),
            records["codes"],
        )

    def read(self, start: int, stop: int, buffer: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return float32 log-probabilities."""
        records = self.read_records(start, stop)
        codes = records["codes"]
        rows: NDArray[Any] = np.empty(codes.shape, np.float32) if buffer is None or len(buffer) < len(codes) else buffer
        rows = rows[: len(codes)]
        np.multiply(codes, records["scale"][:, None], out=rows, dtype=np.float32)
        rows += records["minimum"][:, None]
        return rows

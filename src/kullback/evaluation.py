"""Divergences of data larger than memory: an accumulator run over row blocks."""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks.outputs import check_folder_of
from ._checks.scalars import check_integer, check_real
from ._interrupts import note_interrupts
from ._states import load_state, save_state
from ._threads import resolve_threads
from .readers import Source, open_source
from .streaming import RowDivergence, RowResult

__all__ = ["EvaluationInterrupted", "evaluate"]

_FORMAT = "kullback.evaluate.checkpoint"
_LEAST_BYTES = 1 << 20  # of a block of one side: below this, what a block costs shows
_BLOCKS_PER_THREAD = 4  # at least, where there are rows enough: the threads end at about the same time
_POLL = 0.1  # seconds between two looks at progress


def __dir__() -> list[str]:
    return __all__


class EvaluationInterrupted(KeyboardInterrupt):
    """Ctrl-C, at the end of a block: everything before it is kept.

    Attributes
    ----------
    result
        Statistics of the rows that were read.
    accumulator
        The accumulator, which can be updated, merged and saved.
    n_rows
        How many rows were read, from the first on.
    """

    def __init__(self, accumulator: RowDivergence, n_rows: int) -> None:
        super().__init__(f"interrupted after {n_rows} rows")
        self.accumulator = accumulator
        self.result = accumulator.result()
        self.n_rows = n_rows


def evaluate(
    p: Any,
    q: Any,
    *,
    measures: Sequence[str] = ("kl",),
    labels: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    group: ArrayLike | None = None,
    from_logits: bool = False,
    quantiles: Sequence[float] | None = None,
    base: float | None = None,
    normalize: bool | str = "check",
    batch_rows: int | str = "auto",
    max_memory: int = 256 << 20,
    progress: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 60.0,
    n_threads: int | None = None,
) -> RowResult:
    """Return statistics over the rows of two sources that need not fit into memory.

    Parameters
    ----------
    p, q
        Rows, as anything that ``kullback.readers.open_source`` takes: arrays, paths of npy, zarr,
        HDF5, safetensors and Parquet files, zarr and HDF5 datasets, iterables of blocks. Dask arrays go
        to ``kullback.distributed.evaluate``.
    measures, from_logits, quantiles, base, normalize
        As for ``kullback.streaming.RowDivergence``.
    labels, weights, group
        One for each row, as arrays in memory.
    batch_rows
        Rows of a block; "auto" takes blocks that stay in the caches.
    max_memory
        Bytes that all blocks in work may take together.
    progress
        Whether to show progress where the error stream is a terminal.
    checkpoint
        A file that keeps the state every ``checkpoint_every`` seconds, on Ctrl-C and at the end. Where
        it exists, the evaluation goes on from there; other data or options are refused.
    n_threads
        Threads; no bit of the result depends on them, nor on ``batch_rows``.

    Raises
    ------
    EvaluationInterrupted
        On Ctrl-C, when the blocks in work are done; it holds the partial result. A second Ctrl-C stops
        at once.

    Notes
    -----
    Each thread reads a block and reduces it, into an accumulator of its own; these merge without rounding.
    So reading overlaps computing, and block order does not matter.
    """
    if any(type(side).__module__.partition(".")[0] == "dask" for side in (p, q)):
        from .distributed import evaluate as evaluate_dask

        if labels is not None or weights is not None or group is not None or checkpoint is not None:
            raise ValueError("dask arrays take no labels, weights, group or checkpoint here")
        result: RowResult = evaluate_dask(
            p, q, measures=measures, from_logits=from_logits, quantiles=quantiles, base=base,
            normalize=normalize, n_threads=n_threads,
        )  # fmt: skip
        return result
    accumulator = RowDivergence(
        measures, from_logits=from_logits, quantiles=quantiles, groups=group is not None, base=base,
        normalize=normalize,
    )  # fmt: skip
    if checkpoint is not None:
        check_folder_of(checkpoint, "checkpoint")
    sources: list[Source] = []
    try:
        sources += [open_source(p)]
        sources += [open_source(q)]
        run = _Run(accumulator, sources, (labels, weights, group), batch_rows, max_memory, n_threads)
        if checkpoint is not None and os.path.exists(checkpoint):
            run.resume(checkpoint)
        run.execute(progress=progress, checkpoint=checkpoint, checkpoint_every=checkpoint_every)
    finally:
        for source, given in zip(sources, (p, q), strict=False):
            if source is not given:
                source.close()
    return run.accumulator.result()


class _Run:
    """One evaluation: blocks handed out in order to threads that read and reduce them."""

    def __init__(
        self,
        accumulator: RowDivergence,
        sources: list[Source],
        columns: tuple[ArrayLike | None, ...],
        batch_rows: int | str,
        max_memory: int,
        n_threads: int | None,
    ) -> None:
        self.accumulator = accumulator
        self.sources = sources
        p, q = sources
        known = {source.n_rows for source in sources if source.n_rows is not None}
        if len(known) > 1:
            raise ValueError(f"p and q must have the same number of rows, got {p.n_rows} and {q.n_rows}")
        widths = {source.n_columns for source in sources if source.n_columns is not None}
        if len(widths) > 1:
            raise ValueError(f"p and q must have the same number of columns, got {p.n_columns} and {q.n_columns}")
        self.n_rows = known.pop() if known else None
        self.columns = [_column(values, self.n_rows, name) for values, name in zip(
            columns, ("labels", "weights", "group"), strict=True)]  # fmt: skip
        threads = resolve_threads(n_threads)
        self.block, self.n_workers = _plan(sources, batch_rows, max_memory, threads)
        self._kernel_threads = max(1, threads // self.n_workers)
        self._lock = threading.Lock()
        self._next = self.done = 0
        self._ended = False
        self._stop = threading.Event()
        self._error: BaseException | None = None

    # -- the threads

    def _take(self) -> tuple[int, int, list[NDArray[Any]]]:
        """Hand out the next block; what must be read in order is read here, under the lock."""
        with self._lock:
            start = self._next
            if self._ended or self._stop.is_set() or start == self.n_rows:
                return start, start, []
            stop = start + self.block if self.n_rows is None else min(start + self.block, self.n_rows)
            parts = [np.empty(0) if source.concurrent else source.read(start, stop) for source in self.sources]
            lengths = {len(x) for x, source in zip(parts, self.sources, strict=True) if not source.concurrent}
            if len(lengths) > 1:
                raise ValueError(f"p and q must have the same number of rows, one of them ends near row {stop}")
            n = lengths.pop() if lengths else stop - start
            if n < stop - start:
                self._ended = True
                if self.n_rows is not None:
                    raise ValueError(f"p and q must have {self.n_rows} rows, one of them has {start + n}")
            self._next = start + n
            return start, start + n, parts

    def _work(self, accumulator: RowDivergence) -> None:
        buffers: list[NDArray[Any] | None] = [
            np.empty((self.block, source.n_columns), source.dtype)
            if source.concurrent and source.n_columns is not None
            else None
            for source in self.sources
        ]
        try:
            while True:
                start, stop, parts = self._take()
                if stop == start:
                    return
                blocks = [
                    source.read(start, stop, buffer) if source.concurrent else part
                    for source, buffer, part in zip(self.sources, buffers, parts, strict=True)
                ]
                labels, weights, group = (None if c is None else c[start:stop] for c in self.columns)
                accumulator.update(blocks[0], blocks[1], labels=labels, weights=weights, group=group)
                del blocks, parts
                for source in self.sources:
                    source.release(start, stop)
                with self._lock:
                    self.done += stop - start
        except BaseException as error:
            with self._lock:
                self._error = self._error or error
            self._stop.set()

    def _round(self, seconds: float | None, show: Callable[[int], None], interrupted: threading.Event) -> None:
        """Let threads work until the end, an interrupt, an error or a deadline, then merge their data."""
        self._stop.clear()
        deadline = None if seconds is None else time.monotonic() + seconds
        parts = []
        for _ in range(self.n_workers):
            configuration = self.accumulator._configuration()
            parts.append(RowDivergence(**configuration, n_threads=self._kernel_threads))
        threads = [threading.Thread(target=self._work, args=(part,), daemon=True) for part in parts]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(_POLL)
                    show(self.done)
                    if interrupted.is_set() or (deadline is not None and time.monotonic() >= deadline):
                        self._stop.set()
        finally:
            self._stop.set()  # also when this thread is torn out of its wait
        if self._error is not None:
            raise self._error
        for part in parts:
            self.accumulator.merge(part)

    def execute(self, *, progress: bool, checkpoint: str | os.PathLike[str] | None, checkpoint_every: float) -> None:
        """Run to the end, or to an interrupt."""
        from tqdm import tqdm

        every = None if checkpoint is None else check_real(
            checkpoint_every, "checkpoint_every", low=0
        )  # fmt: skip
        bar = tqdm(total=self.n_rows, initial=self.done, unit="row", disable=None if progress else True)
        with bar, note_interrupts() as interrupted:
            while True:
                self._round(every, lambda done: bar.update(done - bar.n), interrupted)
                if checkpoint is not None:
                    self.save(checkpoint)
                if interrupted.is_set():
                    raise EvaluationInterrupted(self.accumulator, self.done)
                if self._ended or self._next == self.n_rows:
                    break
        for name, column in zip(("labels", "weights", "group"), self.columns, strict=True):
            if column is not None and len(column) != self.done:
                raise ValueError(f"{name} must have one value per row ({self.done}), got {len(column)}")

    # -- checkpoints

    def _description(self) -> dict[str, Any]:
        kinds = [source.describe() if self.n_rows is not None else {} for source in self.sources]
        return {"p": kinds[0], "q": kinds[1], "columns": [_digest(column) for column in self.columns]}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state and how far it came; the file changes as a whole or not at all."""
        state = self.accumulator.to_state()
        header = {
            "format": _FORMAT,
            "version": 1,
            "n_rows": self.done,
            "sources": self._description(),
            "accumulator": state.pop("header"),
        }
        save_state(path, header, state)

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Take over what ``save`` wrote for the same data and options."""
        try:
            state = load_state(path)
            header = state.pop("header")
            if not isinstance(header, dict) or (header.get("format"), header.get("version")) != (_FORMAT, 1):
                raise ValueError("it is no checkpoint of evaluate")
            accumulator = RowDivergence.from_state({"header": header.get("accumulator"), **state})
            if header.get("sources") != self._description():
                raise ValueError("it is of other data")
            done = header.get("n_rows")
            if type(done) is not int or not accumulator._n_rows_seen() <= done <= (self.n_rows or done):
                raise ValueError(f"its number of rows, {done!r}, does not fit")
            if accumulator._configuration() != self.accumulator._configuration():
                raise ValueError("it was made with other options")
        except ValueError as error:
            raise ValueError(f"cannot resume from {os.fspath(path)!r}: {error}") from None
        self.accumulator = accumulator
        self._next = self.done = done


def _digest(column: NDArray[Any] | None) -> str | None:
    """Return a checksum of labels, weights or groups: those of other rows would fit as well."""
    if column is None:
        return None
    return f"{column.dtype.str} {zlib.crc32(np.ascontiguousarray(column).tobytes()):08x}"


def _column(values: ArrayLike | None, n_rows: int | None, name: str) -> NDArray[Any] | None:
    if values is None:
        return None
    column = np.asarray(values)
    if column.ndim != 1 or (n_rows is not None and len(column) != n_rows):
        expected = "row" if n_rows is None else f"row ({n_rows})"
        raise ValueError(f"{name} must have one value per {expected}, got shape {column.shape}")
    return column


def _plan(sources: list[Source], batch_rows: int | str, max_memory: int, n_threads: int) -> tuple[int, int]:
    """Return the rows of a block and the number of threads that read, within the memory allowed."""
    max_memory = check_integer(max_memory, "max_memory", low=1)
    row_bytes = 1
    for source in sources:
        if source.n_columns is not None and source.dtype is not None and source.n_columns:
            row_bytes = max(row_bytes, source.n_columns * source.dtype.itemsize)
    # both sides of each thread, and what a reader holds of one block besides
    affordable = max_memory // (4 * row_bytes)
    if affordable < 1:
        raise ValueError(f"max_memory must be at least {4 * row_bytes} for one pair of rows, got {max_memory}")
    n_workers = min(n_threads, affordable)
    affordable //= n_workers
    if batch_rows == "auto":
        block = min(source.block_bytes for source in sources) // row_bytes
        n_rows = next((source.n_rows for source in sources if source.n_rows is not None), None)
        if n_rows is not None:
            share = -(-n_rows // (_BLOCKS_PER_THREAD * n_workers))
            block = min(block, max(share, _LEAST_BYTES // row_bytes))
        block = max(1, block)
        multiple = max(source.block_rows for source in sources)
        if multiple > 1 and multiple <= affordable:  # do not read a chunk of the file twice
            block = max(1, block // multiple) * multiple
        return min(block, affordable), n_workers
    block = check_integer(batch_rows, "batch_rows", low=1)
    if block > affordable:
        raise ValueError(
            f"batch_rows must be at most {affordable} for max_memory={max_memory} and {n_workers} thread(s),"
            f" got {block}"
        )
    return block, n_workers

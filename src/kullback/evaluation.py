"""Divergences of data larger than memory: blocks of rows are read and reduced into an accumulator."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._blocks import Blocks
from ._checks.arrays import as_array
from ._checks.names import axis_names, check_same_index, find_order
from ._checks.outputs import check_folder_of
from ._checks.probabilities import BadRowError
from ._checks.scalars import check_integer, check_real
from ._interrupts import note_interrupts
from ._states import load_state, save_state
from ._threads import resolve_threads
from .readers import Source, open_source
from .streaming import RowDivergence, RowResult

__all__ = ["EvaluationInterrupted", "evaluate"]

_FORMAT = "kullback.evaluate.checkpoint"
_COLUMNS = ("labels", "weights", "group")

_SMALLEST_BLOCK_BYTES = 1 << 20
"""Bytes of one side of a block below which the fixed cost of a block shows."""

_BLOCKS_PER_THREAD = 4
"""Blocks that each thread gets at least, so that all threads end at about the same time."""


def __dir__() -> list[str]:
    return __all__


class EvaluationInterrupted(KeyboardInterrupt):
    """Ctrl-C, which takes effect at the end of a block: everything that was read is kept.

    Attributes
    ----------
    result
        Statistics of the rows that were read.
    accumulator
        The accumulator, which can be updated, merged and saved.
    n_rows
        How many rows were read, counted from the first.
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
        Rows, as anything that ``kullback.readers.open_source`` takes: arrays, frames, paths of npy, zarr,
        HDF5, safetensors and Parquet files, zarr and HDF5 datasets, sparse matrices, iterables of blocks. Dask arrays
        go to ``kullback.distributed.evaluate``.
    measures, from_logits, quantiles, base, normalize
        As for ``kullback.streaming.RowDivergence``.
    labels, weights, group
        Arrays in memory with one value for each row.
    batch_rows
        Rows of a block; "auto" takes blocks that stay in the caches.
    max_memory
        Bytes that all blocks together may take while they are read and reduced.
    progress
        Whether to show progress where the error stream is a terminal.
    checkpoint
        A file to which the state is written every ``checkpoint_every`` seconds, on Ctrl-C and at the end.
        Where it exists, the evaluation goes on from it; a file of other data or options is refused.
    n_threads
        Threads; no bit of the result depends on them, nor on ``batch_rows``.

    Raises
    ------
    EvaluationInterrupted
        On Ctrl-C, as soon as the blocks that were begun are done; it holds the partial result. A second
        Ctrl-C stops at once.

    Notes
    -----
    Each thread reads a block and reduces it into an accumulator of its own. Accumulators merge without
    rounding, so the order of the blocks does not matter, and some threads read while others compute.
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
        sources.append(open_source(p))
        sources.append(open_source(q))
        evaluation = _Evaluation(accumulator, sources, (labels, weights, group), batch_rows, max_memory, n_threads)
        if checkpoint is not None and os.path.exists(checkpoint):
            evaluation.resume(checkpoint)
        evaluation.execute(progress=progress, checkpoint=checkpoint, checkpoint_every=checkpoint_every)
    finally:
        for source, given in zip(sources, (p, q), strict=False):
            if source is not given:
                source.close()
    return evaluation.accumulator.result()


class _Evaluation:
    """One evaluation: what is read, what has been reduced, and how far it came."""

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
        row_counts = {source.n_rows for source in sources if source.n_rows is not None}
        if len(row_counts) > 1:
            raise ValueError(f"p and q must have the same number of rows, got {p.n_rows} and {q.n_rows}")
        widths = {source.n_columns for source in sources if source.n_columns is not None}
        if len(widths) > 1:
            raise ValueError(f"p and q must have the same number of columns, got {p.n_columns} and {q.n_columns}")
        self.n_rows = row_counts.pop() if row_counts else None
        check_same_index(p.row_names, q.row_names, "p and q")
        find_order(p.column_names, q.column_names, "p and q")
        for values, name in zip(columns, _COLUMNS, strict=True):
            check_same_index(p.row_names, (None, *axis_names(values))[-1], f"p and {name}")
        self.columns = [
            _check_column(values, name, self.n_rows) for values, name in zip(columns, _COLUMNS, strict=True)
        ]
        threads = resolve_threads(n_threads)
        block_rows, self.n_workers = _plan(sources, batch_rows, max_memory, threads)
        self.kernel_threads = max(1, threads // self.n_workers)
        self.blocks = Blocks(sources, self.n_rows, block_rows)

    # -- reading and reducing

    def execute(self, *, progress: bool, checkpoint: str | os.PathLike[str] | None, checkpoint_every: float) -> None:
        """Run to the end or to an interrupt, in rounds that each end with a checkpoint."""
        from tqdm import tqdm

        seconds = None if checkpoint is None else check_real(checkpoint_every, "checkpoint_every", low=0)
        bar = tqdm(total=self.n_rows, initial=self.blocks.n_done, unit="row", disable=None if progress else True)
        with bar, note_interrupts() as interrupted:
            while True:
                self._run_round(interrupted, lambda n_done: bar.update(n_done - bar.n), seconds)
                if checkpoint is not None:
                    self.save(checkpoint)
                if interrupted.is_set():
                    raise EvaluationInterrupted(self.accumulator, self.blocks.n_done)
                if self.blocks.is_finished:
                    break
        for column, name in zip(self.columns, _COLUMNS, strict=True):
            if column is not None and len(column) != self.blocks.n_done:
                raise ValueError(f"{name} must have one value per row ({self.blocks.n_done}), got {len(column)}")

    def _run_round(self, interrupted: threading.Event, show: Callable[[int], object], seconds: float | None) -> None:
        """Reduce blocks into an accumulator for each thread, then merge these into ours."""
        configuration = self.accumulator._configuration()
        parts = [RowDivergence(**configuration, n_threads=self.kernel_threads) for _ in range(self.n_workers)]
        reducers = [partial(self._reduce, part) for part in parts]
        self.blocks.run(reducers, interrupted=interrupted, show=show, seconds=seconds)
        for part in parts:
            self.accumulator.merge(part)

    def _reduce(self, accumulator: RowDivergence, start: int, stop: int, blocks: list[NDArray[Any]]) -> None:
        """Add one block of rows to an accumulator."""
        lengths = {len(block) for block, source in zip(blocks, self.sources, strict=True) if not source.concurrent}
        if len(lengths) > 1:
            raise ValueError(f"p and q must have the same number of rows, one of them ends near row {stop}")
        if lengths and lengths != {stop - start}:
            raise ValueError(f"p and q must have {self.n_rows} rows, one of them has {start + lengths.pop()}")
        labels, weights, group = (None if column is None else column[start:stop] for column in self.columns)
        p, q = blocks
        order = find_order(self.sources[0].column_names, self.sources[1].column_names, "p and q")
        if order is not None:
            q = q[:, order]
        try:
            accumulator.update(p, q, labels=labels, weights=weights, group=group)
        except BadRowError as error:
            raise error.in_block(start) from None

    # -- checkpoints

    def _describe(self) -> dict[str, Any]:
        """Return what tells these data from others. Iterables, whose length is not known, cannot be told apart."""
        sources = [source.describe() if self.n_rows is not None else {} for source in self.sources]
        return {"p": sources[0], "q": sources[1], "columns": [_digest(column) for column in self.columns]}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state and how far it came; the file changes as a whole or not at all."""
        state = self.accumulator.to_state()
        header = {
            "format": _FORMAT,
            "version": 1,
            "n_rows": self.blocks.n_done,
            "sources": self._describe(),
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
            if header.get("sources") != self._describe():
                raise ValueError("it is of other data")
            n_done = header.get("n_rows")
            if type(n_done) is not int or not accumulator._n_rows_seen() <= n_done <= (self.n_rows or n_done):
                raise ValueError(f"its number of rows, {n_done!r}, does not fit")
            if accumulator._configuration() != self.accumulator._configuration():
                raise ValueError("it was made with other options")
        except ValueError as error:
            raise ValueError(f"cannot resume from {os.fspath(path)!r}: {error}") from None
        self.accumulator = accumulator
        self.blocks.skip(n_done)


def _digest(column: NDArray[Any] | None) -> str | None:
    """Return a checksum of labels, weights or groups, as their shape alone does not tell them from others."""
    if column is None:
        return None
    return f"{column.dtype.str} {zlib.crc32(np.ascontiguousarray(column).tobytes()):08x}"


def _check_column(values: ArrayLike | None, name: str, n_rows: int | None) -> NDArray[Any] | None:
    """Return labels, weights or groups as an array; their number is checked as far as it is known."""
    if values is None:
        return None
    column = as_array(values, name)
    if column.ndim != 1 or (n_rows is not None and len(column) != n_rows):
        expected = "row" if n_rows is None else f"row ({n_rows})"
        raise ValueError(f"{name} must have one value per {expected}, got shape {column.shape}")
    return column


def _plan(sources: list[Source], batch_rows: int | str, max_memory: int, n_threads: int) -> tuple[int, int]:
    """Return the rows of a block and the number of threads that read, within the memory allowed."""
    max_memory = check_integer(max_memory, "max_memory", low=1)
    row_bytes = max(1, *(source.row_bytes or 1 for source in sources))
    # A thread holds a block of both sides, and readers may hold as much again while they read.
    bytes_of_pair = 4 * row_bytes
    affordable_rows = max_memory // bytes_of_pair
    if affordable_rows < 1:
        raise ValueError(f"max_memory must be at least {bytes_of_pair} for one pair of rows, got {max_memory}")
    n_workers = min(n_threads, affordable_rows)
    affordable_rows //= n_workers
    if batch_rows == "auto":
        return min(_good_block_rows(sources, row_bytes, n_workers, affordable_rows), affordable_rows), n_workers
    block_rows = check_integer(batch_rows, "batch_rows", low=1)
    if block_rows > affordable_rows:
        raise ValueError(
            f"batch_rows must be at most {affordable_rows} for max_memory={max_memory} and {n_workers} thread(s),"
            f" got {block_rows}"
        )
    return block_rows, n_workers


def _good_block_rows(sources: list[Source], row_bytes: int, n_workers: int, affordable_rows: int) -> int:
    """Return the rows of a block that stays in the caches, feeds all threads and fits the chunks of a file."""
    block_rows = min(source.block_bytes for source in sources) // row_bytes
    n_rows = next((source.n_rows for source in sources if source.n_rows is not None), None)
    if n_rows is not None:
        rows_of_share = -(-n_rows // (_BLOCKS_PER_THREAD * n_workers))
        block_rows = min(block_rows, max(rows_of_share, _SMALLEST_BLOCK_BYTES // row_bytes))
    block_rows = max(1, block_rows)
    chunk_rows = max(source.block_rows for source in sources)
    if 1 < chunk_rows <= affordable_rows:  # with whole chunks, no chunk of the file is read twice
        block_rows = max(1, block_rows // chunk_rows) * chunk_rows
    return block_rows

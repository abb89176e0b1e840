"""The engine of every evaluation: blocks of rows that several threads read and reduce."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._checks.names import check_same_index
from ._threads import SPARE_BYTES, startable_threads

if TYPE_CHECKING:
    from .readers import Source

_POLL_SECONDS = 0.1
"""How long the waiting thread sleeps between two looks at progress, interrupts and the time."""

Reducer = Callable[[int, int, list[NDArray[Any]]], object]
"""A function of the first row of a block, of the row after its last, and of the block of each source."""


class Blocks:
    """Rows of several sources, handed out in order, block by block, to threads that read and reduce them.

    Parameters
    ----------
    sources
        What is read. All sources have equally many rows.
    n_rows
        How many rows there are; None where that shows only at the end.
    block_rows
        Rows of a block.

    Attributes
    ----------
    n_done
        How many rows were reduced. When no thread is at work these are the first ones.
    """

    def __init__(self, sources: Sequence[Source], n_rows: int | None, block_rows: int) -> None:
        self.sources = sources
        self.n_rows = n_rows
        self.block_rows = block_rows
        self.n_done = 0
        self._next = 0  # the first row that was not handed out
        self._ended = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._error: BaseException | None = None

    @property
    def is_finished(self) -> bool:
        """Whether all rows were handed out."""
        return self._ended or self._next == self.n_rows

    def skip(self, n_rows: int) -> None:
        """Begin after the first rows, which were reduced before."""
        self._next = self.n_done = n_rows

    def run(
        self,
        reducers: Sequence[Reducer],
        *,
        interrupted: threading.Event,
        show: Callable[[int], object],
        seconds: float | None = None,
    ) -> None:
        """Let each reducer work in a thread of its own, until the rows end, an interrupt or a deadline.

        A block that has been begun is always finished. ``show`` is called with the number of rows that are done.
        The first error of a thread stops the others and is raised when all have ended. Where the system has not so
        many threads, fewer reducers work.
        """
        self._stop.clear()
        deadline = None if seconds is None else time.monotonic() + seconds
        n_workers = startable_threads(1 + len(reducers), SPARE_BYTES) - 1  # this thread waits
        if not n_workers:
            self._work(reducers[0])  # the system has no thread left
        threads = [threading.Thread(target=self._work, args=(one,), daemon=True) for one in reducers[:n_workers]]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(_POLL_SECONDS)
                    show(self.n_done)
                    if interrupted.is_set() or (deadline is not None and time.monotonic() >= deadline):
                        self._stop.set()
        finally:
            self._stop.set()  # a second Ctrl-C raises in the loop above, and then the threads must end, too
        if self._error is not None:
            raise self._error

    def _take(self) -> tuple[int, int, list[NDArray[Any]]]:
        """Hand out the next block: its first row, the row after its last, and what must be read in order.

        Sources that are not concurrent are read here, under the lock. If the number of rows is not known, a block in
        which all of them are short is the last one. Any other short block goes to the reducer, which refuses it.
        """
        with self._lock:
            start = self._next
            if self._stop.is_set() or self.is_finished:
                return start, start, []
            stop = start + self.block_rows if self.n_rows is None else min(start + self.block_rows, self.n_rows)
            parts = [np.empty(0) if source.concurrent else source.read(start, stop) for source in self.sources]
            if len(self.sources) == 2 and not all(source.concurrent for source in self.sources):
                first, second = (source.names_of_rows(start, stop) for source in self.sources)
                check_same_index(first, second, "the rows of both sides", start)
            if self.n_rows is None:
                lengths = {len(part) for part, source in zip(parts, self.sources, strict=True) if not source.concurrent}
                if len(lengths) == 1 and (n := lengths.pop()) < stop - start:
                    self._ended = True
                    stop = start + n
            self._next = stop
            return start, stop, parts

    def _make_buffer(self, source: Source) -> NDArray[Any] | None:
        """Return memory for one block of a source that may read into it."""
        if source.concurrent and source.takes_buffer and source.n_columns is not None:
            return np.empty((self.block_rows, source.n_columns), source.dtype)
        return None

    def _work(self, reduce: Reducer) -> None:
        """Read and reduce blocks until there are no more."""
        try:
            buffers = [self._make_buffer(source) for source in self.sources]
            while True:
                start, stop, parts = self._take()
                if stop == start:
                    return
                blocks = [
                    source.read(start, stop, buffer) if source.concurrent else part
                    for source, buffer, part in zip(self.sources, buffers, parts, strict=True)
                ]
                reduce(start, stop, blocks)
                del blocks, parts  # what they hold can be released now
                for source in self.sources:
                    source.release(start, stop)
                with self._lock:
                    self.n_done += stop - start
        except BaseException as error:
            with self._lock:
                self._error = self._error or error
            self._stop.set()

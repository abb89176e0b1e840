"""The one interface to rows, which every reader implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Source(ABC):
    """Rows that can be read in blocks.

    Attributes
    ----------
    n_rows
        None where the number of rows shows only at the end.
    n_columns, dtype
        None until the first block has been read, where only the blocks tell.
    concurrent
        Whether several threads may call ``read`` at once, in any order. Otherwise calls come one at a
        time, and each begins where the last one ended.
    block_rows
        How many rows the format keeps together. It is best to read a multiple of them.
    takes_buffer
        Whether ``read`` may be given memory to write to.
    row_names, column_names
        The names of rows and columns where the rows are a frame, and those of columns where they are blocks of frames,
        whose rows are named by ``names_of_rows``.
    block_bytes
        How many bytes are best read at once. They are few, so that the rows are still in the caches when they are
        reduced.
    """

    n_rows: int | None
    n_columns: int | None
    dtype: np.dtype[Any] | None
    concurrent = False
    block_rows = 1
    block_bytes = 4 << 20
    takes_buffer = True
    row_names: NDArray[Any] | None = None
    column_names: NDArray[Any] | None = None

    @property
    def row_bytes(self) -> int | None:
        """How many bytes a row takes in memory; None until that is known."""
        return None if self.n_columns is None or self.dtype is None else self.n_columns * self.dtype.itemsize

    def names_of_rows(self, start: int, stop: int) -> NDArray[Any] | None:
        """Return the names of the rows ``start:stop``, which were read last, or None where not all of them have one."""
        return None if self.row_names is None else self.row_names[start:stop]

    @abstractmethod
    def read(self, start: int, stop: int, buffer: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the rows ``start:stop``, or fewer at the end; a reader may write them into ``buffer``."""

    def release(self, start: int, stop: int) -> None:  # noqa: B027  (most readers hold no memory)
        """Let go of the memory behind rows that were read and are not needed any more."""

    def close(self) -> None:  # noqa: B027  (most readers hold nothing open)
        """Close what this reader opened."""

    def describe(self) -> dict[str, Any]:
        """Return what a checkpoint keeps about these rows, so that resuming with other rows is refused."""
        return {"kind": type(self).__name__, "n_rows": self.n_rows, "n_columns": self.n_columns,
                "dtype": None if self.dtype is None else self.dtype.name}  # fmt: skip

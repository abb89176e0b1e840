"""Readers of arrays, files and iterables: thin adapters over the libraries of the formats."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checks.arrays import as_array, as_numbers
from .._checks.names import axis_names, find_order, index_of_block
from .._checks.sparse import as_sorted_rows, is_sparse
from ._damage import check_chunks, refuse_damage
from ._source import Source

VIEW_BYTES = 16 << 20
"""Bytes of a block that is not copied: many, so that the fixed cost of a block is small beside its reduction."""


def import_library(module: str, extra: str) -> Any:
    """Return a format's library; where it is missing, say which extra of kullback brings it."""
    try:
        return import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise ImportError(f"reading this needs {package}: pip install 'kullback[{extra}]'") from None


def two_axes(shape: tuple[int, ...], what: str) -> tuple[int, int]:
    """Return the numbers of rows and of columns."""
    if len(shape) != 2:
        raise ValueError(f"{what} must have two axes, rows and columns, got shape {shape}")
    return int(shape[0]), int(shape[1])


class ArraySource(Source):
    """An array in memory; every axis but the last counts rows."""

    concurrent = True
    block_bytes = VIEW_BYTES

    def __init__(self, array: NDArray[Any]) -> None:
        if array.ndim < 1:
            raise ValueError("an array of rows must have at least one axis, got a scalar")
        self._rows = array.reshape(-1, array.shape[-1])
        self.n_rows, self.n_columns = self._rows.shape
        self.dtype = array.dtype

    def read(self, start: int, stop: int, buffer: NDArray[Any] | None = None) -> NDArray[Any]:
        return self._rows[start:stop]


class SparseSource(Source):
    """A sparse matrix in memory, whose blocks are sparse, too."""

    concurrent = True
    block_bytes = VIEW_BYTES
    takes_buffer = False

    def __init__(self, matrix: Any) -> None:
        self._rows = as_sorted_rows(matrix, "a sparse matrix of rows")
        self.n_rows, self.n_columns = self._rows.shape
        self.dtype = self._rows.dtype

    @property
    def row_bytes(self) -> int | None:
        n_bytes = self._rows.data.nbytes + self._rows.indices.nbytes
        return int(n_bytes // max(1, self._rows.shape[0])) + 1

    def read(self, start: int, stop: int, buffer: NDArray[Any] | None = None) -> Any:
        return self._rows[start:stop]


class SliceSource(Source):
    """Anything that has a shape and a dtype and can be sliced, such as zarr arrays and h5py datasets.

    ``path`` is that of the file where it was opened here; errors then name it.
    """

    def __init__(self, data: Any, close: Callable[[], None] | None = None, path: str | None = None) -> None:
        self._data = data
        self._close = close
        self._path = path
        self.n_rows, self.n_columns = two_axes(tuple(data.shape), type(data).__name__)
        self.dtype = np.dtype(data.dtype)
        chunks = getattr(data, "chunks", None)
        if chunks:
            self.block_rows = int(chunks[0])
            if path is not None:
                check_chunks(path, chunks, self.dtype)

    def read(self, start: int, stop: int, buffer: NDArray[Any] | None = None) -> NDArray[Any]:
        if self._path is None:
            return as_array(self._data[start:stop], "a block of rows")
        with refuse_damage(self._path):
            return as_array(self._data[start:stop], "a block of rows")

    def close(self) -> None:
        if self._close is not None:
            self._close()


class SequentialSource(Source):
    """Rows that come one block after the other, in blocks whose sizes are not ours."""

    def __init__(self) -> None:
        self._position = 0
        self._waiting: list[NDArray[Any]] = []  # at most one block, which was read and not yet handed out
        self._blocks: Iterator[NDArray[Any]] | None = None

    @abstractmethod
    def _start(self, row: int) -> tuple[Iterator[NDArray[Any]], int]:
        """Return an iterator over blocks, and how many of its rows come before ``row``."""

    def read(self, start: int, stop: int, buffer: NDArray[Any] | None = None) -> NDArray[Any]:
        if self._blocks is None:
            self._blocks, skip = self._start(start)
            self._position = start
            while skip > 0 and self._fill():
                skip -= len(self._take(skip))
        if start != self._position:
            raise ValueError(f"rows must be read in order, expected {self._position}, got {start}")
        parts: list[NDArray[Any]] = []
        missing = stop - start
        while missing and self._fill():
            parts.append(self._take(missing))
            missing -= len(parts[-1])
        self._position = stop - missing
        if not parts:
            return np.empty((0, self.n_columns or 0), self.dtype or np.float32)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _fill(self) -> bool:
        """Read the next block where none is waiting; return False at the end of the rows."""
        assert self._blocks is not None
        while not self._waiting:
            block = next(self._blocks, None)
            if block is None:
                return False
            if block.ndim != 2 or self.n_columns not in (None, block.shape[1]):
                raise ValueError(f"blocks must have shape (n, {self.n_columns or 'columns'}), got {block.shape}")
            if self.dtype not in (None, block.dtype):  # values of joined blocks would depend on where the blocks begin
                raise ValueError(f"blocks must have one dtype, got {self.dtype} and then {block.dtype}")
            self.n_columns, self.dtype = block.shape[1], block.dtype
            if len(block):
                self._waiting.append(block)
        return True

    def _take(self, n: int) -> NDArray[Any]:
        """Hand out at most ``n`` rows of the block that is waiting."""
        block = self._waiting.pop()
        if len(block) > n:
            self._waiting.append(block[n:])
        return block[:n]


class IterableSource(SequentialSource):
    """Blocks from any iterable, where a vector is a single row."""

    def __init__(self, blocks: Iterable[Any]) -> None:
        super().__init__()
        self._iterable = blocks
        self.n_rows = self.n_columns = self.dtype = None
        self._index: NDArray[Any] | None = None  # the names of the rows of the block that is waiting
        self._taken: list[NDArray[Any] | None] = []  # those of the rows that were read last

    def _start(self, row: int) -> tuple[Iterator[NDArray[Any]], int]:
        return map(self._as_block, self._iterable), row

    def read(self, start: int, stop: int, buffer: NDArray[Any] | None = None) -> NDArray[Any]:
        self._taken = []
        return super().read(start, stop, buffer)

    def _take(self, n: int) -> NDArray[Any]:
        self._taken.append(None if self._index is None else self._index[:n])
        self._index = None if self._index is None else self._index[n:]
        return super()._take(n)

    def names_of_rows(self, start: int, stop: int) -> NDArray[Any] | None:
        parts = [part for part in self._taken if part is not None]
        return np.concatenate(parts) if parts and len(parts) == len(self._taken) else None

    def _as_block(self, block: Any) -> NDArray[Any]:
        """Return a block with its columns in the order of the first one, where blocks are frames."""
        array = _as_block(block)
        self._index = index_of_block(block)
        names = (None, *axis_names(block))[-1]
        if self.column_names is None:
            self.column_names = names
        order = find_order(self.column_names, names, "blocks")
        return array if order is None else array[:, order]


def _as_block(block: Any) -> NDArray[Any]:
    """Return a block as a matrix; a vector is a single row."""
    if is_sparse(block):
        raise TypeError(
            f"blocks must be dense, got a sparse {type(block).__name__}; pass its toarray(), or all rows in one sparse "
            "matrix in place of blocks"
        )
    array = as_numbers(block, "a block of rows")
    if array.ndim == 0:
        raise TypeError(f"blocks must have rows and columns, got {type(block).__name__}: {block!r:.40}")
    return np.atleast_2d(array)


class ParquetSource(SequentialSource):
    """A column of fixed-size lists in a Parquet file, one row group at a time."""

    def __init__(self, path: str, column: str) -> None:
        super().__init__()
        arrow, parquet = import_library("pyarrow", "parquet"), import_library("pyarrow.parquet", "parquet")
        self._path = path
        with refuse_damage(path):
            self._file = parquet.ParquetFile(
                path, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
            )
            schema, self.n_rows = self._file.schema_arrow, self._file.metadata.num_rows
        if column not in schema.names:
            raise ValueError(f"{path!r} has no column {column!r}, only {', '.join(schema.names)}")
        kind = schema.field(column).type
        if not arrow.types.is_fixed_size_list(kind) or kind.list_size < 1:
            raise ValueError(f"column {column!r} of {path!r} must be a fixed-size list of numbers, got {kind}")
        self._column = column
        self.n_columns = kind.list_size
        with refuse_damage(path):
            self.dtype = np.dtype(kind.value_type.to_pandas_dtype())

    def _start(self, row: int) -> tuple[Iterator[NDArray[Any]], int]:
        groups = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        first = 0
        while first < len(groups) and row >= groups[first]:
            row -= groups[first]
            first += 1
        return self._batches(range(first, len(groups))), row

    def _batches(self, groups: range) -> Iterator[NDArray[Any]]:
        """Yield the rows of these row groups, in blocks of few bytes."""
        assert self.n_columns is not None and self.dtype is not None
        n_rows = max(1, self.block_bytes // max(1, self.n_columns * self.dtype.itemsize))
        missing = sum(self._file.metadata.row_group(i).num_rows for i in groups)
        with refuse_damage(self._path):
            batches = self._file.iter_batches(n_rows, list(groups), [self._column], use_threads=False)
        while True:
            with refuse_damage(self._path):
                batch = next(batches, None)
                if batch is not None:
                    rows = self._rows_of(batch.column(0))
                elif missing:  # pages of fewer rows than the file promises; not every version of pyarrow looks
                    raise ValueError(f"its last {missing} rows are missing")
                else:
                    return
            missing -= len(rows)
            yield rows

    def _rows_of(self, lists: Any) -> NDArray[Any]:
        """Return lists as rows."""
        values = lists.flatten()
        if lists.null_count or values.null_count:
            raise ValueError(f"column {self._column!r} must have no nulls")
        rows: NDArray[Any] = values.to_numpy(zero_copy_only=False).reshape(len(lists), self.n_columns)
        return rows

    def close(self) -> None:
        self._file.close()

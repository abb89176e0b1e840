"""One interface to rows, and the adapters behind it."""

from __future__ import annotations

import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._npy import read_header


class Source(ABC):
    """Rows that can be read in blocks.

    Attributes
    ----------
    n_rows
        None where it shows only at the end.
    n_columns
    dtype
    concurrent
        Whether several threads may call ``read`` at once, in any order. Otherwise calls come one at a
        time, each beginning where the last one ended.
    block_rows
        Rows that the format keeps together; a good ``read`` covers a multiple of them.
    block_bytes
        What a good ``read`` returns: little, so that it is still in the caches when it is reduced.
    """

    n_rows: int | None
    n_columns: int | None
    dtype: np.dtype[Any] | None
    concurrent = False
    block_rows = 1
    block_bytes = 4 << 20

    @abstractmethod
    def read(self, start: int, stop: int, buffer: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return rows ``start:stop``, fewer only at the end; into ``buffer`` where that helps."""

    def release(self, start: int, stop: int) -> None:  # noqa: B027  (most hold nothing)
        """Let go of the memory behind rows that were read and are not needed any more."""

    def close(self) -> None:  # noqa: B027  (most hold nothing)
        """Release what was opened here."""

    def describe(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, to refuse other data on resuming."""
        return {"kind": type(self).__name__, "n_rows": self.n_rows, "n_columns": self.n_columns,
                "dtype": None if self.dtype is None else self.dtype.name}  # fmt: skip


def _two_axes(shape: tuple[int, ...], what: str) -> tuple[int, int]:
    if len(shape) != 2:
        raise ValueError(f"{what} must have two axes, rows and columns, got shape {shape}")
    return int(shape[0]), int(shape[1])


_VIEW_BYTES = 16 << 20  # of a block that is not copied: large, so that what a block costs is small


class ArraySource(Source):
    """An array in memory; every axis but the last counts rows."""

    concurrent = True
    block_bytes = _VIEW_BYTES

    def __init__(self, array: NDArray[Any]) -> None:
        if array.ndim < 1:
            raise ValueError("an array of rows must have at least one axis, got a scalar")
        self._rows = array.reshape(-1, array.shape[-1])
        self.n_rows, self.n_columns = self._rows.shape
        self.dtype = array.dtype

    def read(self, start: int, stop: int, buffer: NDArray[Any] | None = None) -> NDArray[Any]:
        return self._rows[start:stop]


class NpySource(Source):
    """An .npy file, mapped: rows are reduced where the system keeps them, and let go afterwards.

    A file that was cut is an error at the next block; one that is cut while a block is reduced kills the
    process, as with every memory map.
    """

    concurrent = True
    block_bytes = _VIEW_BYTES

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        with open(path, "rb") as file:
            try:
                shape, fortran, dtype = read_header(file)
            except ValueError as error:
                raise ValueError(f"{self._path!r} is no npy file that can be read: {error}") from None
            self._offset = file.tell()
            if dtype.hasobject:
                raise ValueError(f"{self._path!r} holds Python objects, which are not read")
            if fortran and len(shape) > 1:
                raise ValueError(f"{self._path!r} is in Fortran order, its rows are scattered; save it in C order")
            if not shape:
                raise ValueError(f"{self._path!r} holds a scalar, not rows")
            self.n_columns = int(shape[-1])
            self.n_rows = int(np.prod(shape[:-1], dtype=object))
            self.dtype = dtype
            self._row_bytes = self.n_columns * dtype.itemsize
            self._size = self._offset + self.n_rows * self._row_bytes
            size = os.fstat(file.fileno()).st_size
            if size != self._size:
                raise ValueError(f"{self._path!r} has {size} bytes, but its header speaks of {self._size}")
            self._map: mmap.mmap | None = mmap.mmap(file.fileno(), self._size, access=mmap.ACCESS_READ)
            self._descriptor = os.dup(file.fileno())

    def read(self, start: int, stop: int, buffer: NDArray[Any] | None = None) -> NDArray[Any]:
        assert self._map is not None and self.dtype is not None
        assert self.n_rows is not None and self.n_columns is not None
        if os.fstat(self._descriptor).st_size < self._size:
            raise OSError(f"{self._path!r} ended early: it was cut while it was read")
        stop = min(stop, self.n_rows)
        first, n_bytes = self._offset + start * self._row_bytes, (stop - start) * self._row_bytes
        if hasattr(os, "posix_fadvise"):  # let the system read the block after the next while we compute
            os.posix_fadvise(self._descriptor, first + 2 * n_bytes, n_bytes, os.POSIX_FADV_WILLNEED)
        rows = np.frombuffer(self._map, np.uint8, n_bytes, first).view(self.dtype)
        # a header of odd length leaves the numbers where the kernels must not read them
        return np.require(rows.reshape(stop - start, self.n_columns), requirements="A")

    def release(self, start: int, stop: int) -> None:
        if self._map is not None and hasattr(self._map, "madvise"):
            first = self._offset + start * self._row_bytes
            first -= first % mmap.PAGESIZE
            n_bytes = self._offset + stop * self._row_bytes - first
            self._map.madvise(mmap.MADV_DONTNEED, first, n_bytes)  # read again where it is still needed

    def close(self) -> None:
        if self._map is not None:
            self._map = None  # it ends with the last rows that were read from it
            os.close(self._descriptor)


class SliceSource(Source):
    """Anything with shape, dtype and slices, such as zarr arrays and h5py datasets."""

    def __init__(self, data: Any, close: Callable[[], None] | None = None) -> None:
        self._data = data
        self._close = close
        self.n_rows, self.n_columns = _two_axes(tuple(data.shape), type(data).__name__)
        self.dtype = np.dtype(data.dtype)
        chunks = getattr(data, "chunks", None)
        if chunks:
            self.block_rows = int(chunks[0])

    def read(self, start: int, stop: int, buffer: NDArray[Any] | None = None) -> NDArray[Any]:
        return np.asarray(self._data[start:stop])

    def close(self) -> None:
        if self._close is not None:
            self._close()


class SafetensorsSource(Source):
    """One tensor of a safetensors file."""

    def __init__(self, path: str, name: str) -> None:
        library = _library("safetensors", "safetensors")
        try:
            self._file = library.safe_open(path, framework="numpy")
        except library.SafetensorError as error:
            raise ValueError(f"{path!r} is no safetensors file that can be read: {error}") from None
        self._file.__enter__()
        if name not in self._file.keys():  # noqa: SIM118  (no mapping)
            raise ValueError(f"{path!r} has no tensor {name!r}, only {', '.join(sorted(self._file.keys()))}")
        self._slice = self._file.get_slice(name)
        self.n_rows, self.n_columns = _two_axes(tuple(self._slice.get_shape()), f"tensor {name!r}")
        self.dtype = np.asarray(self._slice[0:0]).dtype if self.n_rows == 0 else np.asarray(self._slice[0:1]).dtype

    def read(self, start: int, stop: int, buffer: NDArray[Any] | None = None) -> NDArray[Any]:
        return np.asarray(self._slice[start : min(stop, self.n_rows or 0)])

    def close(self) -> None:
        self._file.__exit__(None, None, None)


class SequentialSource(Source):
    """Rows that come as blocks of their own sizes, one after the other."""

    def __init__(self) -> None:
        self._position = 0
        self._left: list[NDArray[Any]] = []  # read, but not yet handed out
        self._blocks: Iterator[NDArray[Any]] | None = None

    @abstractmethod
    def _start(self, row: int) -> tuple[Iterator[NDArray[Any]], int]:
        """Return an iterator over blocks, and how many rows to skip in it to be at ``row``."""

    def read(self, start: int, stop: int, buffer: NDArray[Any] | None = None) -> NDArray[Any]:
        if self._blocks is None:
            self._blocks, skip = self._start(start)
            self._position = start
            while skip > 0 and self._fill():
                taken = self._take(skip)
                skip -= sum(len(part) for part in taken)
        if start != self._position:
            raise ValueError(f"rows must be read in order, expected {self._position}, got {start}")
        parts: list[NDArray[Any]] = []
        missing = stop - start
        while missing and self._fill():
            taken = self._take(missing)
            missing -= sum(len(part) for part in taken)
            parts += taken
        self._position = stop - missing
        if not parts:
            return np.empty((0, self.n_columns or 0), self.dtype or np.float32)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _fill(self) -> bool:
        assert self._blocks is not None
        while not self._left:
            block = next(self._blocks, None)
            if block is None:
                return False
            if block.ndim != 2 or self.n_columns not in (None, block.shape[1]):
                raise ValueError(f"blocks must have shape (n, {self.n_columns or 'columns'}), got {block.shape}")
            if self.dtype not in (None, block.dtype):  # joined, their values would depend on the blocks
                raise ValueError(f"blocks must have one dtype, got {self.dtype} and then {block.dtype}")
            self.n_columns, self.dtype = block.shape[1], block.dtype
            if len(block):
                self._left.append(block)
        return True

    def _take(self, n: int) -> list[NDArray[Any]]:
        block = self._left.pop()
        if len(block) > n:
            self._left.append(block[n:])
        return [block[:n]]


class IterableSource(SequentialSource):
    """Blocks from any iterable; a single row may come as a vector."""

    def __init__(self, blocks: Iterable[Any]) -> None:
        super().__init__()
        self._iterable = blocks
        self.n_rows = self.n_columns = self.dtype = None

    def _start(self, row: int) -> tuple[Iterator[NDArray[Any]], int]:
        return (np.atleast_2d(np.asarray(block)) for block in self._iterable), row


class ParquetSource(SequentialSource):
    """A column of fixed-size lists in a Parquet file, one row group at a time."""

    def __init__(self, path: str, column: str) -> None:
        super().__init__()
        arrow, parquet = _library("pyarrow", "parquet"), _library("pyarrow.parquet", "parquet")
        self._file = parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        schema = self._file.schema_arrow
        if column not in schema.names:
            raise ValueError(f"{path!r} has no column {column!r}, only {', '.join(schema.names)}")
        kind = schema.field(column).type
        if not arrow.types.is_fixed_size_list(kind):
            raise ValueError(f"column {column!r} must be a fixed-size list of numbers, got {kind}")
        self._column = column
        self.n_rows, self.n_columns = self._file.metadata.num_rows, kind.list_size
        self.dtype = np.dtype(kind.value_type.to_pandas_dtype())

    def _start(self, row: int) -> tuple[Iterator[NDArray[Any]], int]:
        groups = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        first = 0
        while first < len(groups) and row >= groups[first]:
            row -= groups[first]
            first += 1
        return self._batches(range(first, len(groups))), row

    def _batches(self, groups: range) -> Iterator[NDArray[Any]]:
        assert self.n_columns is not None and self.dtype is not None
        rows = max(1, (1 << 22) // max(1, self.n_columns * self.dtype.itemsize))
        for batch in self._file.iter_batches(rows, list(groups), [self._column], use_threads=False):
            lists = batch.column(0)
            values = lists.flatten()
            if lists.null_count or values.null_count:
                raise ValueError(f"column {self._column!r} must have no nulls")
            yield values.to_numpy(zero_copy_only=False).reshape(-1, self.n_columns)

    def close(self) -> None:
        self._file.close()


def _library(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise ImportError(f"reading this needs {package}: pip install 'kullback[{extra}]'") from None


def _open_zarr(path: str, name: str) -> Source:
    node = _library("zarr", "zarr").open(path, mode="r")
    if name:
        if hasattr(node, "shape") or name not in node:
            raise ValueError(f"{path!r} has no array {name!r}")
        node = node[name]
    if not hasattr(node, "shape"):
        raise ValueError(f"{path!r} is a group; name an array as {path}:NAME")
    return SliceSource(node)


def _open_hdf5(path: str, name: str) -> Source:
    file = _library("h5py", "hdf5").File(path, "r")
    if name not in file or not hasattr(file[name], "shape"):
        file.close()
        raise ValueError(f"{path!r} has no dataset {name!r}")
    return SliceSource(file[name], file.close)


_OPENERS: dict[str, Callable[[str, str], Source]] = {
    ".npy": lambda path, name: NpySource(path),
    ".zarr": _open_zarr,
    ".h5": _open_hdf5,
    ".hdf5": _open_hdf5,
    ".safetensors": SafetensorsSource,
    ".parquet": ParquetSource,
}


def open_source(source: Any) -> Source:
    """Return rows from an array, a path, an array-like object that slices, or an iterable of blocks.

    Paths: ``x.npy``; ``x.zarr`` or ``x.zarr:NAME``; ``x.h5:NAME`` (also ``.hdf5``);
    ``x.safetensors:NAME``; ``x.parquet:COLUMN``; any file that begins as
    llama.cpp's base logits do. A ``Source`` is returned as it is.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, np.ndarray):
        return ArraySource(source)
    if isinstance(source, str | os.PathLike):
        return _open_path(os.fspath(source))
    if hasattr(source, "shape") and hasattr(source, "dtype") and hasattr(source, "__getitem__"):
        return SliceSource(source)
    if isinstance(source, list | tuple) and source and not hasattr(source[0], "__len__"):
        return ArraySource(np.asarray(source))
    if isinstance(source, Iterable):
        return IterableSource(source)
    raise TypeError(f"cannot read rows from {type(source).__name__}; see kullback.readers.open_source")


def _open_path(path: str) -> Source:
    name = ""
    if Path(path).suffix not in _OPENERS and ":" in path:
        path, _, name = path.rpartition(":")
    suffix = Path(path).suffix
    if suffix not in _OPENERS:
        from .llama import LlamaLogits, is_llama_logits

        if not name and os.path.isfile(path) and is_llama_logits(path):
            return LlamaLogits(path)
        raise ValueError(f"{path!r} must end in one of {', '.join(_OPENERS)}, with :NAME where that needs one")
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {path!r}")
    return _OPENERS[suffix](path, name)

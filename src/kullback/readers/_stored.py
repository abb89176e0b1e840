"""Rows that lie in a file one behind the other, all of one size: npy and safetensors."""

from __future__ import annotations

import json
import math
import mmap
import os
import threading
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .._npy import read_header
from ._formats import VIEW_BYTES, import_library, two_axes
from ._source import Source

_LONGEST_HEADER = 100_000_000
"""Bytes of the header of a safetensors file: the limit of the format."""

_SAFETENSORS_DTYPES = {
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "BOOL": "bool",
    "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
}  # fmt: skip
"""Names of dtypes in safetensors files, and NumPy's names of them."""


_SEEKING = threading.Lock()


class StoredRows(Source):
    """Rows in a file that is kept open. One that becomes shorter, or is written to, while it is read is an error."""

    concurrent = True

    def _keep(self, file: BinaryIO, path: str | os.PathLike[str]) -> None:
        """Keep the file open, and remember how it was."""
        self._path = os.fspath(path)
        self._descriptor = os.dup(file.fileno())
        self._status = self._look()

    def _look(self) -> tuple[int, int]:
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns

    def _check_unchanged(self) -> None:
        """Raise where the file is not as it was when it was opened; one that was replaced by another still is."""
        size, modified = self._look()
        if size < self._status[0]:
            raise OSError(f"{self._path!r} ended early: it was cut while it was read")
        if (size, modified) != self._status:
            raise OSError(f"{self._path!r} was written to while it was read")

    def _read_at(self, offset: int, out: NDArray[Any]) -> None:
        """Fill a contiguous array with the bytes from ``offset`` on."""
        content = out.reshape(-1).view(np.uint8).data
        while len(content):
            n_bytes = _read_into(self._descriptor, content, offset)
            if not n_bytes:
                raise OSError(f"{self._path!r} ended early: it was cut while it was read")
            content, offset = content[n_bytes:], offset + n_bytes
        self._check_unchanged()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _read_into(descriptor: int, content: memoryview, offset: int) -> int:
    """Read bytes at a place, and return how many; threads do not disturb each other."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [content], offset)
    with _SEEKING:
        os.lseek(descriptor, offset, os.SEEK_SET)
        data = os.read(descriptor, len(content))
    content[: len(data)] = data
    return len(data)


class NpySource(StoredRows):
    """An .npy file that is mapped into memory: rows are reduced in the system's own pages and let go afterwards.

    A file that has become shorter is an error at the next block. One that becomes shorter while a block is reduced
    kills the process, as it does with every memory map.
    """

    block_bytes = VIEW_BYTES

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
            self.n_rows = math.prod(shape[:-1])
            self.dtype = dtype
            self._row_bytes = self.n_columns * dtype.itemsize
            self._size = self._offset + self.n_rows * self._row_bytes
            size = os.fstat(file.fileno()).st_size
            if size != self._size:
                raise ValueError(f"{self._path!r} has {size} bytes, but its header speaks of {self._size}")
            self._map: mmap.mmap | None = mmap.mmap(file.fileno(), self._size, access=mmap.ACCESS_READ)
            self._keep(file, path)

    def read(self, start: int, stop: int, buffer: NDArray[Any] | None = None) -> NDArray[Any]:
        assert self._map is not None and self.dtype is not None
        assert self.n_rows is not None and self.n_columns is not None
        self._check_unchanged()
        stop = min(stop, self.n_rows)
        first, n_bytes = self._offset + start * self._row_bytes, (stop - start) * self._row_bytes
        if hasattr(os, "posix_fadvise"):  # the system reads the block after the next while we compute
            os.posix_fadvise(self._descriptor, first + 2 * n_bytes, n_bytes, os.POSIX_FADV_WILLNEED)
        rows = np.frombuffer(self._map, np.uint8, n_bytes, first).view(self.dtype)
        # A header of odd length leaves the numbers unaligned, and kernels must not read those: "A" copies them.
        return np.require(rows.reshape(stop - start, self.n_columns), requirements="A")

    def release(self, start: int, stop: int) -> None:
        self._check_unchanged()
        if self._map is not None and hasattr(self._map, "madvise"):
            first = self._offset + start * self._row_bytes
            first -= first % mmap.PAGESIZE
            n_bytes = self._offset + stop * self._row_bytes - first
            self._map.madvise(mmap.MADV_DONTNEED, first, n_bytes)  # a page that is still needed is read again

    def close(self) -> None:
        if self._map is not None:
            self._map = None  # the map is closed when the last rows that lie in it are gone
            super().close()


class SafetensorsSource(StoredRows):
    """One tensor of a safetensors file.

    The format's own library maps the file, and a map kills the process when another one makes the file shorter. So the
    header is read and checked here, and rows are read into memory of ours.
    """

    def __init__(self, path: str, name: str) -> None:
        with open(path, "rb") as file:
            try:
                tensors, start = _read_tensors(file)
            except ValueError as error:
                raise ValueError(f"{path!r} is no safetensors file that can be read: {error}") from None
            if name not in tensors:
                raise ValueError(f"{path!r} has no tensor {name!r}, only {', '.join(sorted(tensors))[:200]}")
            kind, shape, first = tensors[name]
            self.n_rows, self.n_columns = two_axes(shape, f"tensor {name!r}")
            if kind not in _SAFETENSORS_DTYPES:
                known = ", ".join(_SAFETENSORS_DTYPES)
                raise TypeError(f"tensor {name!r} of {path!r} must have a dtype of {known}, got {kind}")
            if kind == "BF16":
                import_library("ml_dtypes", "safetensors")  # it tells NumPy of this dtype
            self.dtype = np.dtype(_SAFETENSORS_DTYPES[kind])
            self._offset = start + first
            self._keep(file, path)

    def read(self, start: int, stop: int, buffer: NDArray[Any] | None = None) -> NDArray[Any]:
        assert self.n_rows is not None and self.n_columns is not None and self.dtype is not None
        n = max(0, min(stop, self.n_rows) - start)
        has_room = buffer is not None and len(buffer) >= n and buffer.flags.c_contiguous
        rows = buffer[:n] if buffer is not None and has_room else np.empty((n, self.n_columns), self.dtype)
        self._read_at(self._offset + start * self.n_columns * self.dtype.itemsize, rows)
        return rows


Tensors = dict[str, tuple[str, tuple[int, ...], int]]
"""The dtype, the shape and the place of each tensor."""


def _read_tensors(file: BinaryIO) -> tuple[Tensors, int]:
    """Return the tensors of a safetensors file and where their bytes begin; they must fill the file without a gap."""
    n_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > min(_LONGEST_HEADER, n_bytes - 8):
        raise ValueError(f"its header claims {length} bytes of {n_bytes}")
    try:
        header = json.loads(file.read(length).decode(), object_pairs_hook=_refuse_twins)
    except RecursionError:
        raise ValueError("its header is nested too deeply") from None
    if not isinstance(header, dict):
        raise ValueError("its header is no dictionary")
    header.pop("__metadata__", None)
    parts = sorted((_read_tensor(name, entry) for name, entry in header.items()), key=lambda part: part[3:])
    end = 0
    for name, _, _, first, last in parts:
        if first != end:
            raise ValueError(f"tensor {name!r} must begin at {end}, got {first}: tensors have gaps or overlap")
        end = last
    if 8 + length + end != n_bytes:
        raise ValueError(f"it has {n_bytes} bytes, but its header speaks of {8 + length + end}")
    return {name: (kind, shape, first) for name, kind, shape, first, _ in parts}, 8 + length


def _read_tensor(name: str, entry: Any) -> tuple[str, str, tuple[int, ...], int, int]:
    """Return the name, dtype, shape, first byte and last byte but one of a tensor."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {name!r} must have dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [None]
    if not isinstance(kind, str) or not all(type(x) is int and x >= 0 for x in numbers) or len(offsets) != 2:
        raise ValueError(f"tensor {name!r} has a shape or offsets that are no whole numbers")
    first, last = offsets
    size = _bytes_of(kind)
    if first > last or (size is not None and last - first != size * math.prod(shape)):
        raise ValueError(f"tensor {name!r} of {kind} {shape} cannot have the offsets {offsets}")
    return name, kind, tuple(shape), first, last


def _bytes_of(kind: str) -> int | None:
    """Return the bytes of an element; None for a dtype that is not known here."""
    if kind == "BF16":  # NumPy knows it only when ml_dtypes was imported
        return 2
    return np.dtype(_SAFETENSORS_DTYPES[kind]).itemsize if kind in _SAFETENSORS_DTYPES else None


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a dictionary, unless a name comes twice."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name comes twice in its header")
    return dict(pairs)

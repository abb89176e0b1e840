"""From what a user names, such as a path or an array, to the reader of its rows."""

from __future__ import annotations

import numbers
import os
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np

from .._checks.arrays import as_numbers, is_array_like
from .._checks.names import axis_names
from .._checks.sparse import is_sparse
from ._damage import refuse_damage
from ._formats import (
    ArraySource,
    IterableSource,
    ParquetSource,
    SliceSource,
    SparseSource,
    import_library,
)
from ._llama_file import LlamaLogits, is_llama_logits
from ._source import Source
from ._stored import NpySource, SafetensorsSource


def open_source(source: Any) -> Source:
    """Return rows from an array, a frame, a sparse matrix, a path, what can be sliced, or an iterable of blocks.

    Whatever is an array by NumPy's protocols, DLPack or the dataframe interchange is one, even if it can be iterated.
    Paths are ``x.npy``; ``x.zarr`` or ``x.zarr:NAME``; ``x.h5:NAME`` (also ``.hdf5``);
    ``x.safetensors:NAME``; ``x.parquet:COLUMN``; and any file that begins as
    llama.cpp's base logits do. A ``Source`` is returned as it is.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, np.ndarray):
        return ArraySource(as_numbers(source, "an array of rows"))
    if isinstance(source, str | os.PathLike):
        return _open_path(os.fspath(source))
    if is_sparse(source):
        return SparseSource(source)
    if _is_sliceable(source):
        return SliceSource(source)
    if is_array_like(source) or _is_vector(source):
        rows = ArraySource(as_numbers(source, f"the {type(source).__name__} of rows"))
        rows.row_names, rows.column_names = (None, None, *axis_names(source))[-2:]
        return rows
    if isinstance(source, Iterable) and not isinstance(source, Mapping | Set | bytes):
        return IterableSource(source)
    raise TypeError(
        f"cannot read rows from {type(source).__name__}: they may be an array, a frame, a path or an iterable of blocks"
    )


def _is_sliceable(source: Any) -> bool:
    """Return whether rows may lie in a file and are read by slices, as those of zarr and h5py; a Series does not."""
    is_array = isinstance(getattr(source, "dtype", None), np.dtype) and hasattr(source, "shape")
    return is_array and hasattr(source, "__getitem__") and (len(source.shape) != 1 or hasattr(source, "chunks"))


def _is_vector(source: Any) -> bool:
    """Return whether a sequence holds numbers, and so is one row, rather than blocks."""
    return isinstance(source, list | tuple) and bool(source) and isinstance(source[0], numbers.Number)


def _open_path(path: str) -> Source:
    """Open a file by the end of its name, where a ``:NAME`` may follow."""
    name = ""
    if Path(path).suffix not in _OPENERS and ":" in path:
        path, _, name = path.rpartition(":")
    suffix = Path(path).suffix
    if suffix not in _OPENERS:
        if not name and os.path.isfile(path) and is_llama_logits(path):
            return LlamaLogits(path)
        raise ValueError(f"{path!r} must end in one of {', '.join(_OPENERS)}, with :NAME where that needs one")
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {path!r}")
    return _OPENERS[suffix](path, name)


def _open_zarr(path: str, name: str) -> Source:
    library = import_library("zarr", "zarr")
    with refuse_damage(path):
        node = library.open(path, mode="r")
        if not name:
            found = node
        elif hasattr(node, "shape") or name not in node:
            found = None
        else:
            found = node[name]
    if found is None:
        raise ValueError(f"{path!r} has no array {name!r}")
    if not hasattr(found, "shape"):
        raise ValueError(f"{path!r} is a group; name an array as {path}:NAME")
    with refuse_damage(path):
        return SliceSource(found, path=path)


def _open_hdf5(path: str, name: str) -> Source:
    library = import_library("h5py", "hdf5")
    with refuse_damage(path):
        file = library.File(path, "r")
    try:
        with refuse_damage(path):
            is_there = name in file
            found = file[name] if is_there else None
        if not hasattr(found, "shape"):
            raise ValueError(f"{path!r} has no dataset {name!r}")
        return SliceSource(found, file.close, path)
    except BaseException:
        file.close()
        raise


_OPENERS: dict[str, Callable[[str, str], Source]] = {
    ".npy": lambda path, name: NpySource(path),
    ".zarr": _open_zarr,
    ".h5": _open_hdf5,
    ".hdf5": _open_hdf5,
    ".safetensors": SafetensorsSource,
    ".parquet": ParquetSource,
}

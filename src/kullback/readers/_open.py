"""From what a user names, such as a path or an array, to the reader of its rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ._formats import (
    ArraySource,
    IterableSource,
    NpySource,
    ParquetSource,
    SafetensorsSource,
    SliceSource,
    import_library,
)
from ._llama_file import LlamaLogits, is_llama_logits
from ._source import Source


def open_source(source: Any) -> Source:
    """Return rows from an array, a path, an array-like object that slices, or an iterable of blocks.

    Paths are ``x.npy``; ``x.zarr`` or ``x.zarr:NAME``; ``x.h5:NAME`` (also ``.hdf5``);
    ``x.safetensors:NAME``; ``x.parquet:COLUMN``; and any file that begins as
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
    node = import_library("zarr", "zarr").open(path, mode="r")
    if name:
        if hasattr(node, "shape") or name not in node:
            raise ValueError(f"{path!r} has no array {name!r}")
        node = node[name]
    if not hasattr(node, "shape"):
        raise ValueError(f"{path!r} is a group; name an array as {path}:NAME")
    return SliceSource(node)


def _open_hdf5(path: str, name: str) -> Source:
    file = import_library("h5py", "hdf5").File(path, "r")
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

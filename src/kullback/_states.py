"""States as npz files of arrays and a JSON header: written as a whole, read without trust, and never a pickle."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._npy import read_header
from ._outputs import write_file

Arrays = dict[str, NDArray[Any]]

MAX_STATE_BYTES = 1 << 33
"""The largest state that is unpacked. A file that claims to hold more is refused before it is read."""

_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, MemoryError)


def save_state(path: str | os.PathLike[str], header: dict[str, Any], arrays: Arrays, *, compress: bool = True) -> None:
    """Write a header and arrays as an npz file, which appears under its name only when it is complete."""
    write = np.savez_compressed if compress else np.savez
    write_file(path, lambda file: write(file, header=np.array(json.dumps(header)), **arrays))  # type: ignore[arg-type]


def load_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the arrays that ``save_state`` wrote, and the header under "header"; anything else raises a ValueError."""
    content = Path(path).read_bytes()
    state: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > MAX_STATE_BYTES:
                raise ValueError(f"it claims to hold more than {MAX_STATE_BYTES} bytes")
            for member in members:
                if not member.filename.endswith(".npy"):
                    raise ValueError(f"it holds {member.filename!r}, which is not an array")
                with archive.open(member) as file:
                    state[member.filename.removesuffix(".npy")] = _read_array(file, member)
    except _DAMAGE as error:
        raise ValueError(f"it is damaged or no npz file ({error})") from None
    header = state.get("header")
    if header is None or header.shape != () or header.dtype.kind != "U":
        raise ValueError("it has no header")
    try:
        state["header"] = json.loads(str(header))
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("its header is not JSON") from None
    return state


def _read_array(file: Any, member: zipfile.ZipInfo) -> NDArray[Any]:
    """Read one npy member. Its declared shape must fit its size, so that no header makes us allocate more."""
    shape, fortran, dtype = read_header(file)
    size = 1
    for length in shape:
        size *= length
    if dtype.kind not in "iufU" or fortran or size * dtype.itemsize != member.file_size - file.tell():
        raise ValueError(f"{member.filename} is no plain array, or its header does not fit its size")
    data = file.read()
    if len(data) != size * dtype.itemsize:
        raise ValueError(f"{member.filename} is truncated")
    return np.frombuffer(data, dtype=dtype).reshape(shape).copy()


def take(arrays: Arrays, name: str, dtype: str, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Remove and return the array ``name``, which must have this dtype and shape.

    The dtype "U" stands for strings of any length, and ``None`` in ``shape`` for any length of that axis.
    """
    if name not in arrays:
        raise ValueError(f"the state has no array {name!r}")
    array = arrays.pop(name)
    fits = array.dtype.kind == "U" if dtype == "U" else array.dtype == np.dtype(dtype)
    lengths_fit = array.ndim == len(shape) and all(
        expected in (None, length) for expected, length in zip(shape, array.shape, strict=True)
    )
    if not fits or not lengths_fit:
        raise ValueError(
            f"state[{name!r}] must be {dtype} of shape {shape} (None: any), got {array.dtype} {array.shape}"
        )
    return np.ascontiguousarray(array).copy() if array.ndim else array.copy()


def refuse_unknown(arrays: Arrays) -> None:
    """Raise where there are arrays left that no ``take`` has removed."""
    if arrays:
        raise ValueError(f"the state has unknown arrays: {', '.join(sorted(map(str, arrays)))}")

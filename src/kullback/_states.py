"""States as npz files of arrays and a JSON header: written as a whole, read without trust, and never a pickle."""

from __future__ import annotations

import json
import os
import zipfile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ._npz import Archive
from ._outputs import write_file

Arrays = dict[str, NDArray[Any]]


def save_state(path: str | os.PathLike[str], header: dict[str, Any], arrays: Arrays, *, compress: bool = True) -> None:
    """Write a header and arrays as an npz file, which appears under its name only when it is complete."""
    contents = {"header": np.array(json.dumps(header)), **arrays}
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED

    def write(file: IO[bytes]) -> None:  # `numpy.savez` of NumPy 1 leaves the archive open where the disk is full
        with zipfile.ZipFile(file, "w", method) as archive:
            for name, array in contents.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)

    write_file(path, write)


def load_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the arrays that ``save_state`` wrote, and the header under "header"; anything else raises a ValueError.

    Memory is at most `MOST_PACKED` times the size of the file, and for what is not packed its size.
    """
    with open(path, "rb") as file:
        archive = Archive(file)
        state: dict[str, Any] = {name: archive.read(name) for name in archive.names}
    for name, array in state.items():
        if array.dtype.kind not in "iufU":
            raise ValueError(f"its array {name!r} must hold numbers or strings, got {array.dtype}")
    header = state.get("header")
    if header is None or header.shape != () or header.dtype.kind != "U":
        raise ValueError("it has no header")
    try:
        state["header"] = json.loads(str(header))
    except (ValueError, RecursionError):
        raise ValueError("its header is not JSON") from None
    return state


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

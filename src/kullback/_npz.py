"""Archives of arrays, npz, read without trust: one array at a time, with its checksum, and never a pickle."""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ._checks.sparse import check_sparse
from ._npy import MOST_PACKED, read_array

_END_BYTES = 22
"""Bytes of the record that ends an archive without a comment."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The two ways in which NumPy writes arrays. Others may unpack to millions of times their size."""


class Archive:
    """The arrays of an npz file, as NumPy writes it.

    Reading one takes at most `MOST_PACKED` times the bytes that the file has for it. Whatever is damaged, packed or
    encrypted in another way, or lies before, after or twice in the archive, raises a ValueError.

    Parameters
    ----------
    file : binary file
        A file that can be sought, and that stays open while arrays are read.
    """

    def __init__(self, file: BinaryIO | Any) -> None:
        n_bytes = file.seek(0, os.SEEK_END)
        try:
            self._archive = zipfile.ZipFile(file)
            members = self._archive.infolist()
            file.seek(-_END_BYTES, os.SEEK_END)
            is_whole = file.read(4) == b"PK\5\6" and min((m.header_offset for m in members), default=0) == 0
        except MemoryError:
            raise
        except Exception as error:  # zipfile raises whatever struct, codecs and others raise in it
            raise ValueError(f"it is damaged or no npz file ({error})") from None
        if not is_whole:
            raise ValueError("it is damaged: there are bytes before or after its archive")
        names = Counter(member.filename for member in members)
        for member in members:
            _check_member(member, names)
        if sum(member.compress_size for member in members) > n_bytes:
            raise ValueError("it is damaged: its members overlap")
        self._members = {member.filename.removesuffix(".npy"): member for member in members}

    @property
    def names(self) -> list[str]:
        """The names of the arrays, in the order of the file."""
        return list(self._members)

    def read(self, name: str) -> NDArray[Any]:
        """Return one array, which is not of objects."""
        member = self._members[name]
        try:
            with self._archive.open(member) as file:
                array = read_array(file, member.file_size)
                file.read(1)  # at its end the checksum is compared
        except MemoryError:
            raise
        except Exception as error:  # zlib and others raise their own
            raise ValueError(f"its member {member.filename!r} is damaged or no array: {error}") from None
        return array


def _check_member(member: zipfile.ZipInfo, names: Counter[str]) -> None:
    """Raise where a member is no array that NumPy wrote, before anything is unpacked."""
    if not member.filename.endswith(".npy"):
        raise ValueError(f"it holds {member.filename!r}, which is not an array")
    if names[member.filename] > 1:
        raise ValueError(f"it holds {member.filename!r} twice")
    if member.flag_bits & 1:
        raise ValueError(f"its member {member.filename!r} is encrypted")
    if member.compress_type not in _METHODS:
        raise ValueError(f"its member {member.filename!r} is packed in an unknown way, {member.compress_type}")
    most = member.compress_size * (MOST_PACKED if member.compress_type == zipfile.ZIP_DEFLATED else 1)
    if member.file_size > most:
        raise ValueError(f"its member {member.filename!r} claims to unpack to {member.file_size} bytes, at most {most}")


# ---- Sparse matrices -----------------------------------------------------------------------------


_INDICES = {"indices", "indptr", "row", "col", "coords", "offsets"}
"""The arrays of sparse matrices that are places in it."""


def is_sparse_archive(archive: Archive) -> bool:
    """Return whether the arrays are those of a sparse matrix that SciPy saved."""
    return {"format", "shape", "data"} <= set(archive.names)


def read_sparse(archive: Archive, n_bytes: int) -> sparse.csr_array:
    """Return a sparse matrix of a file of so many bytes, all of whose indices lie within it."""
    arrays = {name: archive.read(name) for name in archive.names}
    kind, shape, values = arrays["format"].tolist(), tuple(arrays["shape"].tolist()), arrays["data"]
    kind = kind.decode("ascii", "replace") if isinstance(kind, bytes) else str(kind)
    if len(shape) != 2 or not all(isinstance(length, int) and length >= 0 for length in shape):
        raise ValueError(f"its shape must be two whole numbers, got {shape}")
    for name in _INDICES & set(arrays):
        if arrays[name].dtype.kind not in "iu":
            raise ValueError(f"its {name} must be whole numbers, got {arrays[name].dtype}")
    if 8 * max(shape[0], shape[1] if kind == "csc" else 0) > MOST_PACKED * n_bytes:
        raise ValueError(f"its shape {shape} is too large for its {n_bytes} bytes")
    try:
        return _build(kind, values, arrays, shape)
    except KeyError as error:
        raise ValueError(f"it is a sparse matrix of format {kind} without {error}") from None
    except (TypeError, IndexError, OverflowError) as error:
        raise ValueError(f"its arrays make no sparse matrix of format {kind}: {error}") from None


def _build(kind: str, values: NDArray[Any], arrays: dict[str, NDArray[Any]], shape: tuple[int, ...]) -> Any:
    """Return a matrix in CSR from the arrays of another format, once its indices are known to lie in it."""
    if kind in ("csr", "csc", "bsr"):
        made: Any = getattr(sparse, f"{kind}_array")((values, arrays["indices"], arrays["indptr"]), shape=shape)
    elif kind == "coo":
        pair = tuple(arrays["coords"]) if "coords" in arrays else (arrays["row"], arrays["col"])
        made = sparse.coo_array((values, pair), shape=shape)
    elif kind == "dia":
        offsets = arrays["offsets"]
        if offsets.size and np.abs(offsets.astype(float)).max() > max(shape):
            raise ValueError(f"its diagonals must lie within its shape {shape}")
        made = sparse.dia_array((values, offsets), shape=shape)
    else:
        raise ValueError(f"it is a sparse matrix of an unknown format, {kind!r}")
    return check_sparse(made, "it")

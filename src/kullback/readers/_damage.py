"""Errors of the libraries of formats, turned into ones that name the file, and limits of what a file may ask for."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from .._npy import MOST_PACKED
from .._outputs import name_path

FREE_BYTES = 1 << 26
"""How many bytes any chunk may unpack to, however well it is packed."""


@contextmanager
def refuse_damage(path: str) -> Iterator[None]:
    """Turn whatever a library raises for a damaged file into a ValueError that names it.

    What the system said stays an OSError, which names the file, and so does a library's own error of memory, for which
    damage may have asked.
    """
    try:
        yield
    except ImportError:
        raise
    except MemoryError as error:
        if type(error) is MemoryError:
            raise
        raise MemoryError(f"{path!r} is damaged, or does not fit into memory: {error}") from None
    except Exception as error:  # libraries raise KeyError, RuntimeError, zlib.error and their own for damage
        if isinstance(error, OSError) and error.errno:
            raise name_path(error, path) from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path!r} is damaged or cannot be read: {reason}") from None


def check_chunks(path: str, chunks: Sequence[int], dtype: np.dtype[np.generic]) -> None:
    """Raise where one chunk would unpack to more than the file, or all files in a folder, has a right to."""
    n_bytes = math.prod(int(length) for length in chunks) * dtype.itemsize
    if n_bytes <= FREE_BYTES:
        return
    most = FREE_BYTES + MOST_PACKED * _size(path)
    if n_bytes > most:
        raise ValueError(f"{path!r} claims chunks of {n_bytes} bytes, at most {most} are read at its size")


def _size(path: str) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)

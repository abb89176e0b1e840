"""The one mechanism that all accumulators share: merging, copying, states, files."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from .._npy import read_header

Arrays = dict[str, NDArray[Any]]

MAX_STATE_BYTES = 1 << 33
"""The largest state that ``load`` unpacks; a file that claims more is refused before it is read."""

_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, MemoryError)
_HEADER_KEYS = {"format", "version", "configuration"}


class Accumulator(ABC):
    """What can be updated from chunks, merged in any order, and kept as plain arrays.

    A subclass keeps its options in ``_configuration()``, from which its constructor makes an empty
    twin, and its contents in arrays of canonical form: equal contents have equal bits.
    """

    _format: ClassVar[str]
    _version: ClassVar[int] = 1

    @abstractmethod
    def _configuration(self) -> dict[str, Any]:
        """Return the JSON-able keyword arguments that make an empty twin."""

    @abstractmethod
    def _export(self) -> Arrays:
        """Return the contents as arrays that are not shared, in canonical form."""

    @abstractmethod
    def _import(self, arrays: Arrays) -> None:
        """Check arrays as ``_export`` returns them and adopt them; called on an empty twin only."""

    @abstractmethod
    def _fold(self, other: Self) -> None:
        """Add the contents of ``other``, which has the same configuration; all or nothing."""

    def _clear(self) -> None:
        self.__dict__ = type(self)(**self._configuration()).__dict__

    def reset(self) -> Self:
        """Forget all data, keep the configuration, and return ``self``."""
        self._clear()
        return self

    def copy(self) -> Self:
        """Return an independent copy."""
        return self.from_state(self.to_state())

    def merge(self, other: Self) -> Self:
        """Add the data that ``other`` has seen, and return ``self``.

        The result has the same bits as one accumulator that saw everything, in any order.

        Parameters
        ----------
        other
            An accumulator of the same class and configuration; it is left as it is.
        """
        if type(other) is not type(self):
            raise TypeError(
                f"other must be a {type(self).__name__}, as it is merged into one, got {type(other).__name__}"
            )
        mine, theirs = self._configuration(), other._configuration()
        if mine != theirs:
            names = ", ".join(name for name in mine if mine[name] != theirs[name])
            raise ValueError(f"other must have the same configuration, it differs in {names}")
        self._fold(other)
        return self

    def __add__(self, other: Self) -> Self:
        if type(other) is not type(self):
            return NotImplemented
        return self.copy().merge(other)

    def __iadd__(self, other: Self) -> Self:
        if type(other) is not type(self):
            return NotImplemented
        return self.merge(other)

    def __radd__(self, other: object) -> Self:
        if isinstance(other, int) and other == 0:  # so that sum() works
            return self.copy()
        return NotImplemented

    def __eq__(self, other: object) -> bool:
        """Return whether both have the same configuration and the same bits of data."""
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = self.to_state(), other.to_state()
        return mine.keys() == theirs.keys() and all(
            mine[key] == theirs[key]
            if key == "header"
            else mine[key].dtype == theirs[key].dtype
            and mine[key].shape == theirs[key].shape
            and mine[key].tobytes() == theirs[key].tobytes()
            for key in mine
        )

    __hash__ = None  # type: ignore[assignment]

    def to_state(self) -> dict[str, Any]:
        """Return everything as plain arrays and a JSON-able ``"header"``.

        The header holds ``format``, ``version`` and ``configuration``; the arrays are copies in
        canonical form: equal data give equal bits.
        """
        header = {
            "format": self._format,
            "version": self._version,
            "configuration": json.loads(json.dumps(self._configuration())),
        }
        return {"header": header, **self._export()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make an accumulator from what ``to_state`` returned; refuse anything else with a ValueError."""
        if not isinstance(state, dict) or not isinstance(state.get("header"), dict):
            raise ValueError("state must be a dict with a dict under 'header', as to_state returns it")
        header = state["header"]
        if set(header) != _HEADER_KEYS:
            raise ValueError(
                f"the state's header must have the keys {sorted(_HEADER_KEYS)}, got {sorted(map(str, header))}"
            )
        if header["format"] != cls._format:
            raise ValueError(f"the state's format must be {cls._format!r}, got {header['format']!r}")
        if header["version"] != cls._version:
            raise ValueError(f"the state's version must be {cls._version}, got {header['version']!r}")
        arrays = {name: array for name, array in state.items() if name != "header"}
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray) or array.dtype.kind not in "iufU":
                raise ValueError(f"state[{name!r}] must be an array of numbers or strings")
        try:
            accumulator = cls(**header["configuration"])
        except (TypeError, ValueError, OverflowError, MemoryError, RecursionError) as error:
            raise ValueError(f"the state's configuration does not fit {cls.__name__}: {error}") from None
        accumulator._import(arrays)
        return accumulator

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to ``path`` as a compressed npz without pickle.

        The file appears under its name only when it is complete.
        """
        state = self.to_state()
        save_state(path, state.pop("header"), state)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what ``save`` wrote; refuse a damaged, truncated or foreign file with a ValueError."""
        try:
            return cls.from_state(load_state(path))
        except ValueError as error:
            raise ValueError(f"cannot load {os.fspath(path)!r}: {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        return self.to_state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = self.from_state(state).__dict__


def save_state(path: str | os.PathLike[str], header: dict[str, Any], arrays: Arrays) -> None:
    """Write a header and arrays as a compressed npz, which appears under its name only when complete."""
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            np.savez_compressed(file, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what ``save_state`` wrote, the header under "header"; raise a ValueError for anything else."""
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
    """Read one npy member whose declared shape fits its size, so that no header makes us allocate more."""
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
    """Remove and return the array ``name``, which must have this dtype (by kind for "U") and shape.

    ``None`` in ``shape`` allows any length there.
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


def refuse_rest(arrays: Arrays) -> None:
    """Refuse arrays that no ``take`` removed."""
    if arrays:
        raise ValueError(f"the state has unknown arrays: {', '.join(sorted(map(str, arrays)))}")

"""What all accumulators share: merging, copying, states and files."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np

from .._states import Arrays, load_state, save_state
from ._locks import take_lock

_HEADER_KEYS = {"format", "version", "configuration"}


class Accumulator(ABC):
    """The base of what can be updated from chunks, merged in any order, and kept as plain arrays.

    Threads may share an accumulator. Whatever changes or reads its contents holds its lock, and no code of users runs
    meanwhile. The contents change in one step, which is either one assignment to ``_contents`` or one call of a kernel
    that is finished whatever happens. So an error or Ctrl-C at any place leaves them whole.

    A subclass returns its options from ``_configuration()``, and its constructor makes an empty twin
    from them. Its contents can be exported as arrays in canonical form, in which equal contents have equal bits.
    """

    __slots__ = ("_lock",)  # which is not part of __dict__, and so it is neither copied nor pickled

    _format: ClassVar[str]
    _version: ClassVar[int] = 1
    _contents: Any
    _lock: Any

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Give every accumulator its lock, also those that are made without the constructor."""
        accumulator = super().__new__(cls)
        accumulator._lock = take_lock()
        return accumulator

    @abstractmethod
    def _configuration(self) -> dict[str, Any]:
        """Return the keyword arguments that make an empty twin, in types that JSON knows."""

    @abstractmethod
    def _empty(self) -> Any:
        """Return the contents of an empty twin."""

    @abstractmethod
    def _export(self, contents: Any) -> Arrays:
        """Return contents that ``_snapshot`` returned in canonical form, as arrays that nobody else holds."""

    @abstractmethod
    def _import(self, arrays: Arrays) -> Any:
        """Check arrays as ``_export`` returns them, and return the contents that they make."""

    @abstractmethod
    def _fold(self, contents: Any) -> Any:
        """Return contents with those of a snapshot added; called with the lock. The snapshot may be used up."""

    def _snapshot(self) -> Any:
        """Return contents that nobody else changes."""
        with self._lock:
            return self._contents.copy()

    def reset(self) -> Self:
        """Forget all data but keep the configuration, and return ``self``."""
        with self._lock:
            self._contents = self._empty()
        return self

    def copy(self) -> Self:
        """Return an independent copy."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update({**self.__dict__, "_contents": self._snapshot()})
        return twin

    def merge(self, other: Self) -> Self:
        """Add the data that ``other`` has seen, and return ``self``.

        The result has the same bits as one accumulator that saw all data, in any order.

        Parameters
        ----------
        other
            An accumulator of the same class and configuration, which is left as it is.
        """
        if type(other) is not type(self):
            raise TypeError(
                f"other must be a {type(self).__name__}, as it is merged into one, got {type(other).__name__}"
            )
        mine, theirs = self._configuration(), other._configuration()
        if mine != theirs:
            names = ", ".join(name for name in mine if mine[name] != theirs[name])
            raise ValueError(f"other must have the same configuration, it differs in {names}")
        contents = other._snapshot()  # before our lock is taken, so that nobody waits for two locks
        with self._lock:
            self._contents = self._fold(contents)
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
        """Return everything as plain arrays and a ``"header"`` that JSON can hold.

        The header holds ``format``, ``version`` and ``configuration``. The arrays are copies in
        canonical form, in which equal data have equal bits.
        """
        header = {
            "format": self._format,
            "version": self._version,
            "configuration": json.loads(json.dumps(self._configuration())),
        }
        return {"header": header, **self._export(self._snapshot())}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make an accumulator from what ``to_state`` returned; anything else raises a ValueError."""
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
        configuration = header["configuration"]
        try:
            cls._check_size(configuration, arrays)
            accumulator = cls(**configuration)
            expected = json.loads(json.dumps(accumulator._configuration()))
            different = [name for name in {**expected, **configuration} if expected.get(name) != configuration[name]]
        except Exception as error:  # a hostile configuration may cause any
            raise ValueError(f"the state's configuration does not fit {cls.__name__}: {error!r}") from None
        if different:
            raise ValueError(f"the state's configuration is none that to_state writes, see {', '.join(different)}")
        accumulator._contents = accumulator._import(arrays)
        return accumulator

    @classmethod  # noqa: B027  # most have nothing to check
    def _check_size(cls, configuration: dict[str, Any], arrays: Arrays) -> None:
        """Raise where a configuration would make more memory be allocated than the state itself takes."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to ``path`` as a compressed npz without pickle.

        The file appears under its name only when it is complete.
        """
        state = self.to_state()
        save_state(path, state.pop("header"), state)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what ``save`` wrote; a damaged, truncated or foreign file raises a ValueError."""
        try:
            return cls.from_state(load_state(path))
        except ValueError as error:
            raise ValueError(f"cannot load {os.fspath(path)!r}: {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        return self.to_state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(self.from_state(state).__dict__)

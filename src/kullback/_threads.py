"""The number of threads, which this module alone makes of the option ``n_threads``, and the locks of threads."""

from __future__ import annotations

import operator
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any, ClassVar, Concatenate, ParamSpec, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from ._kernels import cpu


class ProcessLock:
    """A reentrant lock of the threads of one process: in a forked child it is free, whoever held it in the parent."""

    _all: ClassVar[WeakSet[ProcessLock]] = WeakSet()

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._all.add(self)

    @classmethod
    def free_all(cls) -> None:
        """Free all locks that threads of the parent hold, but for those of the thread that forked."""
        for lock in cls._all:
            if lock._lock.acquire(blocking=False):
                lock._lock.release()
            else:
                lock._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ProcessLock.free_all)

_blas_lock = ProcessLock()

Result = TypeVar("Result")
Options = ParamSpec("Options")
Locked = TypeVar("Locked", bound="HasLock")


class HasLock(Protocol):
    """An object with a lock of its own."""

    _lock: ProcessLock
    _is_running: bool


@contextmanager
def running_alone(thing: HasLock, name: str) -> Iterator[None]:
    """Refuse a method of this name that runs on an object already: in another thread, or around a callback."""
    is_mine = False
    try:
        with thing._lock:
            if thing._is_running:
                raise RuntimeError(f"{name} runs on this object already, in another thread or around this callback")
            is_mine = thing._is_running = True
        yield
    finally:
        if is_mine:
            thing._is_running = False


def in_turn(
    method: Callable[Concatenate[Locked, Options], Result],
) -> Callable[Concatenate[Locked, Options], Result]:
    """Let threads that call such methods of one object take turns: one of them runs at a time."""

    @wraps(method)
    def call(self: Locked, /, *arguments: Options.args, **options: Options.kwargs) -> Result:
        with self._lock:
            return method(self, *arguments, **options)

    return call


_locks: WeakKeyDictionary[object, ProcessLock] = WeakKeyDictionary()


def lock_of(thing: object) -> ProcessLock:
    """Return the lock of an object that has no place for one, because all that it has is copied and compared."""
    return _locks.setdefault(thing, ProcessLock())


SPARE_BYTES = 2**25
"""Memory that the threads of other libraries and of Python may need beside their stacks."""

LEAST_CAP, THREADS_PER_CPU = 16, 4
"""No more threads are started than so many for each CPU of the machine, but so many on the smallest."""


def available_threads() -> int:
    """Return how many threads kernels use by default.

    Returns
    -------
    int
        The value of ``OMP_NUM_THREADS`` where it is set, and otherwise the number of CPUs that this process may run on.
        It is at most `most_threads`. It is 1 in a build without OpenMP, and in a child that was forked where a libgomp
        older than version 9 is loaded, because with more threads the child would hang.
    """
    if not cpu.openmp() or cpu.is_serial():
        return 1
    requested = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if requested.isdecimal() and int(requested) >= 1:
        return min(int(requested), most_threads())
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def most_threads() -> int:
    """Return how many threads are started at most: 4 for each CPU of the machine, or 16 if that is more.

    More threads take longer, and each takes the address space of its stack.
    """
    return max(LEAST_CAP, THREADS_PER_CPU * (os.cpu_count() or 1))


def resolve_threads(n_threads: int | None, *, name: str = "n_threads") -> int:
    """Return the number of threads that an option asks for.

    Parameters
    ----------
    n_threads : int or None
        ``None`` asks for all available threads. A negative number counts back from them, as in joblib: -1 asks for all,
        and -2 for all but one.
    name : str, default "n_threads"
        The name of the option in messages.

    Returns
    -------
    int
        A number that is at least 1 and at most `most_threads`, and exactly 1 where no threads can be had: see
        `available_threads`. Larger numbers count as the largest, since the number of threads changes no result.

    Raises
    ------
    TypeError
        Where ``n_threads`` is neither an int nor ``None``.
    ValueError
        Where it is 0.
    """
    if n_threads is None:
        return available_threads()
    try:
        count = operator.index(n_threads)
    except TypeError:
        raise TypeError(f"{name} must be an int or None, got {n_threads!r}") from None
    if count == 0:
        raise ValueError(f"{name} must be None, positive, or negative to count back from all, got 0")
    if count < 0:
        return max(1, available_threads() + 1 + count)
    return min(count, most_threads()) if cpu.openmp() and not cpu.is_serial() else 1


def startable_threads(n_threads: int, spare_bytes: int = 0) -> int:
    """Return how many of ``n_threads`` threads can be started now, beside an allocation of so many bytes.

    libgomp ends the process where the system refuses a thread, as it does under limits of memory and of processes. The
    kernels of t-SNE ask for themselves. It is at least 1, as one thread needs no other.
    """
    return cpu.startable_threads(n_threads, spare_bytes) if n_threads > 1 else 1


def useful_threads(n_threads: int, n_items: int, items_per_thread: int) -> int:
    """Return how many of ``n_threads`` threads have enough work to be worth waiting for.

    Threads wait for each other at a barrier. On a machine whose cores are busy with other work, a thread that comes
    late costs the others a time slice.
    """
    return max(1, min(n_threads, n_items // items_per_thread))


def check_memory(n_bytes: int) -> None:
    """Raise a MemoryError unless so many bytes can be allocated: for libraries that end the process without memory."""
    if not cpu.has_memory(n_bytes):
        raise MemoryError(f"{n_bytes >> 20} MB of memory cannot be had")


@contextmanager
def serial_blas() -> Iterator[None]:
    """Keep BLAS on one thread within a ``with`` block.

    The other threads of OpenBLAS would go on spinning for milliseconds after a product, on cores that kernels need. The
    number of threads is a setting of the whole process, which is restored at the end of the block.
    """
    with _blas_lock, _controller("faiss" in sys.modules).limit(limits=1, user_api="blas"):
        yield


@cache
def _controller(with_faiss: bool) -> Any:
    """Return the controller of BLAS, which takes 13 ms to make because it looks through all loaded libraries.

    Wheels of faiss bring a BLAS of their own, so it is made again once faiss is loaded.
    """
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()

"""How many threads: the one place that turns ``n_threads`` into a number."""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from ._kernels import cpu

_blas_lock = threading.Lock()


def available_threads() -> int:
    """Return how many threads kernels use by default.

    ``OMP_NUM_THREADS`` where it is set, else the CPUs that this process may run on; 1 in a build
    without OpenMP.
    """
    if not cpu.openmp():
        return 1
    requested = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if requested.isdecimal() and int(requested) >= 1:
        return int(requested)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_threads(n_threads: int | None, *, name: str = "n_threads") -> int:
    """Return a thread count of at least 1.

    ``None`` means all available threads; a negative number counts back from them as in joblib
    (-1 all, -2 all but one).
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
    return count if cpu.openmp() else 1


def useful_threads(n_threads: int, n_items: int, items_per_thread: int) -> int:
    """Return how many of ``n_threads`` have enough to do to be worth their barrier.

    On a machine whose cores are busy with other work, a thread that comes late to a barrier costs a time slice.
    """
    return max(1, min(n_threads, n_items // items_per_thread))


@contextmanager
def serial_blas() -> Iterator[None]:
    """Keep BLAS on one thread: OpenBLAS's other threads would spin for milliseconds after, on our kernels' cores.

    It is a setting of the process, restored on leaving.
    """
    with _blas_lock, _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()  # 13 ms: it looks through all loaded libraries

"""The locks of accumulators, which threads and forked processes can share."""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from operator import methodcaller

_LOCKS = tuple(threading.RLock() for _ in range(64))
"""Accumulators take these in turn. More of them than threads that work at once hardly ever wait for each other.

A thread holds one lock at a time, unless it forks, so threads cannot wait for each other in a circle. The locks are
reentrant, so that a signal handler can read the accumulator whose update it interrupts.
"""

_turns = itertools.count()


def take_lock() -> threading.RLock:
    """Return the lock of a new accumulator."""
    return _LOCKS[next(_turns) % len(_LOCKS)]


def _acquire_all() -> None:
    """Wait until no other thread changes an accumulator, so that a forked child finds all of them whole and free."""
    for lock in _LOCKS:
        lock.acquire()


def _release_all() -> None:
    """Release what `_acquire_all` has acquired, in one call of C: Ctrl-C in a loop would leave the others held."""
    deque(map(methodcaller("release"), _LOCKS), maxlen=0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_acquire_all, after_in_parent=_release_all, after_in_child=_release_all)

"""Ctrl-C as an event, for work that can stop between two steps and keep what it has done; SIGTERM as an exception."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INTERRUPTED, TERMINATED = 128 + 2, 128 + 15
"""The exit status of a command that Ctrl-C or SIGTERM ended."""


@contextmanager
def leave_on_termination() -> Iterator[None]:
    """Let SIGTERM raise SystemExit, so that files that were begun are removed. Handlers of others stay as they are."""
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise SystemExit(TERMINATED)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def note_interrupts() -> Iterator[threading.Event]:
    """Let the first Ctrl-C set an event; a second one acts as usual.

    Nothing changes outside the main thread, and where Ctrl-C is ignored or handled outside of Python.
    """
    event = threading.Event()
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield event
        return

    def note(number: int, frame: Any) -> None:
        event.set()
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, usual)

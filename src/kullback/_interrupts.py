"""Ctrl-C as an event, for work that can stop between two steps and keep what it has done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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

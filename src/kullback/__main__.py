"""The command ``kullback``, which ``python -m kullback`` runs, too."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from ._interrupts import INTERRUPTED, TERMINATED


def command() -> NoReturn:
    """Run the command line and end the process, at once where a signal ends it.

    To unload all libraries takes Python half a second of CPU time, and seconds on a busy machine.
    """
    try:
        from .cli import main

        status: object = main()
    except SystemExit as left:
        status = left.code
    except KeyboardInterrupt:  # while libraries are loaded
        print("kullback: interrupted, nothing was written", file=sys.stderr)
        status = INTERRUPTED
    if status in (INTERRUPTED, TERMINATED):
        sys.stderr.flush()
        os._exit(int(str(status)))
    sys.exit(status)  # type: ignore[arg-type]


if __name__ == "__main__":
    command()

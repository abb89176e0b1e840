"""A description of this installation, for bug reports."""

from __future__ import annotations

import platform

from . import _kernels
from ._threads import available_threads


def show_config() -> None:
    """Print the version, the machine, the SIMD levels that are present and chosen, OpenMP, threads and compiler.

    Quote what it prints in bug reports and beside measurements.
    """
    from kullback import __version__

    openmp = _kernels.cpu.openmp()
    rows = {
        "kullback": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "SIMD levels": ", ".join(_kernels.USABLE_LEVELS),
        "SIMD chosen": _kernels.LEVEL,
        "OpenMP": str(openmp) if openmp else "none (single-threaded build)",
        "threads": str(available_threads()),
        "compiler": _kernels.cpu.compiler(),
    }
    for name, value in rows.items():
        print(f"{name:<12} {value}")

"""The compiled kernels and the one loader that picks their SIMD level.

``from kullback._kernels import descent`` gives the module compiled for the highest level that
this CPU runs and this build holds, or for the level named by the environment variable
``KULLBACK_SIMD`` (``baseline``, ``v3`` or ``v4``). The choice is made once, at import.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from . import cpu

LEVELS = ("baseline", "v3", "v4")
"""Every level, from lowest to highest: x86-64-v2 (or any other architecture), AVX2, AVX-512."""


def _usable_levels() -> tuple[str, ...]:
    runnable = LEVELS[: cpu.simd_level() + 1]
    return tuple(level for level in runnable if find_spec(f"{__name__}.{level}.descent") is not None)


def _choose_level() -> str:
    if not USABLE_LEVELS:
        raise ImportError("kullback was installed without its compiled kernels; reinstall it")
    forced = os.environ.get("KULLBACK_SIMD", "")
    if forced and forced not in USABLE_LEVELS:
        raise ImportError(f"KULLBACK_SIMD must be one of {', '.join(USABLE_LEVELS)} here, got {forced!r}")
    return forced or USABLE_LEVELS[-1]


USABLE_LEVELS = _usable_levels()
LEVEL = _choose_level()


def load(stem: str, level: str | None = None) -> ModuleType:
    """Return the kernel module ``stem`` compiled for ``level`` (default: the chosen level)."""
    return import_module(f"{__name__}.{level or LEVEL}.{stem}")


def __getattr__(stem: str) -> ModuleType:
    try:
        module = load(stem)
    except ModuleNotFoundError:
        raise AttributeError(f"module {__name__!r} has no kernel {stem!r}") from None
    globals()[stem] = module
    return module

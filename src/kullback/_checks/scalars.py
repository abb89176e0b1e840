"""Checks of single values and of short sequences of them: choices, flags, numbers and names."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def check_choice(value: object, name: str, choices: Sequence[object]) -> None:
    """Raise unless ``value`` is one of ``choices``."""
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_flag(value: object, name: str) -> bool:
    """Return True or False as a bool."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_callback(value: object, name: str) -> None:
    """Raise unless ``value`` is a function or None."""
    if not (value is None or callable(value)):
        raise TypeError(f"{name} must be a function or None, got {value!r}")


# ---- Numbers -------------------------------------------------------------------------------------


def check_integer(value: object, name: str, *, low: int) -> int:
    """Return ``value`` as an int of at least ``low``."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value!r}")
    return int(value)


def check_real(
    value: object, name: str, *, low: float = -np.inf, high: float = np.inf, open_low: bool = False
) -> float:
    """Return ``value`` as a float in [low, high], or in (low, high] with ``open_low``."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    number = float(value)
    if not (low < number if open_low else low <= number) or not number <= high:
        bracket = "(" if open_low else "["
        raise ValueError(f"{name} must be in {bracket}{low:g}, {high:g}], got {value!r}")
    return number


def check_finite(value: object, name: str) -> float:
    """Return ``value`` as a finite float."""
    number = check_real(value, name)
    if not np.isfinite(number):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return number


def check_recall(value: object) -> float:
    """Return the recall that a search is to reach."""
    return check_real(value, "recall", low=0, high=1, open_low=True)


def check_probability(value: object, name: str) -> float:
    """Return ``value`` as a float in [0, 1]."""
    return check_real(value, name, low=0, high=1)


def check_probabilities(values: Sequence[float], name: str) -> tuple[float, ...]:
    """Return distinct floats in [0, 1]."""
    try:
        found = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a sequence of numbers in [0, 1], got {values!r}") from None
    if not all(0 <= value <= 1 for value in found) or len(set(found)) < len(found):
        raise ValueError(f"{name} must be distinct numbers in [0, 1], got {found!r}")
    return found


# ---- Names ---------------------------------------------------------------------------------------


def check_names(names: Any, name: str) -> tuple[str, ...]:
    """Return one or more distinct strings."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"{name} must be a sequence of names such as ('kl',), got {names!r}")
    found = tuple(names)
    if not found or not all(isinstance(item, str) for item in found) or len(set(found)) < len(found):
        raise ValueError(f"{name} must be one or more distinct names, got {found!r}")
    return found


def check_choices(names: Any, name: str, choices: Sequence[str]) -> tuple[str, ...]:
    """Return one or more distinct strings, each of them one of ``choices``."""
    found = check_names(names, name)
    for item in found:
        if item not in choices:
            raise ValueError(f"{name} must be among {', '.join(choices)}, got {item!r}")
    return found


# ---- Options that many functions share -----------------------------------------------------------


def check_base(value: object) -> float:
    """Return the base of a logarithm: above 1, because logarithms to a smaller base change all signs, and finite."""
    base = check_real(value, "base")
    if not 1 < base < np.inf:
        raise ValueError(f"base must be above 1 and finite, got {value!r}")
    return base


def check_order(alpha: object) -> float:
    """Return the order of a Renyi or Tsallis measure, which lies in [0, inf]."""
    return check_real(alpha, "alpha", low=0)


def check_normalize(value: object) -> int:
    """Return the number that kernels use for ``normalize``: 0 for plain sums, 1 to divide, 2 to check and divide."""
    if value is True or value is False:
        return int(value)
    if isinstance(value, str) and value == "check":
        return 2
    raise ValueError(f"normalize must be 'check', True or False, got {value!r}")


def check_temperature(value: object, from_logits: bool) -> float:
    """Return a temperature, which is positive and finite, and 1 unless logits are given."""
    temperature = check_real(value, "temperature", low=0, open_low=True)
    if not np.isfinite(temperature):
        raise ValueError(f"temperature must be positive and finite, got {value!r}")
    if temperature != 1 and not from_logits:
        raise ValueError(f"temperature must be 1 unless from_logits=True, got {value!r}")
    return temperature


def check_smoothing(value: object, normalize: object) -> float:
    """Return the amount to add to every probability, which is finite and not negative."""
    smoothing = check_real(value, "smoothing", low=0)
    if not np.isfinite(smoothing):
        raise ValueError(f"smoothing must be finite and >= 0, got {value!r}")
    if smoothing > 0 and normalize is False:
        raise ValueError(f"smoothing must be 0 with normalize=False, got {value!r}")
    return smoothing


def check_tolerance(tolerance: object) -> float | None:
    """Return a relative error in (0, 1], or None."""
    return None if tolerance is None else check_real(tolerance, "tolerance", low=0, high=1, open_low=True)


def check_dof(dof: object) -> float:
    """Return the degrees of freedom of t-SNE's kernel. At 1e9 it is a Gaussian, to the last digit of float32."""
    return check_real(dof, "dof", low=1e-6, high=1e9)

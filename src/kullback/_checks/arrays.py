"""Checks that hold for an array of any meaning; the other modules build on them."""

from __future__ import annotations

from typing import Any

import numpy as np


def check_dtype(array: Any, name: str, kinds: str, accepted: str = "hold real numbers") -> None:
    """Raise unless the dtype of ``array`` is of one of the kinds, which are NumPy's letters such as "fiu"."""
    if array.dtype.kind not in kinds:
        raise TypeError(f"{name} must {accepted}, got dtype {array.dtype}")


def widen_bfloat16(array: Any, from_logits: bool) -> Any:
    """Return bfloat16 as float32, and any other array as it is.

    An array of uint16 holds the bits of bfloat16 where logits are asked for, and counts elsewhere.
    """
    if array.dtype.name == "bfloat16":
        array = array.view(np.uint16)
    elif not from_logits or array.dtype.kind != "u" or array.dtype.itemsize != 2:
        return array
    return (array.astype(np.uint32) << 16).view(np.float32)


def check_finite_values(values: Any, name: str) -> None:
    """Raise where a value is NaN or infinite.

    The sum takes one pass and no temporary array; only a sum that is not finite makes us look at each value.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.sum(values, dtype=np.float64)
    if not np.isfinite(total) and not np.isfinite(values).all():
        kind = "NaN" if np.isnan(values).any() else "infinity"
        raise ValueError(f"{name} must be finite, got {kind}")

"""Checks that hold for an array of any meaning; the other modules build on them."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import numpy.typing as npt

FILL_IN = "pass {name}.filled(...) with values in their place, or leave them out"
LEAVE_OUT = "to leave elements out of a distribution, pass {name}.filled(0), or {name}.filled(-numpy.inf) for logits"
"""What to do about masked elements: of any array, and of one that holds probabilities or counts."""


def as_array(value: Any, name: str, *, masks: str = FILL_IN) -> npt.NDArray[Any]:
    """Return an array, a frame, a tensor or a nested sequence as an ndarray, without a copy where there need be none.

    What would lose its meaning is refused: masks, sparse matrices, dicts, and tensors that NumPy cannot see. ``masks``
    says what to do about masked elements.
    """
    if type(value) is np.ndarray:
        return value
    refuse_masked(value, name, masks)
    kind = type(value).__name__
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        raise TypeError(f"{name} must be dense, got a sparse {kind}; pass {name}.toarray()")
    if isinstance(value, Mapping | Set):
        raise TypeError(f"{name} must be an array or a sequence, got a {kind}")
    if not hasattr(value, "__array__") and hasattr(value, "__dataframe__"):
        value = value.to_pandas() if hasattr(value, "to_pandas") else value.to_numpy()
    try:
        if not hasattr(value, "__array__") and hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (TypeError, RuntimeError, BufferError) as error:
        return _read_tensor(value, name, error)


def _read_tensor(value: Any, name: str, error: Exception) -> npt.NDArray[Any]:
    """Return a tensor of bfloat16, or a list of tensors, as an array; raise with the remedy where NumPy cannot see it.

    ``error`` is what NumPy or the tensor said.
    """
    if isinstance(value, list | tuple) and any(map(is_array_like, value)):
        return np.array([as_array(item, name) for item in value])
    if not hasattr(value, "__array__") and not hasattr(value, "__dlpack__"):
        raise error
    remedy = "cpu()"
    if getattr(value, "requires_grad", False):
        remedy = "detach()"
    elif str(getattr(value, "dtype", "")).endswith("bfloat16") and hasattr(value, "float"):
        wide = as_array(value.float(), name)  # float32, which holds the same numbers
        try:
            from ml_dtypes import bfloat16
        except ImportError:
            return wide
        return wide.astype(bfloat16)
    raise TypeError(
        f"{name} must be readable by NumPy, got a {type(value).__name__}: {error}; pass {name}.{remedy}"
    ) from None


def refuse_masked(value: Any, name: str, remedy: str = FILL_IN) -> None:
    """Raise where a masked array, or one in a sequence, has masked elements, which NumPy would read all the same."""
    parts = value if isinstance(value, list | tuple) else (value,)
    masks = [np.ma.getmaskarray(part) for part in parts if isinstance(part, np.ma.MaskedArray)]
    n_masked = sum(np.count_nonzero(mask) for mask in masks)
    if n_masked:
        raise ValueError(f"{name} must have no masked elements, got {n_masked}; {remedy.format(name=name)}")


def as_numbers(value: Any, name: str) -> npt.NDArray[Any]:
    """Return what `as_array` does, with numbers that are Python objects as integers if all are, or else as float64.

    None and NA are NaN, and numbers of extended precision are rounded to float64.
    """
    array = as_array(value, name, masks=LEAVE_OUT)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        with np.errstate(over="ignore", under="ignore"):
            return array.astype(np.float64)
    if array.dtype.kind != "O":
        return array
    if all(isinstance(item, numbers.Integral | np.bool_) for item in array.flat):
        whole = np.array([int(item) for item in array.flat]).reshape(array.shape)
        if whole.dtype.kind in "biu":  # and so neither empty nor beyond 64 bits
            return whole
    numeric = np.empty(array.shape)
    for place, item in np.ndenumerate(array):
        if item is None or type(item).__name__ == "NAType":
            numeric[place] = np.nan
        elif isinstance(item, numbers.Real | np.bool_):
            numeric[place] = float(item)
        else:
            hint = f"; pass {name}.astype(float) where they are numbers" if isinstance(item, str) else ""
            raise TypeError(f"{name} must hold real numbers, got a {type(item).__name__}: {item!r:.40}{hint}")
    return numeric


def is_array_like(value: object) -> bool:
    """Return whether a value is an array, a frame or a tensor, which may be iterable for other reasons."""
    protocols = ("__array__", "__array_interface__", "__dlpack__", "__dataframe__")
    return any(hasattr(value, protocol) for protocol in protocols)


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

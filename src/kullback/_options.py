"""The options that every function of rows takes: their types for checkers, their defaults for people.

Twenty public functions take the same twelve keywords. Each function collects them as ``**options`` and hands them on as
one dict, which is empty in the most frequent call. The classes below tell type checkers and editors which keywords and
types there are, and :func:`show_options` tells :func:`inspect.signature`, :func:`help` and Jupyter.

To write all keywords into each ``def`` would cost more than lines: CPython 3.11 takes 0.2 us to fill in twelve
keyword-only defaults and 0.3 us to tell that none was given, a tenth of a call on two short vectors.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Literal, Required, TypeAlias, TypedDict, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray: TypeAlias = NDArray[np.float64]
"""What functions return for many rows."""

OneRow: TypeAlias = Sequence[float]
"""A distribution that is known to be a single one without looking at its values, whose measure is a scalar."""

ManyRows: TypeAlias = Sequence[Sequence[float]]
"""Distributions that are known to be several without looking at their values, whose measures are an array.

A NumPy array may be either: type checkers know its number of axes too seldom, and what functions return for it is
``Any``, as NumPy's own reductions do.
"""

Normalize: TypeAlias = bool | Literal["check"]
"""What ``normalize`` may be."""


Axis: TypeAlias = int | tuple[int, ...] | None
"""What ``axis`` may be."""


class SharedOptions(TypedDict, total=False):
    """Keywords that do not change what is returned, a scalar or an array; :func:`kullback.kl_divergence` has them."""

    base: float | None
    normalize: Normalize
    weights: ArrayLike | None
    where: ArrayLike | None
    smoothing: float
    from_logits: bool
    temperature: float
    n_threads: int | None


class RowOptions(SharedOptions, total=False):
    """All keywords of a function of rows."""

    axis: Axis
    reduction: Literal["none", "mean", "sum"]
    keepdims: bool
    out: FloatArray | None


class ScalarOptions(SharedOptions, total=False):
    """Keywords with which the measure of one row is a scalar."""

    axis: Axis
    reduction: Literal["none", "mean", "sum"]
    keepdims: Literal[False]
    out: None


class ReducedOptions(SharedOptions, total=False):
    """Keywords with which the measure of any number of rows is a scalar."""

    axis: Axis
    reduction: Required[Literal["mean", "sum"]]
    keepdims: Literal[False]
    out: None


class ArrayOptions(SharedOptions, total=False):
    """Keywords with which the measures of many rows are an array."""

    axis: int
    reduction: Literal["none"]
    keepdims: bool
    out: FloatArray | None


class SeveralOptions(SharedOptions, total=False):
    """Keywords of functions that return several measures, which have no one array to write to."""

    axis: Axis
    reduction: Literal["none", "mean", "sum"]
    keepdims: bool


class SeveralScalarOptions(SharedOptions, total=False):
    """Keywords with which several measures of one row are scalars."""

    axis: Axis
    reduction: Literal["none", "mean", "sum"]
    keepdims: Literal[False]


class SeveralReducedOptions(SharedOptions, total=False):
    """Keywords with which several measures of any number of rows are scalars."""

    axis: Axis
    reduction: Required[Literal["mean", "sum"]]
    keepdims: Literal[False]


class SharedTableOptions(TypedDict, total=False):
    """Keywords that a function of whole tables shares with those of rows."""

    base: float | None
    weights: ArrayLike | None
    where: ArrayLike | None
    n_threads: int | None


class TableOptions(SharedTableOptions, total=False):
    """All keywords of a function of whole tables, which has no axis to choose and always normalises."""

    reduction: Literal["none", "mean", "sum"]
    out: FloatArray | None


class ReducedTableOptions(SharedTableOptions, total=False):
    """Keywords with which the measure of any number of tables is a scalar."""

    reduction: Required[Literal["mean", "sum"]]
    out: None


def check_options(options: RowOptions) -> RowOptions:
    """Return the options, or raise where one is not a keyword of functions of rows."""
    names = RowOptions.__optional_keys__
    if not names.issuperset(options):
        unknown = sorted(set(options) - names)[0]
        raise TypeError(f"got an unexpected keyword argument {unknown!r}; accepted: {', '.join(sorted(names))}")
    return options


def default_options(
    *,
    axis: Axis = -1,
    base: float | None = None,
    normalize: Normalize = "check",
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
    reduction: Literal["none", "mean", "sum"] = "none",
    smoothing: float = 0.0,
    from_logits: bool = False,
    temperature: float = 1.0,
    keepdims: bool = False,
    n_threads: int | None = None,
    out: FloatArray | None = None,
) -> None:
    """Do nothing: this function is the signature that :func:`show_options` copies from."""


PARAMETERS = inspect.signature(default_options).parameters
"""The options as signatures show them, by name."""

DEFAULTS = {name: parameter.default for name, parameter in PARAMETERS.items()}
"""The default of each option."""

Function = TypeVar("Function", bound=Callable[..., object])


def show_options(taken: type) -> Callable[[Function], Function]:
    """Return a decorator that shows the keywords of ``taken`` in a signature in place of ``**options``.

    Parameters
    ----------
    taken : TypedDict
        The class that the function unpacks its options from.

    Returns
    -------
    callable
        A decorator that gives a function its ``__signature__`` and returns the function itself, so that calls take no
        detour.
    """
    names: frozenset[str] = getattr(taken, "__required_keys__") | getattr(taken, "__optional_keys__")  # noqa: B009
    shown = [parameter for name, parameter in PARAMETERS.items() if name in names]

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
        function.__signature__ = signature.replace(parameters=[*own, *shown])  # type: ignore[attr-defined]
        return function

    return decorate

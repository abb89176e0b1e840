"""An embedding as a header and arrays: what `Embedding.save` writes, and how it is checked when it is read.

All arrays are in the order of the user's points. The array ``order`` says in which order the points were kept in
memory, because the last bits of sums depend on that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays import FloatArray
from .._checks.scalars import check_integer
from .._states import Arrays, refuse_unknown, take
from .rates import Rates

FORMAT, VERSION = "kullback.tsne.Embedding", 1

HEADER_KEYS = {"format", "version", "n_iter", "stop_reason", "options"}

LARGEST_NUMBER = 1e37
"""Largest magnitude of a number in a file: an order of magnitude below the largest float32."""

LossRecord = tuple[int, float, float, float]  # iteration, entropy, cross-entropy, KL divergence
LOSS_DTYPE = np.dtype([("iteration", np.int64), ("entropy", float), ("cross_entropy", float), ("kl_divergence", float)])


@dataclass
class SavedEmbedding:
    """Everything that a descent is resumed from.

    Attributes
    ----------
    options : dict
        The keyword arguments ``method``, ``theta``, ``tolerance`` and ``dof`` of the embedding.
    n_iter, stop_reason
        Attributes of the embedding.
    values, columns, row_starts : ndarray
        P in CSR: probabilities in the dtype of the positions, int32 and int64.
    order : ndarray of shape (n_points,), int32
        Points in the order in which they were kept in memory.
    positions, velocity, gains : ndarray of shape (n_points, n_components), float32 or float64
        State of the descent.
    centre : ndarray of shape (n_components,), float64
        Centre of the positions.
    rates : Rates
        Rates of the last iteration.
    grid : list of float
        The grid of the FFT, as `kullback.tsne.repulsion.get_grid` returns it.
    loss : list of tuple
        The trace of the loss.
    masses : ndarray of shape (n_points,), float64, or None
        The masses of the points. A file of points without masses does not hold them.
    """

    options: dict[str, Any]
    n_iter: int
    stop_reason: str
    values: FloatArray
    columns: npt.NDArray[np.int32]
    row_starts: npt.NDArray[np.int64]
    order: npt.NDArray[np.int32]
    positions: FloatArray
    velocity: FloatArray
    gains: FloatArray
    centre: npt.NDArray[np.float64]
    rates: Rates
    grid: list[float]
    loss: list[LossRecord]
    masses: npt.NDArray[np.float64] | None = None


def pack(saved: SavedEmbedding) -> dict[str, Any]:
    """Return the arrays by name, and under "header" what JSON can hold."""
    header = {
        "format": FORMAT, "version": VERSION, "n_iter": saved.n_iter, "stop_reason": saved.stop_reason,
        "options": saved.options,
    }  # fmt: skip
    iterations = np.array([record[0] for record in saved.loss], dtype=np.int64)
    loss = np.array([record[1:] for record in saved.loss], dtype=float).reshape(-1, 3)
    return {
        "header": header, "values": saved.values, "columns": saved.columns, "row_starts": saved.row_starts,
        "order": saved.order, "positions": saved.positions, "velocity": saved.velocity, "gains": saved.gains,
        "centre": saved.centre, "rates": np.array(saved.rates[:5]), "grid": np.array(saved.grid),
        "loss_iterations": iterations, "loss": loss, **({} if saved.masses is None else {"masses": saved.masses}),
    }  # fmt: skip


def unpack(state: dict[str, Any]) -> SavedEmbedding:
    """Return what `pack` packed. ``state`` is emptied.

    Raises
    ------
    ValueError, TypeError
        If anything is missing, unknown, of another dtype or shape, or out of its range. P, the options and the masses
        are left to the constructor of `Embedding`, which checks them anyhow.
    """
    header = _check_header(state.pop("header"))
    arrays: Arrays = state
    dtype = str(arrays["positions"].dtype) if "positions" in arrays else ""
    if dtype not in ("float32", "float64"):
        raise ValueError(f"its positions must be float32 or float64, got {dtype}")
    positions = take(arrays, "positions", dtype, (None, None))
    n_points, n_components = positions.shape
    row_starts = take(arrays, "row_starts", "int64", (n_points + 1,))
    columns = take(arrays, "columns", "int32", (None,))
    values = take(arrays, "values", dtype, (len(columns),))
    _check_rows(row_starts, columns, n_points)
    order = take(arrays, "order", "int32", (n_points,))
    if not np.array_equal(np.sort(order), np.arange(n_points)):
        raise ValueError("its order must be a permutation of the points")
    numbers = {
        "velocity": take(arrays, "velocity", dtype, (n_points, n_components)),
        "gains": take(arrays, "gains", dtype, (n_points, n_components)),
        "centre": take(arrays, "centre", "float64", (n_components,)),
    }
    rates = take(arrays, "rates", "float64", (5,))
    grid = take(arrays, "grid", "float64", (None,))
    iterations = take(arrays, "loss_iterations", "int64", (None,))
    loss = take(arrays, "loss", "float64", (len(iterations), 3))
    masses = take(arrays, "masses", "float64", (n_points,)) if "masses" in arrays else None
    refuse_unknown(arrays)
    for name, array in {**numbers, "rates": rates, "grid": grid, "loss": loss}.items():
        if not (np.abs(array) <= LARGEST_NUMBER).all():
            raise ValueError(f"its {name} must be finite and at most 1e37 in magnitude")
    n_iter = check_iterations(header["n_iter"], iterations)
    records = [(i, *row) for i, row in zip(iterations.tolist(), loss.tolist(), strict=True)]
    return SavedEmbedding(
        header["options"], n_iter, header["stop_reason"], values, columns, row_starts, order, positions,
        **numbers, rates=Rates(*rates.tolist()), grid=grid.tolist(), loss=records, masses=masses,
    )  # fmt: skip


def _check_header(header: Any) -> dict[str, Any]:
    """Return the header of this format and version."""
    if not isinstance(header, dict) or set(header) != HEADER_KEYS:
        raise ValueError(f"its header must have the keys {sorted(HEADER_KEYS)}")
    if (header["format"], header["version"]) != (FORMAT, VERSION):
        raise ValueError(f"it must be {FORMAT} version {VERSION}, got {header['format']} {header['version']}")
    if not isinstance(header["options"], dict) or not isinstance(header["stop_reason"], str):
        raise ValueError("its header must hold options and a reason")
    return header


def _check_rows(row_starts: npt.NDArray[np.int64], columns: npt.NDArray[np.int32], n_points: int) -> None:
    """Raise unless these are the rows and the columns of a CSR matrix of the points."""
    if row_starts[0] != 0 or row_starts[-1] != len(columns) or (np.diff(row_starts) < 0).any():
        raise ValueError("its rows of P must follow each other and end with its values")
    if len(columns) and (columns.min() < 0 or columns.max() >= n_points):
        raise ValueError(f"its columns of P must be in [0, {n_points})")


def check_iterations(value: Any, iterations: npt.NDArray[np.int64]) -> int:
    """Return the number of iterations, up to which those of the trace must grow."""
    n_iter = check_integer(value, "n_iter", low=0)
    if n_iter >= 2**62:
        raise ValueError(f"its n_iter must be less than 2**62, got {n_iter}")
    grow = len(iterations) == 0 or (iterations[0] >= 0 and (np.diff(iterations) > 0).all() and iterations[-1] <= n_iter)
    if not grow:
        raise ValueError(f"its trace of the loss must have growing iterations up to {n_iter}")
    return n_iter

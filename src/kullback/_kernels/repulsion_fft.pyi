from typing import Any

import numpy.typing as npt

BAND_ROWS: int
BLOCK_POINTS: int
BOUND_POINTS: int

def bound_positions(positions: npt.NDArray[Any], bounds_out: npt.NDArray[Any], n_threads: int) -> None: ...
def sort_points(
    positions: npt.NDArray[Any],
    low: npt.NDArray[Any],
    spacing: float,
    strides: npt.NDArray[Any],
    counts_out: npt.NDArray[Any],
    band_starts_out: npt.NDArray[Any],
    slots_out: npt.NDArray[Any],
    nodes_out: npt.NDArray[Any],
    distances_out: npt.NDArray[Any],
    n_threads: int,
) -> None: ...
def spread_charges(
    band_starts: npt.NDArray[Any],
    nodes: npt.NDArray[Any],
    distances: npt.NDArray[Any],
    spline: npt.NDArray[Any],
    grid_out: npt.NDArray[Any],
    n_threads: int,
) -> None: ...
def spread_masses(
    band_starts: npt.NDArray[Any],
    nodes: npt.NDArray[Any],
    distances: npt.NDArray[Any],
    masses: npt.NDArray[Any],
    spline: npt.NDArray[Any],
    grid_out: npt.NDArray[Any],
    n_threads: int,
) -> None: ...
def gather_forces(
    slots: npt.NDArray[Any],
    nodes: npt.NDArray[Any],
    distances: npt.NDArray[Any],
    spline: npt.NDArray[Any],
    slope: npt.NDArray[Any],
    spacing: float,
    potential: npt.NDArray[Any],
    sums_out: npt.NDArray[Any],
    forces_out: npt.NDArray[Any],
    n_threads: int,
) -> float: ...

from typing import Any

import numpy.typing as npt

BAND_ROWS: int
BLOCK_POINTS: int
BOUND_POINTS: int

def bound_positions(positions: npt.NDArray[Any], bounds_out: npt.NDArray[Any], n_threads: int) -> None: ...
def sort_bands(
    positions: npt.NDArray[Any],
    low: npt.NDArray[Any],
    spacing: float,
    order: int,
    band_starts_out: npt.NDArray[Any],
    points_out: npt.NDArray[Any],
) -> None: ...
def spread_charges(
    positions: npt.NDArray[Any],
    low: npt.NDArray[Any],
    spacing: float,
    order: int,
    band_starts: npt.NDArray[Any],
    points: npt.NDArray[Any],
    grid_out: npt.NDArray[Any],
    n_threads: int,
) -> None: ...
def gather_forces(
    positions: npt.NDArray[Any],
    low: npt.NDArray[Any],
    spacing: float,
    order: int,
    points: npt.NDArray[Any],
    potential: npt.NDArray[Any],
    sums_out: npt.NDArray[Any],
    forces_out: npt.NDArray[Any],
    n_threads: int,
) -> float: ...

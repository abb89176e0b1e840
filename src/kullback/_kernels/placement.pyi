from typing import Any

import numpy.typing as npt

SPLINE_ORDER: int

def place_points(
    affinities: npt.NDArray[Any],
    neighbors: npt.NDArray[Any],
    row_starts: npt.NDArray[Any],
    map_positions: npt.NDArray[Any],
    potential: npt.NDArray[Any],
    spacing: float,
    box: npt.NDArray[Any],
    dof: float,
    mean_sum: float,
    tolerance: float,
    max_iter: int,
    start: bool,
    positions_out: npt.NDArray[Any],
    slopes_out: npt.NDArray[Any],
    scratch: npt.NDArray[Any],
    losses_out: npt.NDArray[Any],
    n_threads: int,
) -> None: ...

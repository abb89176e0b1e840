from typing import Any

import numpy.typing as npt

from ..tsne.placement import _Field

SPLINE_ORDER: int

def start_points(
    affinities: npt.NDArray[Any],
    neighbors: npt.NDArray[Any],
    row_starts: npt.NDArray[Any],
    field: _Field,
    scratch: npt.NDArray[Any],
    positions_out: npt.NDArray[Any],
    n_threads: int,
) -> None: ...
def place_points(
    affinities: npt.NDArray[Any],
    neighbors: npt.NDArray[Any],
    row_starts: npt.NDArray[Any],
    field: _Field,
    max_iter: int,
    scratch: npt.NDArray[Any],
    positions: npt.NDArray[Any],
    slopes_out: npt.NDArray[Any],
    losses_out: npt.NDArray[Any],
    n_threads: int,
) -> None: ...

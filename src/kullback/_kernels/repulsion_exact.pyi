from typing import Any

import numpy.typing as npt

BLOCK_POINTS: int

def accumulate_repulsion(
    rows: npt.NDArray[Any],
    columns: npt.NDArray[Any],
    dof: float,
    sums_out: npt.NDArray[Any],
    forces_out: npt.NDArray[Any],
    n_threads: int,
) -> float: ...

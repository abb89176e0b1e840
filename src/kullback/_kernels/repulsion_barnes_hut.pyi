from typing import Any

import numpy.typing as npt

LIST_SIZE: int

def accumulate_repulsion(
    columns: npt.NDArray[Any],
    cells: npt.NDArray[Any],
    links: npt.NDArray[Any],
    groups: npt.NDArray[Any],
    order: npt.NDArray[Any],
    n_groups: int,
    dof: float,
    queue_out: npt.NDArray[Any],
    sources_out: npt.NDArray[Any],
    sums_out: npt.NDArray[Any],
    forces_out: npt.NDArray[Any],
    n_threads: int,
) -> float: ...

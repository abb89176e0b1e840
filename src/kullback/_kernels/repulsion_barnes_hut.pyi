from typing import Any

import numpy.typing as npt

LIST_SIZE: int
FAR_SIZE: int
N_TERMS: int

def accumulate_repulsion(
    columns: npt.NDArray[Any],
    cells: npt.NDArray[Any],
    links: npt.NDArray[Any],
    roots: npt.NDArray[Any],
    order: npt.NDArray[Any],
    n_subtrees: int,
    theta: float,
    dof: float,
    queue_out: npt.NDArray[Any],
    kept_out: npt.NDArray[Any],
    names_out: npt.NDArray[Any],
    frames_out: npt.NDArray[Any],
    expansions_out: npt.NDArray[Any],
    far_out: npt.NDArray[Any],
    sources_out: npt.NDArray[Any],
    sums_out: npt.NDArray[Any],
    forces_out: npt.NDArray[Any],
    n_threads: int,
) -> float: ...

from typing import Any

import numpy.typing as npt

BLOCK_ROWS: int

def accumulate_attraction(
    values: npt.NDArray[Any],
    columns: npt.NDArray[Any],
    row_starts: npt.NDArray[Any],
    positions: npt.NDArray[Any],
    dof: float,
    forces_out: npt.NDArray[Any],
    n_threads: int,
) -> None: ...
def sum_log_affinity(
    values: npt.NDArray[Any],
    columns: npt.NDArray[Any],
    row_starts: npt.NDArray[Any],
    positions: npt.NDArray[Any],
    dof: float,
    sums_out: npt.NDArray[Any],
    n_threads: int,
) -> float: ...
def permute_rows(
    values: npt.NDArray[Any],
    columns: npt.NDArray[Any],
    row_starts: npt.NDArray[Any],
    order: npt.NDArray[Any],
    rank: npt.NDArray[Any],
    values_out: npt.NDArray[Any],
    columns_out: npt.NDArray[Any],
    row_starts_out: npt.NDArray[Any],
    n_threads: int,
) -> None: ...

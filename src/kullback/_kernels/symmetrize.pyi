from typing import Any

import numpy.typing as npt

def transpose(
    values: npt.NDArray[Any],
    columns: npt.NDArray[Any],
    row_starts: npt.NDArray[Any],
    values_out: npt.NDArray[Any],
    columns_out: npt.NDArray[Any],
    row_starts_out: npt.NDArray[Any],
    next_slots_out: npt.NDArray[Any],
    n_threads: int,
) -> None: ...
def count_sums(
    columns: npt.NDArray[Any],
    row_starts: npt.NDArray[Any],
    other_columns: npt.NDArray[Any],
    other_row_starts: npt.NDArray[Any],
    row_starts_out: npt.NDArray[Any],
    n_threads: int,
) -> None: ...
def add_scaled(
    first: tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]],
    second: tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]],
    factor: float,
    row_starts: npt.NDArray[Any],
    values_out: npt.NDArray[Any],
    columns_out: npt.NDArray[Any],
    n_threads: int,
) -> None: ...

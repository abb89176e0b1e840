from typing import Any

import numpy.typing as npt

LEAF_SIZE: int
STACK_SIZE: int
TOP_CELLS: int

def build_tree(
    positions: npt.NDArray[Any],
    finest_side: float,
    keys: npt.NDArray[Any],
    order: npt.NDArray[Any],
    columns: npt.NDArray[Any],
    histogram_out: npt.NDArray[Any],
    stack_out: npt.NDArray[Any],
    roots_out: npt.NDArray[Any],
    units_out: npt.NDArray[Any],
    sides_out: npt.NDArray[Any],
    links_out: npt.NDArray[Any],
    cells_out: npt.NDArray[Any],
    n_threads: int,
) -> int: ...

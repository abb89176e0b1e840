from typing import Any

import numpy.typing as npt

LEAF_SIZE: int
STACK_SIZE: int
TOP_CELLS: int

def build_tree(
    finest_side: float,
    theta: float,
    dof: float,
    codes: npt.NDArray[Any],
    order: npt.NDArray[Any],
    columns: npt.NDArray[Any],
    keys_out: npt.NDArray[Any],
    row_out: npt.NDArray[Any],
    stack_out: npt.NDArray[Any],
    roots_out: npt.NDArray[Any],
    units_out: npt.NDArray[Any],
    sides_out: npt.NDArray[Any],
    links_out: npt.NDArray[Any],
    cells_out: npt.NDArray[Any],
    n_threads: int,
) -> int: ...
def most_cells(n_points: int, n_threads: int) -> int: ...

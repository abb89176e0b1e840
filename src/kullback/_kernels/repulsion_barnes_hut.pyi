from typing import Any

import numpy.typing as npt

LEAF_SIZE: int
GROUP_SIZE: int
LIST_SIZE: int
RADIX: int
BLOCK_POINTS: int
STACK_SIZE: int
TOP_CELLS: int

def order_points(
    positions: npt.NDArray[Any],
    codes_out: npt.NDArray[Any],
    order_out: npt.NDArray[Any],
    histogram_out: npt.NDArray[Any],
    bounds_out: npt.NDArray[Any],
    n_threads: int,
) -> float: ...
def build_tree(
    positions: npt.NDArray[Any],
    finest_side: float,
    theta: float,
    codes: npt.NDArray[Any],
    order: npt.NDArray[Any],
    histogram_out: npt.NDArray[Any],
    stack_out: npt.NDArray[Any],
    roots_out: npt.NDArray[Any],
    units_out: npt.NDArray[Any],
    sides_out: npt.NDArray[Any],
    links_out: npt.NDArray[Any],
    columns_out: npt.NDArray[Any],
    cells_out: npt.NDArray[Any],
    groups_out: npt.NDArray[Any],
    n_threads: int,
) -> int: ...
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

from typing import Any

import numpy.typing as npt

from ..tsne.barnes_hut import Tree, ZOrder

LEAF_SIZE: int
STACK_SIZE: int
TOP_CELLS: int

def build_tree(
    points: ZOrder,
    columns: npt.NDArray[Any],
    masses: npt.NDArray[Any],
    theta: float,
    dof: float,
    stack_out: npt.NDArray[Any],
    tree: Tree,
    n_threads: int,
) -> int: ...
def most_cells(n_points: int, n_threads: int) -> int: ...

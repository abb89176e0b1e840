from typing import Any

import numpy.typing as npt

from ..tsne.barnes_hut import Criterion, Tree, WalkScratch

NEAR_SIZE: int
FAR_SIZE: int
N_TERMS: int

def accumulate_repulsion(
    columns: npt.NDArray[Any],
    order: npt.NDArray[Any],
    tree: Tree,
    n_subtrees: int,
    masses: npt.NDArray[Any],
    criterion: Criterion,
    scratch: WalkScratch,
    forces_out: npt.NDArray[Any],
    n_threads: int,
) -> float: ...

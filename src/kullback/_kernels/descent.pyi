from typing import Any

import numpy.typing as npt

from ..tsne.rates import Rates

BLOCK_POINTS: int

def descend(
    positions: npt.NDArray[Any],
    velocity: npt.NDArray[Any],
    gains: npt.NDArray[Any],
    attraction: npt.NDArray[Any],
    repulsion: npt.NDArray[Any],
    rates: Rates,
    centre: npt.NDArray[Any],
    sums_out: npt.NDArray[Any],
    n_threads: int,
) -> float: ...

from typing import Any

import numpy.typing as npt

RADIX: int
LOCAL_KEYS: int
BLOCK_POINTS: int

def order_points(
    positions: npt.NDArray[Any],
    codes_out: npt.NDArray[Any],
    order_out: npt.NDArray[Any],
    columns_out: npt.NDArray[Any],
    digits_out: npt.NDArray[Any],
    keys_out: npt.NDArray[Any],
    row_out: npt.NDArray[Any],
    histogram_out: npt.NDArray[Any],
    bounds_out: npt.NDArray[Any],
    n_threads: int,
) -> float: ...

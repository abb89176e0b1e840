from typing import Any

import numpy.typing as npt

def search_bandwidths(
    distances: npt.NDArray[Any],
    masses: npt.NDArray[Any],
    row_starts: npt.NDArray[Any],
    perplexity: float,
    conditional_out: npt.NDArray[Any],
    bandwidth_out: npt.NDArray[Any],
    entropy_out: npt.NDArray[Any],
    n_threads: int,
) -> None: ...

"""Count values into bins, many features at once."""

from typing import Any

from numpy.typing import NDArray

def count_bins(
    values: NDArray[Any], edges: NDArray[Any], n_edges: int, counts_out: NDArray[Any], n_threads: int
) -> None: ...
def compare_counts(
    p: NDArray[Any], q: NDArray[Any], measures: NDArray[Any], smoothing: float, values_out: NDArray[Any],
    totals_out: NDArray[Any], n_threads: int,
) -> None: ...  # fmt: skip

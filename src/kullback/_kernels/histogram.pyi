"""Count values into bins, many features at once."""

from numpy.typing import NDArray

def count_bins(
    values: NDArray, edges: NDArray, n_edges: int, counts_out: NDArray, n_threads: int
) -> None: ...
def compare_counts(
    p: NDArray, q: NDArray, measure: int, smoothing: float, values_out: NDArray, totals_out: NDArray, n_threads: int
) -> None: ...

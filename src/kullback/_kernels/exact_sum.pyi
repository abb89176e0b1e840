"""Exact sums of float64 values and of their products."""

from typing import Any

from numpy.typing import NDArray

PRECISION: int

def accumulate_rows(
    values: NDArray[Any], n_measures: int, weights: NDArray[Any] | None, groups: NDArray[Any] | None,
    sums: NDArray[Any], counts: NDArray[Any], extremes: NDArray[Any], keys: NDArray[Any] | None, sizes: NDArray[Any],
    n_groups: int,
) -> None: ...  # fmt: skip
def accumulate_pairs(
    a: NDArray[Any], b: NDArray[Any], clusters: NDArray[Any] | None, sums: NDArray[Any], counts: NDArray[Any],
    cluster_sums: NDArray[Any], cluster_rows: NDArray[Any], sizes: NDArray[Any], n_clusters: int,
) -> None: ...  # fmt: skip
def add_values(values: NDArray[Any], groups: NDArray[Any], sums: NDArray[Any]) -> None: ...
def add_products(left: NDArray[Any], right: NDArray[Any], groups: NDArray[Any], sums: NDArray[Any]) -> None: ...
def carry(sums: NDArray[Any]) -> None: ...

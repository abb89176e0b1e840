"""Exact sums of float64 values and of their products."""

from typing import Any

from numpy.typing import NDArray

def accumulate_rows(
    values: NDArray[Any], weights: NDArray[Any], groups: NDArray[Any], n_measures: int, measure: int,
    sums: NDArray[Any], counts: NDArray[Any], extremes: NDArray[Any],
) -> None: ...  # fmt: skip
def add_values(values: NDArray[Any], groups: NDArray[Any], sums: NDArray[Any]) -> None: ...
def add_products(left: NDArray[Any], right: NDArray[Any], groups: NDArray[Any], sums: NDArray[Any]) -> None: ...
def carry(sums: NDArray[Any]) -> None: ...
def order_keys(values: NDArray[Any], shift: int, keys_out: NDArray[Any]) -> None: ...

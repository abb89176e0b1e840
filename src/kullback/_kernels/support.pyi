"""Sums over the support of one pair of huge distributions, exact in each term whatever the order."""

from typing import Any

from numpy.typing import NDArray

def add_probabilities(
    p: NDArray[Any], q: NDArray[Any], terms: NDArray[Any], sums: NDArray[Any], infinite: NDArray[Any],
    n_threads: int,
) -> None: ...  # fmt: skip
def survey_logits(logits: NDArray[Any], survey_out: NDArray[Any]) -> None: ...
def add_logits(
    a: NDArray[Any], b: NDArray[Any], wanted: NDArray[Any], top_a: int, top_b: int, sums: NDArray[Any],
    infinite: NDArray[Any], n_threads: int,
) -> None: ...  # fmt: skip

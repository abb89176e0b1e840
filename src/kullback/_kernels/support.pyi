"""Sums over the support of one pair of huge distributions, exact in each term whatever the order."""

from numpy.typing import NDArray

def add_probabilities(
    p: NDArray, q: NDArray, terms: NDArray, sums: NDArray, infinite: NDArray, n_threads: int
) -> None: ...
def survey_logits(logits: NDArray, survey_out: NDArray) -> None: ...
def add_logits(
    a: NDArray, b: NDArray, wanted: NDArray, top_a: int, top_b: int, sums: NDArray, infinite: NDArray,
    n_threads: int,
) -> None: ...  # fmt: skip

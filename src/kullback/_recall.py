"""The recall of a search: what share of the nearest neighbours it finds, measured on a sample of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ._arrays import FloatArray

TARGET = 0.95
"""The recall that searches reach where the user asks for no other."""

N_PROBES = 16
"""How many lists of the inverted file are searched for a row, at least. With about n^0.75 / 16 lists, the recall of 90
neighbours measured 0.986 to 0.995 on images of digits (4,000 to 63,000 rows of 50)."""

LEAST_SAMPLED, MOST_SAMPLED = 64, 512
"""The recall is measured on so many rows. With 300 rows, its standard error is 0.002 to 0.01."""

SAMPLE_SHARE = 14
"""The sample is compared with all points in about so small a share of the time of the fastest search."""

EFFORT_STEP = 1.5
"""Where the recall is too low, so many times more lists are tried next."""

WORTH_LISTS, WORTH_OF_PRODUCTS = 0.7, 0.2
"""Where a larger share of the lists has to be searched, comparing with all points is faster. Searching all lists took
1.2 to 1.5 times as long as that, and 5 to 6 times as long as comparing by matrix products."""

SAME = 2.0**-20
"""Distances whose relative difference is less than this may be taken for equal."""


class Recall(NamedTuple):
    """The share of the true neighbours that a search finds.

    Attributes
    ----------
    value : float
        The mean over a sample of rows. A neighbour counts if it is not farther than the k-th of the true ones. It is 1
        where all distances were compared.
    error : float
        The standard error of the mean.
    """

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ± {self.error:.4f}"


EXACT = Recall(1.0, 0.0)
"""The recall of a search that compares each row with all points."""


def count_lists(n_points: int) -> int:
    """Return the number of lists that an inverted file cuts so many points into."""
    return int(2 ** max(0, round(0.75 * np.log2(n_points) - 4)))


def sample_rows(n_points: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the rows on which the recall of a search among so many points is measured, sorted."""
    n_lists = count_lists(n_points)
    compared = n_lists + n_points * min(1, N_PROBES / n_lists)  # for each row, at the least effort
    size = min(n_points, MOST_SAMPLED, max(LEAST_SAMPLED, int(compared / SAMPLE_SHARE)))
    return np.sort(np.random.default_rng(seed).choice(n_points, size, replace=False))


def measure_recall(found: FloatArray, true: FloatArray) -> Recall:
    """Return the recall of a search from the distances that it found and the true ones, both of shape (n_rows, k)."""
    with np.errstate(over="ignore"):
        shares = np.mean(found <= true[:, -1:] * (1 + SAME), axis=1)
    return Recall(float(shares.mean()), float(shares.std() / max(1, len(shares) - 1) ** 0.5))


def rising_efforts(n_lists: int, least: int, worth: float) -> Iterator[int]:
    """Yield numbers of lists to search: at first the least number, then more, as long as a share is worth it."""
    n_probes = max(N_PROBES, least)
    if n_probes < n_lists:
        yield n_probes
        while (n_probes := int(np.ceil(EFFORT_STEP * n_probes))) <= worth * n_lists:
            yield n_probes

"""Fixtures for evaluations: rows of two sides, and what reducing them at once gives."""

import numpy as np
import pytest

from kullback.streaming import RowDivergence


@pytest.fixture(scope="module")
def data():
    """Return two float32 arrays of 203 rows and 37 columns."""
    rng = np.random.default_rng(0)
    return tuple(rng.dirichlet(np.ones(37), 203).astype(np.float32) for _ in "pq")


@pytest.fixture(scope="module")
def expected(data):
    """Return the result of a single update."""
    return RowDivergence(quantiles=(0.5,)).update(*data).result()

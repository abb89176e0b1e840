"""Distributions that the divergence tests share, and the switch of SIMD levels."""

import numpy as np
import pytest

from kullback import _kernels
from kullback.divergence import _plan


def forget_plans():
    """Drop what plans have remembered of the kernel that made them."""
    _plan.reduction_of.cache_clear()
    _plan.default_plan.cache_clear()


@pytest.fixture
def at_level(level, monkeypatch):
    """Run the public functions with the row kernel of one SIMD level."""
    monkeypatch.setattr(_plan, "kernel", _kernels.load("divergence_rows", level))
    forget_plans()
    yield level
    forget_plans()


@pytest.fixture
def draw():
    """Return a function that draws random distributions along the last axis."""

    def draw(shape, dtype=np.float64, seed=0, spread=2.0):
        rows = np.exp(spread * np.random.default_rng(seed).standard_normal(shape))
        with np.errstate(invalid="ignore"):
            return (rows / rows.sum(axis=-1, keepdims=True)).astype(dtype)

    return draw

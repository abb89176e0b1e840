"""Fixtures: accumulators of every class, and rows of two sides with what reducing them at once gives."""

import numpy as np
import pytest

from kullback.streaming import (
    HistogramDivergence,
    PairedDivergence,
    RowDivergence,
    RowValues,
    SupportDivergence,
)

KINDS = ("row", "values", "histogram", "support", "logits", "paired")


@pytest.fixture(scope="module")
def data():
    """Return two float32 arrays of 203 rows and 37 columns."""
    rng = np.random.default_rng(0)
    return tuple(rng.dirichlet(np.ones(37), 203).astype(np.float32) for _ in "pq")


@pytest.fixture(scope="module")
def expected(data):
    """Return the result of a single update."""
    return RowDivergence(quantiles=(0.5,)).update(*data).result()


def make_accumulator(kind):
    """Make an accumulator with data in every array."""
    rng = np.random.default_rng(0)
    p, q, r = (rng.dirichlet(np.ones(5), 40) for _ in range(3))
    if kind == "row":
        acc = RowDivergence(("kl", "entropy_p"), quantiles=(0.5,), groups=True)
        return acc.update(p, q, weights=rng.random(40), group=np.arange(40) % 3)
    if kind == "values":
        return RowValues(("a", "b"), quantiles=(0.1,)).update(rng.normal(size=(2, 40)))
    if kind == "histogram":
        return HistogramDivergence(edges=[0.1, 0.3], n_features=5).update(p, q).fix_reference()
    if kind == "support":
        return SupportDivergence(("kl", "js"), normalize=False).update(p[0], q[0])
    if kind == "logits":
        return SupportDivergence(("kl", "reverse_kl"), from_logits=True).update(*np.log([p[0], q[0]]))
    return PairedDivergence(clusters=True).update(p, q, r, cluster=np.arange(40) // 7)


@pytest.fixture
def make():
    """Return a function that makes an accumulator of a kind."""
    return make_accumulator


@pytest.fixture
def kinds():
    """Return all kinds of accumulators."""
    return KINDS


@pytest.fixture(params=KINDS)
def kind(request):
    """Return each kind of accumulator."""
    return request.param

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
    empty = {
        "row": lambda: RowDivergence(("kl", "entropy_p"), quantiles=(0.5,), groups=True),
        "values": lambda: RowValues(("a", "b"), quantiles=(0.1,)),
        "histogram": lambda: HistogramDivergence(edges=[0.1, 0.3], n_features=5),
        "support": lambda: SupportDivergence(("kl", "js"), normalize=False),
        "logits": lambda: SupportDivergence(("kl", "reverse_kl"), from_logits=True),
        "paired": lambda: PairedDivergence(clusters=True),
    }[kind]()
    update_accumulator(empty, 0)
    return empty.fix_reference() if kind == "histogram" else empty


def update_accumulator(acc, seed):
    """Update an accumulator of any kind with random data."""
    rng = np.random.default_rng(seed)
    p, q, r = (rng.dirichlet(np.ones(5), 40) for _ in range(3))
    if isinstance(acc, RowDivergence):
        acc.update(p, q, weights=rng.random(40), group=np.arange(40) % 3)
    elif isinstance(acc, RowValues):
        acc.update(rng.normal(size=(2, 40)))
    elif isinstance(acc, HistogramDivergence):
        acc.update(**{"q": q} if acc.to_state()["fixed"] else {"p": p, "q": q})
    elif isinstance(acc, SupportDivergence):
        acc.update(*(np.log([p[0], q[0]]) if acc.from_logits else (p[0], q[0])))
    else:
        acc.update(p, q, r, cluster=np.arange(40) // 7)


@pytest.fixture
def update():
    """Return a function that updates an accumulator of any kind with the random data of a seed."""
    return update_accumulator


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

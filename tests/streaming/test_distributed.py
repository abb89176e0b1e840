"""Evaluations over Dask arrays give the bits of one machine."""

import numpy as np
import pytest

import kullback
from kullback.streaming import RowDivergence

dask = pytest.importorskip("dask")
array = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")

QUANTILES = (0.1, 0.9)


@pytest.fixture(scope="module")
def data():
    """Draw two arrays of rows."""
    rng = np.random.default_rng(0)
    return tuple(rng.dirichlet(np.ones(11), 500) for _ in "pq")


@pytest.fixture(scope="module")
def expected(data):
    """Return the result of one machine."""
    return kullback.evaluate(*data, quantiles=QUANTILES, progress=False)


@pytest.mark.parametrize("chunks", [(500, 11), (7, 11), (100, 3), (1, -1)])
def test_chunks_change_no_bit(data, expected, chunks):
    """Any chunks give the same bits, also chunks of columns, lazily, and with NumPy on one side."""
    p, q = (array.from_array(side, chunks=chunks) for side in data)
    with dask.config.set(scheduler="threads", num_workers=2):
        assert kullback.evaluate(p, q, quantiles=QUANTILES) == expected
        assert kullback.distributed.evaluate(p, data[1], quantiles=QUANTILES) == expected
        lazy = kullback.distributed.evaluate(p, q, quantiles=QUANTILES, compute=False)
        assert lazy.compute() == RowDivergence(quantiles=QUANTILES).update(*data)


def test_two_worker_processes(data, expected):
    """On a real cluster, whose accumulators travel between processes, the bits are the same."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        p, q = (array.from_array(side, chunks=(20, 11)) for side in data)
        assert kullback.evaluate(p, q, quantiles=QUANTILES) == expected
        pids = set(client.run(lambda: __import__("os").getpid()).values())
        assert len(pids) == 2
        with pytest.raises(ValueError, match="negative or NaN"):
            kullback.evaluate(-p, q)


def test_a_bad_row_is_named_by_its_place_in_the_data(data):
    """The row of the message is counted from the first row of the data, not from that of its chunk."""
    p, bad = data[0], data[1].copy()
    bad[377, 0] = -1
    for rows in (500, 100, 1):
        with pytest.raises(ValueError, match=r"in row 377$"):
            kullback.evaluate(array.from_array(p, chunks=(rows, 11)), bad)


def test_refusals(data):
    """Shapes and options that a Dask evaluation does not take are refused."""
    p, q = (array.from_array(side) for side in data)
    with pytest.raises(ValueError, match="same shape"):
        kullback.evaluate(p, q[1:])
    with pytest.raises(ValueError, match="two axes"):
        kullback.evaluate(p[0], q[0])
    with pytest.raises(ValueError, match="dask arrays take no"):
        kullback.evaluate(p, q, weights=np.ones(500))
    assert kullback.evaluate(p[:0], q[:0]).kl.n_rows == 0

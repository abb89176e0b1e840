"""The recipes for Ray Data and Spark in docs/streaming.md give the bits of one machine, run as they stand there."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from kullback.streaming import RowDivergence

RECIPES = re.findall(
    r"```python\n(# (?:Ray|Spark).*?)```", Path(__file__).parents[2].joinpath("docs/streaming.md").read_text(), re.S
)


@pytest.fixture
def table(monkeypatch):
    """Return rows of two distributions as an Arrow table; worker processes find the package where we found it."""
    arrow = pytest.importorskip("pyarrow")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    p, q = np.random.default_rng(0).dirichlet(np.ones(11), (2, 200))
    columns = {
        name: arrow.FixedSizeListArray.from_arrays(arrow.array(side.reshape(-1)), 11)
        for name, side in (("p", p), ("q", q))
    }
    return arrow.table(columns), RowDivergence(quantiles=(0.5,)).update(p, q)


# The engines are no dependencies of ours, so each test runs where its engine is installed.


@pytest.mark.filterwarnings("ignore")  # warnings of Ray itself
def test_ray_recipe(table):
    """Blocks are aggregated by worker processes, states travel, and the result is that of one machine."""
    ray = pytest.importorskip("ray")
    data = pytest.importorskip("ray.data")
    names = {}
    exec(RECIPES[0], names)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        dataset = data.from_arrow(table[0]).repartition(5)
        assert names["evaluate"](dataset) == table[1]
    finally:
        ray.shutdown()


@pytest.mark.filterwarnings("ignore")  # warnings of Spark itself
def test_spark_recipe(table):
    """Partitions are reduced by worker processes, states travel, and the result is that of one machine."""
    sql = pytest.importorskip("pyspark.sql")
    names = {}
    exec(RECIPES[1], names)
    session = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        frame = session.createDataFrame(table[0].to_pandas()).repartition(5)
        assert names["evaluate"](frame) == table[1]
    finally:
        session.stop()

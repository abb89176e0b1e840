"""Searches by products of matrices find what searches by differences find, bit for bit, on any number of threads."""

import numpy as np
import pytest

from kullback import _search
from kullback._search import BY_PRODUCTS, EuclideanSearch
from kullback.neighbors import nearest_neighbors

RNG = np.random.default_rng(0)
BLOB = RNG.normal(size=(700, 5))
CENTRES = RNG.normal(size=(7, 5)).repeat(100, axis=0)
DATA = {
    "noise": BLOB,
    "float32": RNG.normal(size=(700, 90)).astype(np.float32),
    "whole numbers": RNG.integers(0, 4, size=(700, 5)).astype(float),
    "groups": BLOB + 1e6 * (np.arange(700) % 2)[:, None],
    "far groups": BLOB + 1e12 * (np.arange(700) % 3)[:, None],
    "copies": CENTRES,
    "clumps": CENTRES + 1e-3 * BLOB,
    "tight clumps": CENTRES + 1e-6 * BLOB,
    "outliers": BLOB * np.where(np.arange(700) % 50, 1, 1e30)[:, None],
    "heavy tails": RNG.standard_cauchy(size=(700, 5)),
    "far from the origin": BLOB + 1e5,
    "subnormal": BLOB * 1e-310,
    "huge": BLOB * 1e300,
}


@pytest.mark.parametrize("name", DATA)
def test_products_against_differences(name, monkeypatch):
    """What products round away is searched for again, so that indices and distances are those of differences."""
    X = DATA[name]
    differences = EuclideanSearch(X, exact=True, n_threads=2)
    assert not differences.takes_products
    indices, distances = differences.among_themselves(12, 2)
    monkeypatch.setattr(_search, "PRODUCT_WORK", 0)
    search = EuclideanSearch(X, exact=True, n_threads=2)
    asked = []
    ask = EuclideanSearch._ask
    monkeypatch.setattr(EuclideanSearch, "_ask", lambda self, *a: asked.append(a[2]) or ask(self, *a))
    for n_threads in (1, 2, 3):
        found = search.among_themselves(12, n_threads)
        np.testing.assert_array_equal(found[0], indices)
        np.testing.assert_array_equal(found[1], distances)
    assert asked[0] == BY_PRODUCTS
    assert (len(set(asked)) > 1) == (name in ("groups", "far groups", "clumps", "tight clumps"))


def test_products_by_every_way_in(monkeypatch):
    """The exact method, and an approximate one that has to be exact, take products; settings are restored."""
    import faiss
    from threadpoolctl import threadpool_info

    def settings():
        threads = sorted((pool["filepath"], pool["num_threads"]) for pool in threadpool_info())
        return threads, faiss.cvar.distance_compute_blas_threshold

    X = np.random.default_rng(1).normal(size=(3_000, 20))
    expected = nearest_neighbors(X, 10, method="exact")
    before = settings()
    monkeypatch.setattr(_search, "PRODUCT_WORK", 0)
    for options in ({"method": "exact"}, {"method": "approximate", "recall": 0.9999}):
        for found, one in zip(nearest_neighbors(X, 10, **options), expected, strict=True):
            np.testing.assert_array_equal(found, one)
    assert settings() == before


def test_new_rows_do_not_depend_on_their_batch(monkeypatch):
    """New rows are never searched by products, whose bits depend on the other rows."""
    monkeypatch.setattr(_search, "PRODUCT_WORK", 0)
    search = EuclideanSearch(BLOB, exact=True, n_threads=2)
    rows = BLOB[:300] + 0.1
    together = search.of_new_rows(rows, 12, 2)
    for i in (0, 150, 299):
        alone = search.of_new_rows(rows[i : i + 1], 12, 1)
        np.testing.assert_array_equal(alone[0][0], together[0][i])
        np.testing.assert_array_equal(alone[1][0], together[1][i])

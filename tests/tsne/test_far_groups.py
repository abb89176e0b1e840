"""Nearest neighbours in groups that are far apart: their distances are those of float64, and none is missed."""

import numpy as np
import pytest

from kullback._search import EuclideanSearch
from kullback.neighbors import NeighborIndex, nearest_neighbors

RNG = np.random.default_rng(0)
BLOB = RNG.normal(size=(600, 5))
HALF = (np.arange(600) % 2)[:, None]

FAR_GROUPS = {
    "two groups, 1e6 apart": BLOB + 1e6 * HALF,
    "two groups, 1e7 apart": BLOB + 1e7 * HALF,
    "two groups, 1e20 apart in one feature": np.c_[BLOB, 1e20 * HALF],
    "values that stand for missing ones": np.c_[1e-3 * BLOB, RNG.choice([-999999, 1e20, 0, -9e9], size=(600, 2))],
    "forty groups": BLOB + 1e6 * RNG.normal(size=(40, 5))[RNG.integers(40, size=600)],
    "a dense core in a wide cloud": np.where(np.arange(600)[:, None] < 300, 1 + 1e-9 * BLOB, BLOB),
    "every scale": BLOB * 10.0 ** RNG.integers(-12, 12, size=(600, 1)),
    "a geometric sequence": 2.0 ** np.linspace(-120, 120, 600)[:, None] * [1, 3],
    "duplicates": np.repeat(BLOB[:120], 5, axis=0) + 1e9 * HALF,
    "whole numbers": np.round(3 * BLOB) + 1e8 * HALF,
}


def search_plainly(points, rows, k):
    """Return the k smallest distances of each row, in long double."""
    between = points.astype(np.longdouble) - rows[:, None].astype(np.longdouble)
    return np.sort(np.sqrt((between**2).sum(axis=2)), axis=1)[:, :k]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FAR_GROUPS)
def test_against_long_double(name, dtype):
    """Distances are right to the rounding of their type, and they are the smallest."""
    X = FAR_GROUPS[name].astype(dtype)
    expected = search_plainly(X, X, 11)[:, 1:]  # without the row itself
    for method in ("exact", "approximate"):
        indices, distances = nearest_neighbors(X, 10, method=method)
        own = np.sqrt(((X[indices].astype(np.longdouble) - X[:, None]) ** 2).sum(axis=2))
        # Differences, squares, sums of 7 and the root: less than 8 roundings. float32 adds the last one.
        np.testing.assert_allclose(distances, own, rtol=np.finfo(dtype).eps + 8 * 2.0**-53, atol=0)
        # Distances that differ by less than 2^-20 of themselves may be taken for equal.
        if method == "exact":
            np.testing.assert_allclose(own, expected, rtol=2.0**-19, atol=0)
        assert np.mean(own <= expected * (1 + 2.0**-19)) >= 0.95


def test_new_rows():
    """New rows are compared with the points of all groups, and bits depend neither on their company nor on threads."""
    X = FAR_GROUPS["two groups, 1e7 apart"]
    rows = np.vstack([X[:30] + 0.1, X[:1] + 5e6, X[:1] + 1e30])
    index = NeighborIndex(X, method="exact")
    found = index.search(rows, 9, n_threads=1)
    expected = search_plainly(X, rows, 9).astype(float)
    np.testing.assert_allclose(found.distances.reshape(-1, 9), expected, rtol=2.0**-19)
    np.testing.assert_allclose(found.distances[:270], expected[:30].reshape(-1), rtol=1e-15)
    for n_threads in (2, 3):
        alone = [index.search(row[None], 9, n_threads=n_threads) for row in rows]
        np.testing.assert_array_equal(np.concatenate([graph.columns for graph in alone]), found.columns)
        np.testing.assert_array_equal(np.concatenate([graph.distances for graph in alone]), found.distances)


def test_derived_metrics():
    """Squared, cosine and Hellinger distances of rows that are close to each other keep their bits."""
    group = np.repeat([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], 60, axis=0)
    X = group + 1e-6 * RNG.random((120, 3))
    between = X[:, None] - X
    np.fill_diagonal(between[..., 0], np.inf)
    squared = np.sort((between**2).sum(axis=2), axis=1)[:, :5]
    np.testing.assert_allclose(nearest_neighbors(X, 5, metric="sqeuclidean")[1], squared, rtol=1e-12)
    units = X / np.linalg.norm(X, axis=1, keepdims=True)
    between = units[:, None] - units
    np.fill_diagonal(between[..., 0], np.inf)
    cosine = np.sort((between**2).sum(axis=2) / 2, axis=1)[:, :5]
    # Unit rows are rounded to 2^-53, which is 1e-9 of distances of 1e-7.
    np.testing.assert_allclose(nearest_neighbors(X, 5, metric="cosine")[1], cosine, rtol=1e-7, atol=1e-22)


def test_groups_are_searched_apart():
    """Rows in groups that are far apart are found in cells, and are not compared with all points."""
    search = EuclideanSearch(np.vstack([BLOB, BLOB + 1e9]), exact=True, n_threads=1)
    _, distances = search.among_themselves(5, 1)
    np.testing.assert_array_equal(
        distances[:600], EuclideanSearch(BLOB, exact=True, n_threads=1).among_themselves(5, 1)[1]
    )
    assert sorted(len(cell.members) for cell in search._cells.cells) == [600, 600]

"""PairedDivergence, which compares two candidates on the same rows."""

import math

import numpy as np
import pytest

from kullback.divergence import kl_divergence
from kullback.streaming import PairedDivergence


def rows(n, seed=0):
    """Make a reference and two candidates near it."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(6), n)
    near = [p * rng.uniform(1 - s, 1 + s, p.shape) for s in (0.2, 0.25)]
    return p, *(q / q.sum(-1, keepdims=True) for q in near)


def test_paired_and_clustered_errors():
    """Means and both errors equal their formulas."""
    p, a, b = rows(200)
    cluster = np.random.default_rng(1).integers(0, 17, 200)
    d = kl_divergence(p, a) - kl_divergence(p, b)
    found = PairedDivergence(clusters=True).update(p, a, b, cluster=cluster).result()
    assert found.mean_difference == pytest.approx(d.mean(), rel=1e-13)
    assert found.mean_a == pytest.approx(kl_divergence(p, a).mean(), rel=1e-13)
    assert found.standard_error == pytest.approx(d.std(ddof=1) / 200**0.5, rel=1e-12)
    residuals = np.bincount(cluster, d - d.mean())
    expected = math.sqrt(17 / 16 * (residuals**2).sum()) / 200
    assert found.clustered_standard_error == pytest.approx(expected, rel=1e-11)
    assert (found.n_a_smaller, found.n_b_smaller, found.n_tied) == (
        (d < 0).sum(),
        (d > 0).sum(),
        (d == 0).sum(),
    )
    assert found.z == found.mean_difference / found.clustered_standard_error


def test_clusters_of_one_are_no_clusters():
    """With clusters of one row, named by numbers or strings, the clustered error is that of independent rows."""
    p, a, b = rows(50)
    found = PairedDivergence(clusters=True).update(p, a, b, cluster=np.arange(50).astype(str)).result()
    assert found.clustered_standard_error == pytest.approx(found.standard_error, rel=2**-50)
    assert PairedDivergence().update(p, a, b).result().n_clusters == 0


def test_chunking_and_merging_change_no_bit():
    """Random merge trees of random chunkings give one state."""
    p, a, b = rows(120)
    cluster = np.arange(120) // 9
    rng = np.random.default_rng(0)
    whole = PairedDivergence(clusters=True).update(p, a, b, cluster=cluster)
    for _ in range(60):
        parts = [
            PairedDivergence(clusters=True).update(p[i], a[i], b[i], cluster=cluster[i])
            for i in np.split(rng.permutation(120), np.sort(rng.integers(0, 121, 5)))
        ]
        while len(parts) > 1:
            last = parts.pop(rng.integers(len(parts)))
            parts[rng.integers(len(parts))].merge(last)
        assert parts[0] == whole
        assert parts[0].result() == whole.result()


def test_rows_without_a_finite_pair():
    """Infinite and NaN values are counted and left out, also of the clusters."""
    p = np.full((4, 2), 0.5)
    a = np.array([[0.0, 1], [0.5, 0.5], [np.nan, 1], [0.25, 0.75]])
    b = np.array([[0.0, 1], [0.0, 1], [0.5, 0.5], [0.5, 0.5]])
    found = PairedDivergence(normalize=False, clusters=True).update(p, a, b, cluster=[0, 1, 2, 3]).result()
    assert (found.n_rows, found.n_infinite_a, found.n_infinite_b, found.n_nonfinite) == (1, 1, 2, 1)
    assert (found.n_clusters, found.n_b_smaller) == (1, 1)
    assert found.mean_difference == kl_divergence(p[3], a[3])
    empty = PairedDivergence().result()
    assert math.isnan(empty.mean_difference)
    assert "PairedResult" in repr(empty)
    assert empty.to_dict()["n_tied"] == 0


def test_refusals_leave_it_untouched():
    """Missing and surplus clusters and unequal candidates are refused."""
    p, a, b = rows(5)
    acc = PairedDivergence(clusters=True)
    with pytest.raises(ValueError, match="cluster must be given"):
        acc.update(p, a, b)
    with pytest.raises(ValueError, match="clusters=True"):
        PairedDivergence().update(p, a, b, cluster=0)
    with pytest.raises(ValueError, match=r"shape|rows|broadcast"):
        acc.update(p, a, b[:2], cluster=0)
    assert acc == PairedDivergence(clusters=True)

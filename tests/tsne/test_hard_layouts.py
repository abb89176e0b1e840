"""Repulsion on layouts of points that break trees, grids and single precision."""

import numpy as np
import pytest

from kullback import reference as ref
from kullback.tsne import gradient


def scatter(n_points, n_components, dtype, seed=0):
    """Return clustered points with a span like that of an embedding."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(5, n_components)) * 20
    return (centres[rng.integers(5, size=n_points)] + rng.normal(size=(n_points, n_components))).astype(dtype)


HARD_CASES = {
    "all equal": lambda n, d: np.ones((n, d)),
    "line": lambda n, d: np.repeat(np.linspace(0, 30, n)[:, None], d, axis=1),
    "duplicates": lambda n, d: np.random.default_rng(0).integers(0, 3, size=(n, d)) * 3.7,
    "far outlier": lambda n, d: np.vstack([scatter(n - 1, d, float), np.full((1, d), 1e30)]),
    "two far clusters": lambda n, d: scatter(n, d, float) + 1e6 * (np.arange(n) % 2)[:, None],
    "geometric": lambda n, d: 2.0 ** -np.linspace(0, 1000, n)[:, None] * (1 + np.arange(d)),
    "tiny": lambda n, d: scatter(n, d, float) * 1e-300,
}


@pytest.mark.parametrize("case", ["all equal", "line", "duplicates", "far outlier", "two far clusters", "tiny"])
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_fft_on_hard_cases(n_components, case):
    """A map that spreads without bound neither takes unbounded memory nor gives NaN."""
    Y = HARD_CASES[case](300, n_components)
    forces, sum_q = gradient.repulsive_forces(Y, method="fft")
    assert np.isfinite(forces).all()
    assert np.isfinite(sum_q)


@pytest.mark.parametrize("case", HARD_CASES)
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_barnes_hut_on_hard_cases(at_level, n_components, case):
    """No layout of points breaks the tree: theta = 0 gives the exact sum, another theta that of the NumPy tree.

    theta = 0.47 and not 0.5: on a lattice, cells would stand exactly on the border of acceptance.
    """
    Y = HARD_CASES[case](300, n_components)
    for theta, expected in [
        (0.0, ref.repulsive_forces(Y)),
        (0.47, ref.repulsive_forces(Y, method="barnes_hut", theta=0.47)),
    ]:
        forces, sum_q = gradient.repulsive_forces(Y, method="barnes_hut", theta=theta)
        # n eps times the sum of magnitudes, n / 2 for a force and n^2 for Z, and centres of mass that are
        # rounded by eps |Y| where there is a far cluster
        eps = np.finfo(float).eps
        rounded = 8 * eps * np.abs(Y).max() if case == "two far clusters" else 0
        np.testing.assert_allclose(forces, expected[0], rtol=0, atol=300 * (150 * eps + rounded))
        assert sum_q == pytest.approx(expected[1], abs=300**2 * (300 * eps + rounded))


@pytest.mark.parametrize("scale", [1e-30, 1e-34, 1e-38, 1e-44, 1e16])
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_barnes_hut_of_single_precision_at_any_scale(at_level, n_components, scale):
    """Codes are made in single precision: no cell is divided without end, even where distances lose their digits."""
    Y = (scatter(300, n_components, np.float64) * scale).astype(np.float32)
    expected, expected_q = gradient.repulsive_forces(Y.astype(np.float64), method="exact")
    for theta in (0.0, 0.5):
        forces, sum_q = gradient.repulsive_forces(Y, method="barnes_hut", theta=theta)
        largest = max(float(np.abs(expected).max()), 300 * 1e-37 * 2**16)
        assert np.abs(forces - expected).max() <= (1e-5 if theta == 0 else 0.02) * largest
        assert sum_q == pytest.approx(expected_q, rel=1e-5, abs=1e-5)


def test_barnes_hut_does_not_lose_the_neighbours_of_an_outlier(at_level):
    """Two points far from a cluster repel each other, though they share a cell with its light edge."""
    rng = np.random.default_rng(0)
    Y = np.concatenate([rng.normal(size=(3000, 2)), [[200.0, 200.0], [200.5, 200.0]]])
    forces, _ = gradient.repulsive_forces(Y, method="barnes_hut", theta=0.5)
    exact, _ = gradient.repulsive_forces(Y, method="exact")
    np.testing.assert_allclose(forces[-2:], exact[-2:], rtol=0.01)


def test_barnes_hut_handles_many_coincident_points(at_level):
    """Coincident points make one cell with zero side, cut into groups: cost stays linear, Z is exact."""
    Y = np.zeros((100_000, 2), np.float32)
    forces, sum_q = gradient.repulsive_forces(Y, method="barnes_hut")
    assert not forces.any()
    assert sum_q == 100_000 * 99_999


@pytest.mark.parametrize("method", ["exact", "barnes_hut", "fft"])
@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e-2, 1.0])
def test_small_maps_keep_their_precision(method, scale):
    """At the start all points are within 1e-4, where w is 1 to 8 digits: float32 forces still hold to 2 %."""
    Y = (np.random.default_rng(0).normal(size=(3000, 2)) * scale).astype(np.float32)
    expected, sum_q = gradient.repulsive_forces(Y.astype(np.float64), method="exact")
    forces, actual_sum = gradient.repulsive_forces(Y, method=method)
    assert np.linalg.norm(forces - expected) <= 0.02 * np.linalg.norm(expected)
    assert actual_sum == pytest.approx(sum_q, rel=1e-2)


@pytest.mark.parametrize("scale", [1e4, 1e12, 1e20, 5e36])
@pytest.mark.parametrize("n_components", [1, 2, 3])
@pytest.mark.parametrize("method", ["exact", "barnes_hut", "auto"])
def test_wide_maps_of_single_precision(at_level, method, n_components, scale):
    """Squares of distances overflow, and Z is nothing beside n: both hold as in float64, for outliers and for all."""
    rng = np.random.default_rng(0)
    spread = (rng.uniform(-1, 1, size=(1100, n_components)) * scale).astype(np.float32)
    outlier = np.zeros((1100, n_components), np.float32)
    outlier[-1] = scale
    mixed = np.concatenate([spread[:3], rng.normal(size=(1097, n_components)).astype(np.float32)])
    for Y in (spread, outlier, mixed):
        forces, sum_q = gradient.repulsive_forces(Y, method=method, tolerance=0.01)
        expected, expected_q = ref.repulsive_forces(Y)
        assert sum_q == pytest.approx(expected_q, rel=1e-3)
        # Forces below the smallest normal float32 lose their digits.
        assert np.linalg.norm(forces - expected) <= 0.01 * np.linalg.norm(expected) + 1e-38


@pytest.mark.parametrize("method", ["exact", "barnes_hut", "auto"])
def test_z_of_far_points_keeps_its_precision(at_level, method):
    """The self terms, which are n, are never a part of the sum where it is small: Z is right to 1e-4 at 1e-24 n."""
    rng = np.random.default_rng(1)
    for scale, n_components in ((1e3, 2), (1e6, 2), (1e12, 3), (1e20, 1)):
        for dtype in (np.float32, np.float64):
            Y = (rng.uniform(-1, 1, size=(1500, n_components)) * scale).astype(dtype)
            _, expected = ref.repulsive_forces(Y)
            assert gradient.repulsive_forces(Y, method=method, theta=0.1)[1] == pytest.approx(expected, rel=1e-4)

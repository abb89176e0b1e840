"""Barnes-Hut repulsion at every level: against its NumPy twin, cell by cell, and the tree on which it stands."""

import numpy as np
import pytest

from kullback import reference as ref
from kullback._kernels import tree
from kullback.tsne import barnes_hut, gradient
from kullback.tsne import repulsion as _repulsion

SIZES = [1, 2, 7, 8, 9, 65, 257]  # around lanes, leaves and groups
EPS = {np.float32: np.finfo(np.float32).eps, np.float64: np.finfo(np.float64).eps}


def scatter(n_points, n_components, dtype, seed=0):
    """Return clustered points with a span like that of an embedding."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(5, n_components)) * 20
    return (centres[rng.integers(5, size=n_points)] + rng.normal(size=(n_points, n_components))).astype(dtype)


def repulsion_scale(Y):
    """Return sum_j w_ij^2 |y_i - y_j|, the sum of magnitudes on which rounding errors act."""
    Y = Y.astype(float)
    distance = np.linalg.norm(Y[:, None] - Y[None], axis=2)
    return (distance / (1 + distance**2) ** 2).sum(axis=1).max()


def assert_same_repulsion(expected, actual, Y, dtype, terms):
    """Compare forces and Z within c eps times the sum of magnitudes of their terms.

    A term w^2 d changes by at most |dy| (1 + 8 d^2 w) w^2 <= 9 |dy| where a position is rounded by dy, but
    positions are exact here: what remains is the rounding of each term (8 operations) and of partial sums.
    """
    tolerance = (8 + terms) * EPS[dtype]
    assert np.abs(expected[0] - actual[0]).max() <= tolerance * repulsion_scale(Y)
    assert abs(expected[1] - actual[1]) <= tolerance * len(Y) + tolerance * expected[1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_barnes_hut_is_the_reference_cell_by_cell(at_level, n_threads, n_components, dtype):
    """The kernel accepts the very cells that the NumPy tree accepts, so even theta = 0.5 agrees to rounding.

    1,500 points are cut into several targets above the groups, whose expansions are handed down.
    """
    for n_points in [*SIZES, 1500]:
        Y = scatter(n_points, n_components, dtype)
        expected = ref.repulsive_forces(Y, method="barnes_hut", theta=0.5)
        actual = gradient.repulsive_forces(Y, method="barnes_hut", theta=0.5, n_threads=n_threads)
        assert_same_repulsion(expected, actual, Y, dtype, terms=16)


@pytest.mark.parametrize("dof", [1e-3, 0.5, 3.0, 100.0, 1e6])
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_barnes_hut_with_dof(at_level, n_components, dof):
    """Heavier and lighter tails see the same cells, in float64 to the 1e-13 of the exponential.

    The twin takes differences of powers of nearly 1 times dof.
    """
    Y = scatter(1000, n_components, np.float64)
    expected = ref.repulsive_forces(Y, method="barnes_hut", dof=dof)
    actual = gradient.repulsive_forces(Y, method="barnes_hut", dof=dof)
    tolerance = 1e-13 + 8 * dof * EPS[np.float64]
    np.testing.assert_allclose(actual[0], expected[0], rtol=0, atol=1000 * tolerance)
    assert actual[1] == pytest.approx(expected[1], abs=1000**2 * tolerance)


@pytest.mark.parametrize("dof", [1.0, 0.5])
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_barnes_hut_is_far_more_accurate_for_a_smaller_theta(at_level, n_components, dof):
    """Cells with their spread and expansions of third order: halving theta leaves less than a fifth of the error."""
    Y = scatter(5000, n_components, np.float64) * (1 if n_components == 3 else 3)
    exact, exact_q = gradient.repulsive_forces(Y, method="exact", dof=dof)
    errors = []
    for theta in (0.4, 0.2, 0.1):
        forces, sum_q = gradient.repulsive_forces(Y, method="barnes_hut", theta=theta, dof=dof)
        errors.append(np.linalg.norm(forces - exact) / np.linalg.norm(exact))
        assert abs(sum_q / exact_q - 1) < errors[-1]
    assert errors[1] < errors[0] / 5
    assert errors[2] < errors[1] / 5


def test_barnes_hut_error_falls_with_theta():
    """A smaller theta is nearer to the exact sum, and 0.5 is within 2 % of it."""
    Y = scatter(5000, 2, np.float64) * 3
    exact, _ = gradient.repulsive_forces(Y, method="exact")
    errors = [
        np.linalg.norm(gradient.repulsive_forces(Y, method="barnes_hut", theta=theta)[0] - exact)
        / np.linalg.norm(exact)
        for theta in (1.0, 0.5, 0.25, 0.0)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[1] < 0.02
    assert errors[3] < 1e-12


def test_barnes_hut_makes_room_for_kept_sources(at_level, monkeypatch):
    """Lists of sources that outgrow their scratch memory are made anew: no bit depends on how much there was."""
    Y = scatter(3000, 2, np.float32)
    expected = gradient.repulsive_forces(Y, method="barnes_hut", theta=0.2)
    for kept in (1, 40):
        monkeypatch.setattr(barnes_hut.BarnesHutRepulsion, "KEPT", kept)
        _repulsion._idle.clear()  # the engine of the call before has room already
        forces, sum_q = gradient.repulsive_forces(Y, method="barnes_hut", theta=0.2)
        assert forces.tobytes() == expected[0].tobytes()
        assert sum_q == expected[1]


def z_codes(Y):
    """Return Z-order codes of positions, a bit of each component in turn, as the reference quantises them."""
    cells, _ = ref.barnes_hut._quantise(Y.astype(np.float64), Y.dtype)
    bits = ref.barnes_hut.BITS[Y.shape[1]]
    codes = np.zeros(len(Y), np.uint64)
    for bit in range(bits):
        for k in range(Y.shape[1]):
            codes |= (cells[:, k] >> np.uint64(bit) & np.uint64(1)) << np.uint64(bit * Y.shape[1] + k)
    return codes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_z_order_is_the_stable_sort_of_the_codes(at_level, n_threads, n_components, dtype):
    """Few points and many, in one bucket and in all of them, more than a thread's own memory holds, and equal ones."""
    rng = np.random.default_rng(0)
    crowd = np.concatenate([rng.normal(size=(20_000, n_components)) * 1e-3, rng.normal(size=(500, n_components))])
    few = rng.integers(0, 3, size=(3000, n_components)).astype(float)
    for Y in [*(rng.normal(size=(n, n_components)) for n in (*SIZES, 1500, 40_000)), crowd, few]:
        Y = Y.astype(dtype)
        z_order = barnes_hut.ZOrder(Y.shape, dtype, n_threads)
        order = z_order(Y)
        codes = z_codes(Y)
        np.testing.assert_array_equal(order, np.argsort(codes, kind="stable"))
        np.testing.assert_array_equal(z_order.codes, codes[order])
        np.testing.assert_array_equal(z_order.columns[:, : len(Y)], Y[order].T)


@pytest.mark.parametrize(("deviation", "theta", "n_children"), [(0.1, 0.5, 0), (0.1, 0.0, 4), (1.0, 0.5, 4)])
def test_cells_that_no_target_opens_have_no_children(at_level, deviation, theta, n_children):
    """150 points within a fraction of the kernel are one leaf; the exact sum and wider maps divide them."""
    Y = (np.random.default_rng(0).normal(size=(150, 2)) * deviation).astype(np.float32)
    engine = barnes_hut.BarnesHutRepulsion(Y.shape, Y.dtype, theta, 1.0, 1)
    engine(Y, np.empty_like(Y))
    assert engine.tree.links[0, 1] == n_children


def test_cells_of_a_tree_stand_close_together():
    """Of the places there are, the first are taken, on any number of threads: the rest costs no memory."""
    Y = scatter(50_000, 2, np.float32)
    for n_threads in (1, 2, 5):
        engine = barnes_hut.BarnesHutRepulsion(Y.shape, Y.dtype, 0.5, 1.0, n_threads)
        engine.tree.cells[:] = -1
        engine(Y, np.empty_like(Y))
        masses = engine.tree.cells[:, 2]
        places = np.flatnonzero(masses >= 0)
        places = places[places >= tree.TOP_CELLS]
        assert places[-1] - tree.TOP_CELLS < len(places) * 1.15 + 64 * n_threads


@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_there_are_places_for_all_the_cells_there_can_be(at_level, n_components):
    """Points that halve their distance one after the other make nearly two cells each."""
    Y = np.ldexp(1.0, -np.arange(480))[:, None] * np.ones(n_components)
    for n_threads in (1, 5):
        engine = barnes_hut.BarnesHutRepulsion(Y.shape, Y.dtype, 0.0, 1.0, n_threads)
        engine.tree.links[:] = -1
        engine(Y, np.empty_like(Y))
        assert (engine.tree.links[:, 1] >= 0).sum() > 1.7 * len(Y)
        assert (engine.tree.links[-1] == -1).all()

"""Repulsion, attraction and the descent step against their NumPy twins, at every level, dtype and thread count."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kullback import _kernels
from kullback import reference as ref
from kullback.tsne import gradient
from kullback.tsne import repulsion as _repulsion
from kullback.tsne.rates import Rates

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
@pytest.mark.parametrize("n_components", [1, 2, 3, 4])
def test_exact_repulsion_is_the_reference(at_level, n_threads, n_components, dtype):
    """All pairs: forces and Z agree to the rounding of a sum of up to 1,024 terms a tile."""
    for n_points in [*SIZES, 1025]:
        Y = scatter(n_points, n_components, dtype)
        actual = gradient.repulsive_forces(Y, method="exact", n_threads=n_threads)
        assert actual[0].dtype == dtype
        assert_same_repulsion(ref.repulsive_forces(Y), actual, Y, dtype, terms=16)


@pytest.mark.parametrize("dof", [0.5, 2.0])
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_exact_repulsion_with_dof(at_level, n_components, dof):
    """Heavier and lighter tails agree with the reference in float64."""
    Y = scatter(65, n_components, np.float64)
    expected = ref.repulsive_forces(Y, dof=dof)
    actual = gradient.repulsive_forces(Y, method="exact", dof=dof)
    np.testing.assert_allclose(actual[0], expected[0], rtol=0, atol=1e-13 * 65)
    assert actual[1] == pytest.approx(expected[1], rel=1e-13)


@pytest.mark.parametrize("dof", [1.0, 0.5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_components", [1, 2])
def test_fft_is_the_spline_interpolation(at_level, n_threads, n_components, dtype, dof):
    """The grid, the splines and the convolution are those of the reference, on a grid of another size.

    The inverse of the splines' transform is at most 3^2 in each dimension, twice; potentials are up to n, and
    slopes are divided by a spacing of a quarter or more. The smaller grid feels its periodic image by 2e-6.
    """
    rng = np.random.default_rng(0)
    for n_points in (1, 2, 65):
        Y = (rng.normal(size=(n_points, n_components)) * 4).astype(dtype)
        expected = ref.repulsive_forces(Y, method="fft", dof=dof)
        actual = gradient.repulsive_forces(Y, method="fft", dof=dof, n_threads=n_threads)
        tolerance = 4 * 81 * n_points * EPS[dtype] + 2e-6
        assert np.abs(actual[0] - expected[0]).max() <= tolerance
        assert abs(actual[1] - expected[1]) <= tolerance * n_points


@pytest.mark.parametrize("dof", [1.0, 2.0])
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_fft_converges_to_the_exact_sum(at_level, n_components, dof):
    """With a finer grid forces approach the exact ones, in every dimension and for every dof."""
    Y = np.random.default_rng(0).normal(size=(300, n_components)) * 3
    exact, sum_q = ref.repulsive_forces(Y, dof=dof)
    errors = []
    for tolerance in (0.1, 0.01, 1e-3) if n_components == 3 else (0.1, 0.01, 1e-4):
        accuracy = _repulsion.choose_accuracy(0.5, tolerance, n_components)
        forces = np.empty_like(Y)
        sum_fft = _repulsion.AutoRepulsion(Y.shape, Y.dtype, accuracy, dof, 2).engine("fft")(Y, forces)
        errors.append(np.linalg.norm(forces - exact) / np.linalg.norm(exact))
        assert errors[-1] <= tolerance
        assert sum_fft == pytest.approx(sum_q, rel=tolerance)
    assert errors == sorted(errors, reverse=True)


def test_repulsion_has_the_same_bits_on_any_number_of_threads(at_level):
    """Thread counts 1, 2, 3 and 5 give equal bytes in both methods."""
    Y = scatter(5000, 2, np.float32)
    for method in ("exact", "barnes_hut", "fft", "auto"):
        results = [gradient.repulsive_forces(Y, method=method, n_threads=n) for n in (1, 2, 3, 5)]
        assert {(forces.tobytes(), sum_q) for forces, sum_q in results} == {(results[0][0].tobytes(), results[0][1])}


@pytest.mark.parametrize("method", ["exact", "barnes_hut", "fft"])
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_an_engine_carries_nothing_over(at_level, method, n_components):
    """Its scratch memory is used again: a second map between two calls changes no bit of the first."""
    Y, other = scatter(500, n_components, np.float32), scatter(500, n_components, np.float32, seed=1)
    engine = _repulsion.make_repulsion(Y.shape, Y.dtype, method=method, theta=0.5, dof=1.0, n_threads=2)
    forces, again = np.empty_like(Y), np.empty_like(Y)
    engine(other * 1.1, forces)  # the larger map first, so that both are on one grid
    sum_q = engine(Y, forces)
    engine(other * 1.1, again)
    assert engine(Y, again) == sum_q
    assert again.tobytes() == forces.tobytes()


@pytest.mark.parametrize("n_components", [1, 2, 3])
@pytest.mark.parametrize("method", ["exact", "barnes_hut", "fft", "auto"])
def test_a_call_uses_the_scratch_of_the_last_one_of_its_kind(method, n_components):
    """One engine is kept, and no bit depends on what map it had before; no engine serves two calls at once."""
    Y = scatter(1500, n_components, np.float32) / 4
    maps = [Y, Y * 1.02, Y * 3, Y / 100, Y]
    expected = []
    for positions in maps:
        _repulsion._idle.clear()
        forces, sum_q = gradient.repulsive_forces(positions, method=method, n_threads=2)
        expected.append((forces.tobytes(), sum_q))
    (kept,) = _repulsion._idle.values()
    for positions, (forces, sum_q) in zip(maps, expected, strict=True):
        again = gradient.repulsive_forces(positions, method=method, n_threads=2)
        assert list(_repulsion._idle.values()) == [kept]
        assert (again[0].tobytes(), again[1]) == (forces, sum_q)
    kind = {"Y": Y, "method": method, "n_threads": 2}
    others = [{"theta": 0.4}, {"tolerance": 0.1}, {"dof": 0.8}, {"n_threads": 1}, {"Y": Y[:-1]}, {"Y": Y.astype(float)}]
    for other in others:
        gradient.repulsive_forces(**kind)
        (before,) = _repulsion._idle.values()
        gradient.repulsive_forces(**{**kind, **other})
        (last,) = _repulsion._idle.values()
        assert last is not before
    with ThreadPoolExecutor(4) as pool:
        for forces, sum_q in pool.map(lambda _: gradient.repulsive_forces(**kind), range(20)):
            assert (forces.tobytes(), sum_q) == expected[0]


def test_large_scratch_is_not_kept(monkeypatch):
    """The scratch memory of many points is not kept, and neither is that of a large grid."""
    Y = scatter(1500, 2, np.float32)
    for method, size in (("barnes_hut", 1499), ("fft", 5000)):
        monkeypatch.setattr(_repulsion, "IDLE_SIZE", size)
        _repulsion._idle.clear()
        gradient.repulsive_forces(Y, method=method)
        assert not _repulsion._idle


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_components", [1, 2, 3, 4])
def test_attraction_is_the_reference(at_level, n_threads, n_components, dtype, make_affinities):
    """Sparse attraction agrees with the dense formula to the rounding of P, Y and the sum of a row."""
    for n_points in [n for n in SIZES if n > 1]:
        P, Y = make_affinities(n_points), scatter(n_points, n_components, dtype)
        for dof in (1.0, 0.7):
            expected = ref.attractive_forces(P, Y, dof=dof)
            actual = gradient.attractive_forces(P, Y, dof=dof, n_threads=n_threads)
            # |p w d| <= p / 2 for dof = 1; a row of P sums to at most 1, and about 10 terms are added
            assert np.abs(expected - actual).max() <= 16 * EPS[dtype]
            assert actual.dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_attraction_has_the_same_bits_on_any_number_of_threads(at_level, dtype, make_affinities):
    """Rows write their own results, so threads cannot matter; nor may they in the loss."""
    P, Y = make_affinities(3000), scatter(3000, 2, dtype)  # with fewer points, one thread does all
    results = [gradient.attractive_forces(P, Y, n_threads=n).tobytes() for n in (1, 2, 3, 5)]
    assert len(set(results)) == 1
    assert len({gradient.tsne_loss(P, Y, n_threads=n) for n in (1, 2, 3, 5)}) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_permuted_rows_are_the_permuted_matrix(level, n_threads, dtype, make_affinities):
    """``permute_rows`` is P[order][:, order], entry by entry."""
    P = make_affinities(257).astype(dtype)
    order = np.random.default_rng(1).permutation(257).astype(np.int32)
    rank = np.argsort(order).astype(np.int32)
    parts = P.data, P.indices.astype(np.int32), P.indptr.astype(np.int64)
    out = tuple(np.empty_like(part) for part in parts)
    _kernels.load("attraction", level).permute_rows(*parts, order, rank, *out, n_threads)
    permuted = type(P)((out[0], out[1], out[2]), shape=P.shape)
    assert (permuted.todense() == P.todense()[order][:, order]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_components", [1, 2, 3])
@pytest.mark.parametrize("max_step", [5.0, 0.01])
def test_descent_is_the_reference(level, n_threads, n_components, dtype, max_step):
    """Three steps in a row: positions, velocity, gains, centre and gradient norm follow the formulas."""
    rng = np.random.default_rng(0)
    n_points = 1025
    descent = _kernels.load("descent", level)
    state = [rng.normal(size=(n_points, n_components)).astype(dtype) for _ in range(2)] + [
        np.ones((n_points, n_components), dtype)
    ]
    expected = [part.astype(np.float64) for part in state]
    centre, expected_centre = np.zeros(n_components), np.zeros(n_components)
    sums = np.empty((-(-n_points // descent.BLOCK_POINTS), n_components + 1))
    rates = Rates(12.0, 0.5, learning_rate=0.1, momentum=0.8, max_step=max_step, gain_step=0.3, gain_decay=0.9)
    for _ in range(3):
        forces = [rng.normal(size=(n_points, n_components)).astype(dtype) for _ in range(2)]
        norm = descent.descend(*state, *forces, rates, centre, sums, n_threads)
        expected_norm = ref.descend(*expected, *(f.astype(np.float64) for f in forces), rates, expected_centre)
        assert norm == pytest.approx(expected_norm, rel=1e-12)  # inputs are the same numbers, sums are float64
        # steps are of order 12 * 0.1 * gain * 4: a few units in the last place of 10, three times
        for part, twin in zip(state, expected, strict=True):
            assert np.abs(part - twin).max() <= 3 * 32 * EPS[dtype]
        assert np.abs(centre - expected_centre).max() <= 3 * 32 * EPS[dtype]


def test_descent_has_the_same_bits_on_any_number_of_threads(level):
    """Blocks are fixed, so their sums are added in one order."""
    rng = np.random.default_rng(0)
    descent = _kernels.load("descent", level)
    forces = [rng.normal(size=(5000, 2)).astype(np.float32) for _ in range(2)]
    rates = Rates(exaggeration=1, inverse_sum_q=1, learning_rate=1, momentum=0.8, max_step=5)
    results = set()
    for n_threads in (1, 2, 3, 5):
        state = [np.ones((5000, 2), np.float32) for _ in range(3)]
        centre, sums = np.zeros(2), np.empty((5, 3))
        norm = descent.descend(*state, *forces, rates, centre, sums, n_threads)
        results.add((norm, centre.tobytes(), *(part.tobytes() for part in state)))
    assert len(results) == 1

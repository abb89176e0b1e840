"""Points with masses: a point of mass m is m rows at one position."""

import pickle

import numpy as np
import pytest
from scipy import sparse

from kullback import gradient
from kullback import reference as ref
from kullback.tsne import Embedding


def scatter(n_points, n_components, dtype=np.float64, spread=4.0, seed=0):
    """Return positions, integer masses from 1 to 5, and the positions of the rows that these stand for."""
    rng = np.random.default_rng(seed)
    Y = (rng.normal(size=(n_points, n_components)) * spread).astype(dtype)
    masses = rng.integers(1, 6, size=n_points)
    return Y, masses, np.repeat(Y, masses, axis=0)


def joint(masses, seed=0, *, diagonal=False):
    """Return a random P of points, and the P of the rows among whose pairs that of each two points is divided evenly.

    With ``diagonal``, rows of one point attract each other, which takes P a diagonal.
    """
    rng = np.random.default_rng(seed)
    n_points = len(masses)
    weights = rng.random((n_points, n_points)) * (rng.random((n_points, n_points)) < 0.5)
    weights = np.triu(weights, 0 if diagonal else 1)
    weights[0, -1] = 1  # never empty
    np.fill_diagonal(weights, weights.diagonal() * (masses > 1))
    P = weights + weights.T
    P /= P.sum()
    pairs = np.outer(masses, masses) - np.diag(masses)
    owner = np.repeat(np.arange(n_points), masses)
    rows = (P / np.where(pairs > 0, pairs, 1))[np.ix_(owner, owner)]
    np.fill_diagonal(rows, 0)
    return P, rows


@pytest.mark.parametrize("dof", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("n_components", [1, 2, 3, 4])
def test_reference_is_that_of_repeated_rows(n_components, dof):
    """Integer masses give the loss of repeated rows, and the forces of all rows of a point together."""
    Y, masses, rows = scatter(30, n_components)
    owner = np.repeat(np.arange(len(Y)), masses)
    P, P_rows = joint(masses, diagonal=True)
    grids = n_components == 1 or (n_components == 2 and dof == 1)  # they take minutes in three components
    methods = ["exact", *(["barnes_hut"] if n_components < 4 else []), *(["fft"] if grids else [])]
    for method in methods:
        # Trees of other points approximate differently, so the comparison opens every cell.
        options = {"dof": dof, "method": method, "theta": 0 if method == "barnes_hut" else 0.5}
        forces, sum_q = ref.repulsive_forces(Y, masses=masses, **options)
        of_rows, sum_of_rows = ref.repulsive_forces(rows, **options)
        np.testing.assert_allclose(forces, masses[:, None] * of_rows[np.unique(owner, return_index=True)[1]], atol=1e-9)
        assert sum_q == pytest.approx(sum_of_rows, rel=1e-11)
        loss, loss_of_rows = (
            ref.tsne_loss(P, Y, masses=masses, **options), ref.tsne_loss(P_rows, rows, **options)
        )  # fmt: skip
        np.testing.assert_allclose(loss, loss_of_rows, rtol=1e-10)


ENGINES = (("exact", 0.5), ("barnes_hut", 0.0), ("fft", 0.5), ("fft", 0.3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dof", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("n_components", [1, 2, 3, 4])
def test_engines_follow_repeated_rows(at_level, n_threads, n_components, dof, dtype):
    """Every engine gives whole points the forces of their rows, the Z of the rows, and what the reference says.

    Barnes-Hut opens every cell: at theta = 0.5, its trees of points and of rows differ. The FFT errs by its spacing,
    and in float32 by the rounding of its sums over the grid, on both sides alike.
    """
    Y, masses, rows = scatter(120, n_components, dtype, spread=1.5)
    first = np.cumsum(masses) - masses
    expected, sum_expected = ref.repulsive_forces(Y.astype(float), masses=masses, dof=dof)
    rounding = 1e-6 if dtype == np.float32 else 1e-12
    grids = n_threads == 1 and dof == 1  # they take long in three components
    n_engines = {1: 4, 2: 4, 3: 3 if grids else 2, 4: 1}[n_components]
    for method, theta in ENGINES[:n_engines]:
        options = {"method": method, "theta": theta, "dof": dof, "n_threads": n_threads}
        forces, sum_q = gradient.repulsive_forces(Y, masses=masses, **options)
        of_rows, sum_of_rows = gradient.repulsive_forces(rows, **options)
        of_rows = of_rows[first] * masses[:, None]
        spacing_error = 0.05 if method == "fft" else 0
        assert forces.dtype == dtype
        assert np.linalg.norm(forces - expected) <= (rounding + spacing_error) * np.linalg.norm(expected)
        assert sum_q == pytest.approx(sum_expected, rel=rounding + spacing_error)
        of_grid = 20 if method == "fft" and dtype == np.float32 else 1
        assert np.linalg.norm(forces - of_rows) <= of_grid * rounding * np.linalg.norm(of_rows)
        assert sum_q == pytest.approx(sum_of_rows, rel=of_grid * rounding)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_trees_hold_their_accuracy(at_level, n_components, dtype):
    """At theta = 0.5 and at a tolerance, far cells of points with masses from 1e-3 to 1e3 err like those of rows."""
    rng = np.random.default_rng(1)
    Y = (rng.normal(size=(2500, n_components)) * 10).astype(dtype)
    masses = 10 ** rng.uniform(-3, 3, len(Y))
    for dof in (0.5, 1.0, 2.0):
        exact, sum_exact = gradient.repulsive_forces(Y.astype(float), masses=masses, method="exact", dof=dof)
        for options in ({"theta": 0.5}, {"tolerance": 1e-3}):
            forces, sum_q = gradient.repulsive_forces(Y, masses=masses, method="barnes_hut", dof=dof, **options)
            bound = options.get("tolerance", 0.03)
            assert np.linalg.norm(forces - exact) <= bound * np.linalg.norm(exact)
            assert sum_q == pytest.approx(sum_exact, rel=bound)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_isolated_and_coinciding_points(at_level, dtype):
    """Z keeps its precision where it is far below its self terms, and where points coincide."""
    Y = np.array([[0, 0], [1e5, 0], [0, 1e5], [1e5, 1e5]], dtype)
    masses = np.array([0.25, 0.5, 1.0, 0.75])
    together = np.repeat(Y, 3, axis=0)
    for dof in (0.5, 1.0, 2.0):
        for points, m in ((Y, masses), (together, np.tile([1e-3, 2.0, 40.0], 4)), (Y, np.array([1, 5, 1e6, 1e-6]))):
            expected = ref.repulsive_forces(points.astype(float), masses=m, dof=dof)
            for method in ("exact", "barnes_hut"):
                forces, sum_q = gradient.repulsive_forces(points, masses=m, dof=dof, method=method, theta=0)
                assert sum_q == pytest.approx(expected[1], rel=1e-6 if dtype == np.float32 else 1e-12)
                scale = np.abs(expected[0]).max()
                np.testing.assert_allclose(forces / scale, expected[0] / scale, atol=2e-6)


@pytest.mark.parametrize("dof", [0.5, 1.0, 2.0])
def test_gradient_is_the_slope_of_the_loss(dof):
    """For real masses, the gradient with respect to a point is the finite difference of the loss."""
    rng = np.random.default_rng(2)
    Y, masses = rng.normal(size=(12, 2)), 10 ** rng.uniform(-1, 1, 12)
    P, _ = joint(np.ceil(masses).astype(int))
    slope = gradient.tsne_gradient(P, Y, masses=masses, dof=dof)
    np.testing.assert_allclose(slope, ref.tsne_gradient(P, Y, masses=masses, dof=dof), atol=1e-14)
    for point, component in ((0, 0), (5, 1), (11, 0)):
        step = np.zeros_like(Y)
        step[point, component] = 1e-5
        above, below = (
            gradient.tsne_loss(P, y, masses=masses, dof=dof).kl_divergence for y in (Y + step, Y - step)
        )  # fmt: skip
        assert slope[point, component] == pytest.approx((above - below) / 2e-5, abs=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sparse_P", [False, True])
def test_loss_follows_repeated_rows(dtype, sparse_P):
    """The loss, its shares and the gradient are those of the rows, with pairs of rows of one point on P's diagonal."""
    Y, masses, rows = scatter(60, 2, dtype)
    P, P_rows = joint(masses, diagonal=True)
    assert P.diagonal().any()
    if sparse_P:
        P, P_rows = sparse.csr_array(P), sparse.csr_array(P_rows)
    rel = 1e-6 if dtype == np.float32 else 1e-12
    first = np.cumsum(masses) - masses
    expected = gradient.tsne_loss(P_rows, rows, exact=True)
    np.testing.assert_allclose(gradient.tsne_loss(P, Y, masses=masses), expected, rtol=rel)
    np.testing.assert_allclose(gradient.tsne_loss(P, Y, masses=masses, exact=True), expected, rtol=1e-6)
    shares = gradient.point_kl(P, Y, masses=masses)
    of_rows = np.add.reduceat(gradient.point_kl(P_rows, rows), first)
    np.testing.assert_allclose(shares, of_rows, atol=rel)
    assert shares.sum() == pytest.approx(expected.kl_divergence, rel=1e-6)
    slope = gradient.tsne_gradient(P, Y, masses=masses)
    slope_of_rows = np.add.reduceat(gradient.tsne_gradient(P_rows, rows), first)
    np.testing.assert_allclose(slope, slope_of_rows, atol=10 * rel * np.abs(slope_of_rows).max())
    assert gradient.gradient_error(P, Y, masses=masses) < 10 * rel


def test_masses_of_one_change_no_bit():
    """Masses that are all 1 take the way without masses."""
    Y, _, _ = scatter(1200, 2, np.float32)
    for method in gradient.METHODS:
        forces, sum_q = gradient.repulsive_forces(Y, method=method)
        for ones in (np.ones(1200), np.ones(1200, int), [True] * 1200):
            again, sum_again = gradient.repulsive_forces(Y, masses=ones, method=method)
            assert (again.tobytes(), sum_again) == (forces.tobytes(), sum_q)


@pytest.mark.parametrize(
    ("masses", "message"),
    [
        ([1.0, 2.0], r"masses must have shape \(3,\)"),
        ([[1.0, 2.0, 3.0]], r"masses must have shape \(3,\)"),
        ([1.0, 0.0, 2.0], r"got 0.0 for point 1; points of weight zero have to be left out"),
        ([1.0, 2.0, -1.0], r"got -1.0 for point 2"),
        ([np.nan, 2.0, 1.0], r"got nan for point 0"),
        ([1.0, np.inf, 1.0], r"got inf for point 1"),
        ([1.0, 1e10, 1.0], r"masses must be in \[1e-09, 1e\+09\]"),
    ],
)
def test_bad_masses_are_refused(masses, message):
    """The message names the argument, the point and what is accepted."""
    Y = np.arange(6.0).reshape(3, 2)
    P = np.array([[0, 0.25, 0], [0.25, 0, 0.25], [0, 0.25, 0]])
    for call in (
        lambda: gradient.repulsive_forces(Y, masses=masses),
        lambda: gradient.attractive_forces(P, Y, masses=masses),
        lambda: gradient.tsne_gradient(P, Y, masses=masses),
        lambda: gradient.tsne_loss(P, Y, masses=masses),
        lambda: gradient.point_kl(P, Y, masses=masses),
        lambda: gradient.gradient_error(P, Y, masses=masses),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_single_row_has_no_pairs_of_its_own():
    """P may have a diagonal only for points of more than one row."""
    P = np.array([[0.5, 0.125, 0.125], [0.125, 0, 0], [0.125, 0, 0]])
    Y = np.arange(6.0).reshape(3, 2)
    assert gradient.tsne_loss(P, Y, masses=[3, 1, 1]).kl_divergence > 0
    with pytest.raises(ValueError, match=r"P must be 0 on its diagonal where a mass is at most 1, got 0\.5"):
        gradient.tsne_loss(P, Y, masses=[1, 3, 1])
    with pytest.raises(ValueError, match=r"P must be 0 on its diagonal, got 0\.5"):
        gradient.tsne_loss(P, Y)


# ---- Embedding -----------------------------------------------------------------------------------


def descend(P, start, masses=None, **options):
    """Return an embedding after both phases of a short descent, and the gradient's norms that its callback saw.

    It is short because the difference of two descents grows tenfold in five iterations.
    """
    norms = []
    embedding = Embedding(P, start, masses=masses, method="exact", **options)
    embedding.optimize(5, exaggeration=4)
    embedding.optimize(5, callback=lambda state: norms.append(state.gradient_norm), callback_every=5)
    return embedding, norms


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dof", [0.5, 1.0])
def test_a_descent_is_that_of_repeated_rows(dtype, dof):
    """Positions, centre, loss, learning rate and gradient are those of the rows, which stay together by themselves."""
    Y, masses, rows = scatter(50, 2, dtype, spread=0.1)
    P, P_rows = joint(masses, diagonal=True)
    first = np.cumsum(masses) - masses
    embedding, norms = descend(P, Y, masses, dof=dof)
    of_rows, norms_of_rows = descend(P_rows, rows, dof=dof)
    atol = 1e-3 if dtype == np.float32 else 1e-10  # of positions of about 5; rows of one point drive rounding apart
    np.testing.assert_allclose(embedding.positions, of_rows.positions[first], atol=atol)
    assert embedding.learning_rate == of_rows.learning_rate == masses.sum()
    np.testing.assert_allclose(norms, norms_of_rows, rtol=10 * atol)
    for name in ("entropy", "cross_entropy", "kl_divergence"):
        np.testing.assert_allclose(embedding.loss[name], of_rows.loss[name], rtol=10 * atol)


def test_small_equal_masses_descend_like_none():
    """Masses that are all one number below 1 change no Q, and the learning rate follows them."""
    Y, _, _ = scatter(50, 2, spread=0.1)
    P, _ = joint(np.ones(50, int))
    expected, _ = descend(P, Y)
    actual, _ = descend(P, Y, np.full(50, 0.25))
    np.testing.assert_allclose(actual.positions, expected.positions, atol=1e-10)
    np.testing.assert_allclose(actual.loss["kl_divergence"], expected.loss["kl_divergence"], rtol=1e-10)
    ones, _ = descend(P, Y, np.ones(50))
    assert ones.positions.tobytes() == expected.positions.tobytes()


def test_masses_follow_their_points(sorted_points, tmp_path):
    """Points are sorted every 50 iterations and saved in the user's order: neither moves a mass to another point."""
    P, start = sorted_points
    masses = np.random.default_rng(0).integers(1, 9, len(start)).astype(float)
    embedding = Embedding(P, start, masses=masses, n_threads=1).optimize(51, exaggeration=12)
    embedding.save(tmp_path / "map.npz")
    again = Embedding.load(tmp_path / "map.npz", n_threads=2)
    copy = pickle.loads(pickle.dumps(again))
    for one in (embedding, again, copy):
        one.optimize(20)
        assert one.positions.tobytes() == embedding.positions.tobytes()
        exact = gradient.tsne_loss(P.P, one.positions, masses=masses, exact=True)
        assert one.loss[-1]["entropy"] == pytest.approx(exact.entropy, rel=1e-5)
        assert one.loss[-1]["kl_divergence"] == pytest.approx(exact.kl_divergence, rel=1e-2)
        assert np.abs(masses @ one.positions).max() < 1e-3 * masses.sum()


def test_stop_rules_hold_with_masses():
    """A map of masses below 1 unfolds and comes to rest like any other."""
    Y, _, _ = scatter(50, 2, spread=1e-3)
    P, _ = joint(np.ones(50, int))
    for masses in (None, np.full(50, 1e-3), np.full(50, 0.5)):
        embedding = Embedding(P, Y, masses=masses).optimize(3000, tol=1e-3)
        assert embedding.stop_reason == "tol"


@pytest.mark.parametrize("masses", [[1.0, 0.0], [1.0, -1.0], [1.0, np.nan], [1.0]])
def test_embedding_refuses_bad_masses(masses):
    """The same check as that of the functions."""
    with pytest.raises(ValueError, match="masses must"):
        Embedding([[0, 0.5], [0.5, 0]], [[0.0, 0.0], [1.0, 0.0]], masses=masses)

"""New points in a fixed map at every SIMD level: against NumPy, finite differences and the gradient of t-SNE."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from kullback import _kernels, gradient
from kullback import reference as ref
from kullback.tsne.fft_repulsion import FFTRepulsion, Spline

NO_GRID = np.empty((1, 1, 0))


def scene(n_points, n_components, n_new=11, k=7, seed=0):
    """Return a map of blobs, the affinities of new points, their neighbours and the box around the map."""
    rng = np.random.default_rng(seed)
    centres = 15 * rng.normal(size=(4, n_components))
    Y = centres[rng.integers(4, size=n_points)] + rng.normal(size=(n_points, n_components))
    k = min(k, n_points)
    neighbors = np.stack([rng.choice(n_points, k, replace=False) for _ in range(n_new)]).astype(np.int32)
    box = np.stack([Y.min(axis=0) - 5, Y.max(axis=0) + 5])
    return Y, rng.dirichlet(np.ones(k), size=n_new), neighbors, box


def make_field(Y, box, **options):
    """Return what the kernel reads of a map."""
    defaults = {"potential": NO_GRID, "spacing": 1.0, "dof": 1.0, "mean_sum": 3.0, "tolerance": 1e-9}
    defaults["masses"] = np.empty(0)
    return SimpleNamespace(positions=Y, box=box, **{**defaults, **options})


def place(level, Y, p, neighbors, box, *, start=None, max_iter=200, dof=1.0, masses=None, n_threads=1, grid=None):
    """Run the kernel; return positions, halves of the gradient and losses."""
    n_new, k = p.shape
    positions = np.empty((n_new, Y.shape[1])) if start is None else start.copy()
    slopes, losses = np.full_like(positions, np.nan), np.full(n_new, np.nan)
    potential, spacing = grid or (NO_GRID, 1.0)
    masses = np.empty(0) if masses is None else masses
    field = make_field(Y, box, potential=potential, spacing=spacing, dof=dof, masses=masses)
    rows = p.reshape(-1), neighbors.reshape(-1), np.arange(n_new + 1, dtype=np.int64) * k
    scratch = np.empty((n_new, 2 * Y.shape[1]))
    kernel = _kernels.load("placement", level)
    if start is None:
        kernel.start_points(*rows, field, scratch, positions, n_threads)
    kernel.place_points(*rows, field, max_iter, scratch, positions, slopes, losses, n_threads)
    return positions, slopes, losses


@pytest.mark.parametrize("dof", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("n_components", [1, 2, 3, 4])
def test_loss_and_slope_against_reference(level, n_components, dof):
    """At given positions, in the map and far outside, the kernel gives the twin's loss and slope."""
    for n_points in (1, 2, 9, 257):
        Y, p, neighbors, box = scene(n_points, n_components)
        start = np.random.default_rng(1).uniform(box[0] - 50, box[1] + 50, size=(len(p), n_components))
        start[0] = Y[0]
        for masses in (None, np.random.default_rng(2).uniform(0.1, 2, n_points)):
            options = {"dof": dof, "masses": masses}
            positions, slopes, losses = place(level, Y, p, neighbors, box, start=start, max_iter=0, **options)
            np.testing.assert_array_equal(positions, start)
            for i, y in enumerate(start):
                loss, half, _ = ref.placement_loss(p[i], neighbors[i], Y, y, mean_sum=3.0, **options)
                # log_fast is good to 4 eps; sums of up to 257 positive terms
                assert losses[i] == pytest.approx(loss, rel=1e-13)
                np.testing.assert_allclose(slopes[i], half, rtol=0, atol=1e-13 * (1 + n_points / 3))


@pytest.mark.parametrize("dof", [1.0, 2.0])
def test_slope_is_the_derivative_of_the_loss(level, dof):
    """Central differences of the kernel's own loss give twice its slope, with and without a grid."""
    Y, p, neighbors, box = scene(65, 2)
    engine = FFTRepulsion(Y.shape, np.float64, Spline(6, 0.25), dof, 1)
    potential = engine.sum_potential(Y, *box)
    start = np.random.default_rng(1).uniform(*box, size=(len(p), 2))
    for grid in (None, (potential, engine.spacing)):
        _, slopes, _ = place(level, Y, p, neighbors, box, start=start, max_iter=0, dof=dof, grid=grid)
        for k, step in enumerate(1e-5 * np.eye(2)):
            up, down = (
                place(level, Y, p, neighbors, box, start=start + sign * step, max_iter=0, dof=dof, grid=grid)[2]
                for sign in (1, -1)
            )
            # third derivatives are below 20 and losses below 20: 1e-10 * 20 / 6 + eps * 20 / 1e-5
            np.testing.assert_allclose((up - down) / 2e-5, 2 * slopes[:, k], rtol=0, atol=2e-9)


@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_grid_against_all_points(level, n_components):
    """The potential from splines is the sum over the map: to 2e-4 where up to 300 points repel."""
    Y, p, neighbors, box = scene(300, n_components)
    engine = FFTRepulsion(Y.shape, np.float64, Spline(6, 0.25), 1.0, 1)
    grid = engine.sum_potential(Y, *box), engine.spacing
    start = np.random.default_rng(1).uniform(*box, size=(len(p), n_components))
    exact, splines = (place(level, Y, p, neighbors, box, start=start, max_iter=0, grid=g) for g in (None, grid))
    np.testing.assert_allclose(splines[2], exact[2], rtol=0, atol=2e-4)
    np.testing.assert_allclose(splines[1], exact[1], rtol=0, atol=2e-3)


@pytest.mark.parametrize("n_components", [1, 2, 3, 5])
def test_descent_against_reference(level, n_threads, n_components):
    """The same start, the same steps, the same end."""
    for n_points in (1, 2, 9, 65):
        Y, p, neighbors, box = scene(n_points, n_components, n_new=35)
        positions, _, losses = place(level, Y, p, neighbors, box, n_threads=n_threads)
        for i in range(0, 35, 4):
            y, loss = ref.place_point(p[i], neighbors[i], Y, mean_sum=3.0, box=box, tolerance=1e-9, max_iter=200)
            # F is flat at its minimum: an error of 1e-13 in F is one of 1e-6 in y
            assert losses[i] == pytest.approx(loss, rel=1e-9)
            np.testing.assert_allclose(positions[i], y, rtol=0, atol=1e-4)


def test_descent_ends_at_a_minimum(level):
    """The slope has vanished, the loss is not above that of any neighbour's position, and the box is kept."""
    Y, p, neighbors, box = scene(257, 2, n_new=40)
    positions, slopes, losses = place(level, Y, p, neighbors, box, max_iter=2000)
    assert np.abs(slopes).max() < 1e-5
    for i in range(40):
        starts = [ref.placement_loss(p[i], neighbors[i], Y, Y[j], mean_sum=3.0)[0] for j in neighbors[i]]
        assert losses[i] <= min(starts) + 1e-12
    tight = np.stack([positions.mean(axis=0) - 1e-3, positions.mean(axis=0) + 1e-3])
    kept, _, _ = place(level, Y, p, neighbors, tight, start=np.repeat(tight[:1], 40, axis=0))
    assert (kept >= tight[0]).all()
    assert (kept <= tight[1]).all()


def test_slope_of_a_point_of_the_map_is_the_gradient_of_t_sne(level):
    """With n times its row of P, a point of the map feels n / 4 times the gradient of the loss of the whole map."""
    rng = np.random.default_rng(0)
    Y = 3 * rng.normal(size=(65, 2))
    weights = rng.random((65, 65)) * (rng.random((65, 65)) < 0.2)
    np.fill_diagonal(weights, 0)
    weights = sparse.csr_array(weights + weights.T)
    P = sparse.csr_array(weights / weights.sum())
    _, sum_q = gradient.repulsive_forces(Y, method="exact")
    slopes = np.empty_like(Y)
    rows = 65 * P.data, P.indices.astype(np.int32), P.indptr.astype(np.int64)
    field = make_field(Y, np.stack([Y.min(0), Y.max(0)]), mean_sum=sum_q / 65)
    _kernels.load("placement", level).place_points(
        *rows, field, 0, np.empty((65, 4)), Y.copy(), slopes, np.empty(65), 1
    )
    # 65 terms of order 1 in either sum
    np.testing.assert_allclose(slopes, 65 / 4 * ref.tsne_gradient(P, Y), rtol=0, atol=1e-12)


def test_rows_do_not_depend_on_their_batch(level):
    """The same bits alone, in any part of the batch and at any alignment."""
    Y, p, neighbors, box = scene(300, 2, n_new=40, k=13)
    engine = FFTRepulsion(Y.shape, np.float64, Spline(6, 0.25), 1.0, 1)
    for grid in (None, (engine.sum_potential(Y, *box), engine.spacing)):
        positions = place(level, Y, p, neighbors, box, grid=grid)[0]
        for part in (slice(3, 4), slice(1, 19), slice(39, None, -1)):
            fewer = place(level, Y, p[part].copy(), neighbors[part].copy(), box, grid=grid, n_threads=2)[0]
            np.testing.assert_array_equal(fewer, positions[part])

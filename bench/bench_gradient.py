"""Repulsion, attraction and the loss, beside openTSNE's kernels. Run with ``--full --benchmark-enable``.

The map is a mixture of 2-D Gaussians, as dense as an embedding in the middle of a run. mnist.py runs MNIST itself.
"""

import numpy as np
import pytest
from scipy import sparse

from kullback import gradient
from kullback import reference as ref
from kullback.tsne import barnes_hut, repulsion

THREADS = 2


def peer(name):
    """Return a module of a peer, or skip the benchmark that needs it."""
    return pytest.importorskip(name, reason=f"{name} is not installed")


@pytest.fixture(scope="module")
def map_points(full):
    """Return a map in float32, of 63,000 points with ``--full`` and of 300 without."""
    n_points = 63_000 if full else 300
    rng = np.random.default_rng(0)
    centres = rng.uniform(-60, 60, size=(100, 2))
    return (centres[rng.integers(100, size=n_points)] + 6 * rng.normal(size=(n_points, 2))).astype(np.float32)


@pytest.fixture(scope="module")
def affinities(map_points):
    """Return a symmetric P with about 125 entries a row, between points that are near on the Z-order curve."""
    n_points = len(map_points)
    rng = np.random.default_rng(1)
    order = barnes_hut.ZOrder(map_points.shape, map_points.dtype, 1)(map_points).copy()
    rows = np.repeat(np.arange(n_points), 62)
    columns = np.clip(rows + rng.integers(1, 300, size=rows.size), 0, n_points - 1)
    keep = rows != columns
    half = sparse.csr_array((rng.random(keep.sum()), (order[rows[keep]], order[columns[keep]])), (n_points, n_points))
    P = half + half.T
    return (P / P.sum()).astype(np.float32)


def relative_error(forces, Y, rows):
    """Return the error of some rows relative to the norm of the exact sum in float64."""
    Y = Y.astype(float)
    exact = np.array([exact_repulsion(Y, i) for i in rows])
    return np.linalg.norm(forces[rows] - exact) / np.linalg.norm(exact)


def exact_repulsion(Y, i):
    """Return the exact repulsion on one point."""
    difference = Y[i] - Y
    return ((1 + (difference**2).sum(axis=1)) ** -2.0) @ difference


@pytest.mark.parametrize(("method", "theta"), [("exact", 0.5), ("barnes_hut", 0.5), ("barnes_hut", 0.25), ("fft", 0.5)])
def bench_repulsion(benchmark, map_points, full, method, theta):
    """Time our repulsion. Its error is in extra_info."""
    if full and method == "exact":
        map_points = map_points[:2000]
    engine = repulsion.make_repulsion(
        map_points.shape, np.float32, method=method, theta=theta, dof=1.0, n_threads=THREADS
    )
    forces = np.empty_like(map_points)
    sum_q = benchmark(engine, map_points, forces)
    rows = np.random.default_rng(2).choice(len(map_points), min(1000, len(map_points)), replace=False)
    benchmark.extra_info["relative_error"] = relative_error(forces, map_points, rows)
    if not full:
        expected = ref.repulsive_forces(map_points, method=method, theta=theta)
        np.testing.assert_allclose(forces, expected[0], atol=1e-3)
        assert sum_q == pytest.approx(expected[1], rel=1e-5)


@pytest.mark.parametrize("method", ["barnes_hut", "fft"])
def bench_repulsion_opentsne(benchmark, map_points, method):
    """Time openTSNE's repulsion of the same map, in float64, which it needs."""
    kernels, quad_tree = peer("openTSNE._tsne"), peer("openTSNE.quad_tree")
    Y = map_points.astype(np.float64)
    forces = np.zeros_like(Y)

    def barnes_hut():
        forces[:] = 0
        tree = quad_tree.QuadTree(Y)
        return kernels.estimate_negative_gradient_bh(tree, Y, forces, theta=0.5, dof=1, num_threads=THREADS)

    def fft():
        forces[:] = 0
        return kernels.estimate_negative_gradient_fft_2d(
            Y, forces, n_interpolation_points=3, min_num_intervals=50, ints_in_interval=1, dof=1
        )

    sum_q = benchmark(barnes_hut if method == "barnes_hut" else fft)
    rows = np.random.default_rng(2).choice(len(Y), min(1000, len(Y)), replace=False)
    benchmark.extra_info["relative_error"] = relative_error(-forces * sum_q, map_points, rows)


def bench_attraction(benchmark, affinities, map_points, full):
    """Time the attraction over P, in the order of the user's points."""
    forces = benchmark(gradient.attractive_forces, affinities, map_points, n_threads=THREADS)
    if not full:
        np.testing.assert_allclose(forces, ref.attractive_forces(affinities, map_points), atol=1e-6)


@pytest.mark.parametrize("exact", [False, True])
def bench_loss(benchmark, affinities, map_points, full, exact):
    """Time H(P), H(P, Q) and KL of the map."""
    loss = benchmark(gradient.tsne_loss, affinities, map_points, exact=exact, n_threads=THREADS)
    if not full:
        np.testing.assert_allclose(loss, ref.tsne_loss(affinities, map_points), rtol=1e-5)

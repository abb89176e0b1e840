"""Repulsion at any dof: from the longest tails to the Gaussian, against the exact sum in float64."""

import mpmath
import numpy as np
import pytest
from sklearn.datasets import load_digits, make_swiss_roll

import kullback
from kullback import reference as ref
from kullback.tsne import Embedding, gradient

DOFS = [1e-3, 0.03, 0.5, 1.5, 5.0, 100.0, 1e6]


def maps(n_components):
    """Yield maps that are dense and thin beside the kernel, clustered, and along a ring."""
    rng = np.random.default_rng(1)
    shape = (1500, n_components)
    yield rng.normal(size=shape) * 0.1
    yield rng.normal(size=shape) * 15
    yield rng.uniform(-400, 400, size=shape)
    yield (rng.normal(size=(10, n_components)) * 30)[rng.integers(10, size=1500)] + rng.normal(size=shape) * 2
    ring = rng.normal(size=shape)
    yield ring / np.linalg.norm(ring, axis=1, keepdims=True) * 25 + rng.normal(size=shape) * 0.3


@pytest.mark.parametrize("dof", DOFS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_components", [1, 2, 3])
@pytest.mark.parametrize("method", ["barnes_hut", "fft", "auto"])
def test_a_tolerance_holds_at_any_dof(method, n_components, dtype, dof):
    """Forces and Z keep the error that was asked for; by the default theta they keep 4 %."""
    for Y in maps(n_components):
        Y = Y.astype(dtype)
        expected, expected_q = gradient.repulsive_forces(Y.astype(float), method="exact", dof=dof)
        for options, error in (({"tolerance": 0.01}, 0.01), ({}, 0.04)):
            forces, sum_q = gradient.repulsive_forces(Y, method=method, dof=dof, **options)
            assert np.linalg.norm(forces - expected) <= error * np.linalg.norm(expected)
            assert sum_q == pytest.approx(expected_q, rel=error)


@pytest.mark.parametrize("dof", DOFS)
@pytest.mark.parametrize("n_components", [1, 2, 3, 5])
def test_exact_sum_at_any_dof(at_level, n_components, dof):
    """The sum over all pairs is that of the reference, to the 1e-13 of the exponential."""
    Y = np.random.default_rng(0).normal(size=(300, n_components)) * 2
    expected, expected_q = ref.repulsive_forces(Y, dof=dof)
    for dtype in (np.float64, np.float32):
        if dtype is np.float32:
            expected, expected_q = ref.repulsive_forces(Y.astype(dtype), dof=dof)
        forces, sum_q = gradient.repulsive_forces(Y.astype(dtype), method="exact", dof=dof)
        eps = np.finfo(dtype).eps
        assert np.abs(forces - expected).max() <= (1e-12 + eps) * np.abs(expected).max()
        assert sum_q == pytest.approx(expected_q, rel=1e-12)


@pytest.mark.parametrize("dof", [1e-3, 0.7, 30.0, 1e6])
def test_the_weight_of_a_pair_is_that_of_many_digits(at_level, dof):
    """Two points at any distance, beside mpmath: also where x^2 / dof is so small that 1 + x^2 / dof rounds it off."""
    for distance in (1e-9, 1e-3, 0.3, 1.0, 4.0, 15.0):
        forces, sum_q = gradient.repulsive_forces([[0.0], [distance]], method="exact", dof=dof)
        with mpmath.workdps(40):
            base = 1 + mpmath.mpf(distance) ** 2 / mpmath.mpf(dof)
            w, force = base ** -mpmath.mpf(dof), distance * base ** -(mpmath.mpf(dof) + 1)
        assert sum_q == pytest.approx(2 * float(w), rel=2e-12)
        assert forces[1, 0] == pytest.approx(float(force), rel=2e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dof", [1e-6, 1e-3, 1.0, 30.0, 1e9])
@pytest.mark.parametrize("n_components", [1, 2, 3, 4])
def test_attraction_and_loss_at_any_dof_and_scale(at_level, make_affinities, n_components, dof, dtype):
    """Attraction is that of the reference from the smallest maps to the widest, and so is - sum P log w + log Z."""
    P = make_affinities(200)
    for scale in (1e-30, 1e-5, 1.0, 1e6, 1e20, 1e36):
        Y = (np.random.default_rng(0).uniform(-1, 1, size=(200, n_components)) * scale).astype(dtype)
        expected = ref.attractive_forces(P, Y, dof=dof)
        forces = gradient.attractive_forces(P, Y, dof=dof)
        # Below the smallest normal float32 digits are lost.
        assert np.abs(forces - expected).max() <= 16 * np.finfo(dtype).eps * np.abs(expected).max() + 1e-38
        if ref.repulsive_forces(Y, dof=dof)[1] < 1e-300:
            with pytest.raises(ValueError, match="Y must have two points so near each other that w is above"):
                gradient.tsne_loss(P, Y, dof=dof)
        else:
            with np.errstate(all="raise"):
                loss = gradient.tsne_loss(P, Y, dof=dof, exact=True)
            expected_loss = ref.tsne_loss(P, Y, dof=dof).cross_entropy
            assert loss.cross_entropy == pytest.approx(expected_loss, rel=1e-6 if dtype is np.float32 else 1e-11)


@pytest.mark.parametrize("dof", [1e-3, 0.5, 20.0, 1e6])
@pytest.mark.parametrize("method", ["exact", "barnes_hut", "fft"])
def test_the_gradient_at_any_dof_is_the_slope_of_the_loss(make_affinities, method, dof):
    """A step along the gradient changes the loss by the step times the slope, as far as the method promises."""
    P, rng = make_affinities(1200), np.random.default_rng(0)
    Y = rng.normal(size=(1200, 2)) * 2
    slope = gradient.tsne_gradient(P, Y, method=method, dof=dof, tolerance=0.001)
    direction, step = slope / np.linalg.norm(slope), 1e-4
    losses = [gradient.tsne_loss(P, Y + s * direction, dof=dof, exact=True).kl_divergence for s in (-step, step)]
    assert (losses[1] - losses[0]) / (2 * step) == pytest.approx(np.sum(slope * direction), rel=0.01)


def test_a_wide_map_of_single_precision_has_a_gradient(make_affinities):
    """Forces that are not yet divided by Z underflow in float32, and the gradient does not."""
    P = make_affinities(200)
    Y = (np.random.default_rng(0).normal(size=(200, 2)) * 1e24).astype(np.float32)
    slope, expected = gradient.tsne_gradient(P, Y), ref.tsne_gradient(P, Y)
    assert slope.dtype == np.float32
    assert np.abs(slope - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("dof", [0, -1, 1e-7, 1e10, np.inf, np.nan])
def test_a_dof_out_of_range_is_refused(few_digits, dof):
    """The error names the range, in functions, the descent and the estimator."""
    P, start = few_digits
    for call in (
        lambda: gradient.repulsive_forces(start, dof=dof),
        lambda: gradient.attractive_forces(P.P, start, dof=dof),
        lambda: gradient.tsne_loss(P.P, start, dof=dof),
        lambda: Embedding(P, start, dof=dof),
        lambda: kullback.TSNE(dof=dof).fit(start),
    ):
        with pytest.raises(ValueError, match=r"dof must be in \[1e-06, 1e\+09\], got"):
            call()


@pytest.mark.parametrize("dof", [1e-3, 0.3, 10.0, 1e6])
def test_a_descent_and_new_points_at_any_dof(dof):
    """The loss falls, nothing is NaN, and new points come to rest inside of the map."""
    X = load_digits().data
    tsne = kullback.TSNE(dof=dof, random_state=0, max_iter=300, early_exaggeration_iter=100).fit(X[:1100])
    assert np.isfinite(tsne.embedding_).all()
    trace = tsne.loss_["kl_divergence"]
    assert np.isfinite(trace).all()
    assert trace[-1] < trace[0]
    placed = tsne.transform(X[1100:1150] + 0.01)
    assert (placed >= tsne.embedding_.min(axis=0) - 6).all()
    assert (placed <= tsne.embedding_.max(axis=0) + 6).all()


@pytest.mark.parametrize("dof", [0.5, 2.0, 100.0])
def test_the_default_descent_holds_together_at_any_dof(dof):
    """Kernels of light tails have steep forces, at which a fast descent flies apart: it ends near the classic one."""
    X = make_swiss_roll(400, noise=0.05, random_state=0)[0]
    annealed = kullback.TSNE(dof=dof, random_state=0).fit(X)
    classic = kullback.TSNE(dof=dof, random_state=0, early_exaggeration_iter=250, max_iter=750).fit(X)
    assert annealed.exact_kl_ < 1.15 * classic.exact_kl_
    assert annealed.loss_.kl_divergence[-1] < 1.02 * annealed.loss_.kl_divergence.min()

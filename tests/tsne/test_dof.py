"""Repulsion at any dof: from the longest tails to the Gaussian, against the exact sum in float64."""

import mpmath
import numpy as np
import pytest

from kullback import reference as ref
from kullback.tsne import gradient

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
        for options, error in (({"tolerance": 0.01}, 0.012), ({}, 0.04)):
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

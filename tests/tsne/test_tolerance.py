"""A tolerance is held on any map: by the exact sum of small maps, and by a check at a sample of points of others."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from kullback.tsne import gradient, repulsion

FUZZ = Path(__file__).parents[2] / "devel" / "fuzz_forces.py"


def along_a_line(n_points):
    """Return points on a line in the plane, whose cells are as anisotropic as they can be."""
    rng = np.random.default_rng(0)
    return np.outer(rng.normal(size=n_points), [3.0, 2.0])


def narrow_clumps(n_points):
    """Return clumps that are narrower than the spacing of a grid."""
    rng = np.random.default_rng(0)
    clumps = rng.normal(size=(8, 2)) * 30
    return clumps[rng.integers(8, size=n_points)] + rng.normal(size=(n_points, 2)) * 0.003


def relative_error(forces, Y, dof):
    """Return the error of forces beside the exact ones."""
    expected, _ = gradient.repulsive_forces(Y.astype(float), method="exact", dof=dof)
    return float(np.linalg.norm(forces - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("make", "method", "dof"), [(along_a_line, "barnes_hut", 0.5), (narrow_clumps, "fft", 1.0)])
def test_a_tolerance_holds_where_the_engine_alone_does_not(make, method, dof, dtype):
    """The engine errs by more than is asked for, which the check of a sample finds."""
    Y = make(2000).astype(dtype)
    accuracy = repulsion.choose_accuracy(0, 0.01, 2)
    alone = np.empty_like(Y)
    repulsion.AutoRepulsion(Y.shape, Y.dtype, accuracy, dof, 1).engine(method)(Y, alone)
    assert relative_error(alone, Y, dof) > 0.012  # otherwise this tests nothing
    for asked in (method, "auto"):
        forces, sum_q = gradient.repulsive_forces(Y, method=asked, tolerance=0.01, dof=dof)
        assert forces.dtype == dtype
        assert relative_error(forces, Y, dof) <= 0.01
        exact_sum = gradient.repulsive_forces(Y.astype(float), method="exact", dof=dof)[1]
        assert sum_q == pytest.approx(exact_sum, rel=0.01)


def test_a_tolerance_changes_no_bit_of_what_threads_and_calls_before_left():
    """The sample, and what is made of it, do not depend on the number of threads or on the last map."""
    Y = along_a_line(2000)
    results = []
    for n_threads in (1, 2, 3):
        gradient.repulsive_forces(Y[::-1] * 7, method="barnes_hut", tolerance=0.01, dof=0.5, n_threads=n_threads)
        forces, sum_q = gradient.repulsive_forces(Y, method="barnes_hut", tolerance=0.01, dof=0.5, n_threads=n_threads)
        results.append((forces.tobytes(), sum_q))
    assert results[1:] == results[:-1]


@pytest.mark.parametrize("method", ["barnes_hut", "fft", "auto"])
def test_small_maps_with_a_tolerance_are_exact(method):
    """Up to 1,000 points the exact sum costs next to nothing, and no layout can mislead it."""
    Y = narrow_clumps(1000)
    expected, expected_q = gradient.repulsive_forces(Y, method="exact")
    forces, sum_q = gradient.repulsive_forces(Y, method=method, tolerance=0.5)
    assert (forces.tobytes(), sum_q) == (expected.tobytes(), expected_q)


def test_a_tolerance_below_the_rounding_ends_in_the_exact_sum():
    """No engine in float32 keeps 1e-9; the exact sum in float64 takes its place."""
    Y = np.random.default_rng(0).normal(size=(1100, 2)).astype(np.float32)
    forces, _ = gradient.repulsive_forces(Y, tolerance=1e-15)
    assert relative_error(forces, Y, 1.0) <= 1e-7


@pytest.mark.parametrize("method", ["barnes_hut", "fft"])
@pytest.mark.parametrize("width", [1e3, 1e4, 3e5, 1e7])
def test_z_keeps_a_small_tolerance_in_thin_maps(method, width):
    """Self terms, which are subtracted from Z, have the rounding of n in float32."""
    Y = (np.random.default_rng(0).uniform(-1, 1, size=(1100, 1)) * width).astype(np.float32)
    _, expected = gradient.repulsive_forces(Y.astype(float), method="exact")
    _, sum_q = gradient.repulsive_forces(Y, method=method, tolerance=1e-6)
    assert sum_q == pytest.approx(expected, rel=1e-6)


@pytest.mark.skipif(not FUZZ.exists(), reason="an sdist does not hold the scripts of developers")
def test_random_maps_kernels_and_tolerances(monkeypatch):
    """Two hundred cases of the fuzz that was run at length (devel/reliability.md)."""
    monkeypatch.syspath_prepend(FUZZ.parent)
    fuzz = importlib.import_module("fuzz_forces")
    assert fuzz.run_cases(fuzz.check_case, 200, 1) == 0

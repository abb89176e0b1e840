"""Draw maps, kernels, methods and tolerances, and compare forces, Z and the loss with float64 sums over all pairs.

    python devel/fuzz_forces.py [CASES] [SEED]

Each case that breaks a promise is printed, and the exit status says whether there was one. Nothing is allowed for but
the tolerance that is asked for and rounding.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from cases import run_cases

from kullback import gradient

Array = npt.NDArray[Any]


def draw_map(rng: np.random.Generator) -> Array:
    """Return points of a random layout, scale, dimension and precision."""
    d = int(rng.integers(1, 4))
    n = int(rng.choice([1, 2, 3, 5, 9, 20, 40])) if rng.random() < 0.98 else int(rng.integers(1001, 1050))
    Y = draw_layout(rng, n, d)
    exponent = rng.uniform(-2, 2) if rng.random() < 0.7 else rng.choice([-300, -40, -20, -5, 5, 12, 20, 30, 300])
    with np.errstate(over="ignore"):
        Y = np.clip(Y * 10.0**exponent, -1e300, 1e300)
    return Y.astype(np.float32 if rng.random() < 0.5 and np.abs(Y).max() < 1e37 else np.float64)


def draw_layout(rng: np.random.Generator, n: int, d: int) -> Array:
    """Return n points of a random layout in d dimensions, about 1 wide unless the layout has all widths."""
    Y = rng.normal(size=(n, d))
    match int(rng.integers(11)):
        case 1:  # on a line
            Y = np.outer(Y[:, 0], rng.normal(size=d))
        case 2:  # duplicates
            Y = Y[rng.integers(0, max(n // 3, 1), size=n)]
        case 3:  # clusters, far apart
            Y = Y + 10.0 ** rng.uniform(0, 8) * rng.integers(0, 3, size=(n, 1))
        case 4:  # one far away
            Y[-1] *= 10.0 ** rng.uniform(0, 30)
        case 5:  # of all sizes
            Y *= 10.0 ** rng.uniform(-20, 3, size=(n, 1))
        case 6:  # clumps of all widths
            widths = 10.0 ** rng.uniform(-5, 1, size=20)
            clump = rng.integers(rng.integers(1, 20), size=n)
            Y = 3 * rng.normal(size=(20, d))[clump] + Y * widths[clump, None]
        case 7:  # a ring
            Y = 3 * Y / np.linalg.norm(Y, axis=1, keepdims=True) + rng.uniform(0, 0.3) * Y
        case 8:  # a lattice
            side = int(np.ceil(n ** (1 / d)))
            Y = np.stack(np.unravel_index(np.arange(n), (side,) * d), axis=1) * 0.3
        case 9:  # a curve
            Y = np.sin(6 * np.outer(rng.random(n), 1 + np.arange(d)) + np.arange(d)) + 0.01 * Y
    return Y


def sum_pairs(Y: Array, dof: float) -> tuple[Array, Array, float]:
    """Return w of all pairs, the forces and Z, in float64."""
    columns = Y.T.astype(np.float64)
    ratios = sum((column[:, None] - column) ** 2 for column in columns) / dof
    w = np.exp(-dof * np.log1p(ratios))
    np.fill_diagonal(w, 0)
    weights = w / (1 + ratios)
    forces = [np.einsum("ij,ij->i", weights, column[:, None] - column) for column in columns]
    return w, np.stack(forces, axis=1), float(w.sum())


def check_case(rng: np.random.Generator) -> str:
    """Return what is wrong with one random case, or nothing."""
    Y = draw_map(rng)
    dof = float(rng.choice([1.0, 1.0, 10.0 ** rng.uniform(-3, 6)]))
    method = str(rng.choice(["exact", "barnes_hut", "fft", "auto"]))
    tolerance = float(rng.choice([0.01, 10.0 ** rng.uniform(-5, -0.5)]))
    case = f"{Y.shape} {Y.dtype} dof {dof:g} {method}, tolerance {tolerance:g}, {np.abs(Y).max():g} wide: "
    if np.abs(Y).max() > 1e37:
        try:
            gradient.repulsive_forces(Y)
        except ValueError:
            return ""
        return case + "accepted"
    forces, sum_q = gradient.repulsive_forces(Y, method=method, dof=dof, tolerance=tolerance, n_threads=1)
    w, expected, expected_q = sum_pairs(Y, dof)
    if not np.isfinite(forces).all() or not np.isfinite(sum_q):
        return case + "not finite"
    # Digits below the smallest normal number are lost; forces that cancel keep the rounding of their terms.
    single = Y.dtype == np.float32
    terms = float(np.max(np.sum(w, axis=1), initial=0) * (np.abs(Y).max() if np.abs(Y).max() < 1 else 1))
    rounding = (1e-5 if single else 1e-11) * terms * np.sqrt(len(Y)) + (1e-37 if single else 1e-300)
    error = float(np.linalg.norm(forces - expected))
    if not error <= tolerance * float(np.linalg.norm(expected)) + rounding:
        return case + f"forces err by {error:g} of {float(np.linalg.norm(expected)):g}"
    if not abs(sum_q - expected_q) <= (tolerance + 1e-6 * single) * expected_q + 1e-300:
        return case + f"Z {sum_q:g}, expected {expected_q:g}"
    return check_loss(rng, Y, dof, case, expected_q)


def check_loss(rng: np.random.Generator, Y: Array, dof: float, case: str, expected_q: float) -> str:
    """Return what is wrong with the attraction and the loss of a map, or nothing."""
    n = len(Y)
    if n < 2 or n > 300 or expected_q < 1e-300:
        return ""
    P = np.triu(rng.random((n, n)), 1)
    P = (P + P.T) / (2 * P.sum())
    exact = Y.astype(np.float64)
    differences = exact[:, None] - exact[None]
    ratios = np.sum(differences**2, axis=2) / dof
    expected = np.einsum("ij,ijd->id", P / (1 + ratios), differences)
    forces = gradient.attractive_forces(P, Y, dof=dof, n_threads=1)
    eps = 1e-5 if Y.dtype == np.float32 else 1e-12
    scale = float(np.max(np.sum(P * np.sum(np.abs(differences), axis=2) / (1 + ratios), axis=1)))
    if not np.abs(forces - expected).max() <= eps * scale + (1e-37 if eps == 1e-5 else 1e-300):
        return case + f"attraction {np.abs(forces - expected).max():g} of {scale:g}"
    cross = float(np.sum(P * dof * np.log1p(ratios)) + np.log(expected_q))
    loss = gradient.tsne_loss(P, Y, dof=dof, exact=True, n_threads=1).cross_entropy
    if not abs(loss - cross) <= 1e-6 * (abs(cross) + abs(np.log(expected_q))):
        return case + f"loss {loss:.9g}, expected {cross:.9g}"
    return ""


if __name__ == "__main__":
    sys.exit(run_cases(check_case, *map(int, sys.argv[1:])) > 0)

"""Points with masses: a point of mass m is m rows at one position."""

import numpy as np
import pytest

from kullback import reference as ref


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
    methods = ["exact"] if n_components > 3 else ["exact", "barnes_hut", "fft"]
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

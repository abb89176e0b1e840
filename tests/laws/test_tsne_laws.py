"""Laws of t-SNE that hold whatever the implementation."""

import numpy as np
import pytest
from scipy import sparse

from kullback import gradient


@pytest.fixture
def problem():
    """Return a random symmetric P over 200 points and an embedding."""
    rng = np.random.default_rng(3)
    weights = np.triu(rng.random((200, 200)) * (rng.random((200, 200)) < 0.05), 1)
    return sparse.csr_array((weights + weights.T) / (2 * weights.sum())), rng.normal(size=(200, 2)) * 5


@pytest.mark.parametrize("method", ["exact", "barnes_hut"])
def test_forces_are_free_of_translation(problem, method):
    """Only differences of positions matter. A shift by 32 loses at most 3 bits."""
    P, Y = problem
    before, after = (gradient.tsne_gradient(P, y, method=method, theta=0) for y in (Y, Y + 32))
    np.testing.assert_allclose(after, before, atol=1e-13)


@pytest.mark.parametrize("method", ["exact", "barnes_hut"])
def test_forces_follow_a_permutation(problem, method):
    """Points have no order: to permute them permutes the gradient."""
    P, Y = problem
    order = np.random.default_rng(0).permutation(len(Y))
    before = gradient.tsne_gradient(P, Y, method=method)
    after = gradient.tsne_gradient(P[order][:, order], Y[order], method=method)
    np.testing.assert_allclose(after, before[order], atol=1e-14)


def test_forces_follow_a_rotation(problem):
    """Turning the map by 90 degrees turns the gradient."""
    P, Y = problem
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    np.testing.assert_allclose(gradient.tsne_gradient(P, Y @ turn), gradient.tsne_gradient(P, Y) @ turn, atol=1e-15)


def test_exact_forces_sum_to_zero(problem):
    """The forces between two points are opposite, so all forces sum to 0."""
    P, Y = problem
    assert np.abs(gradient.attractive_forces(P, Y).sum(axis=0)).max() < 1e-14
    assert np.abs(gradient.repulsive_forces(Y)[0].sum(axis=0)).max() < 1e-10


def test_kl_is_never_negative_and_zero_for_its_own_q(problem):
    """KL(P || Q) >= 0, with equality where P is the Q of the map."""
    P, Y = problem
    assert gradient.tsne_loss(P, Y).kl_divergence > 0
    w = 1 / (1 + ((Y[:, None] - Y[None]) ** 2).sum(axis=2))
    np.fill_diagonal(w, 0)
    loss = gradient.tsne_loss(w / w.sum(), Y)
    assert loss.kl_divergence == pytest.approx(0, abs=1e-13)
    assert np.abs(gradient.tsne_gradient(w / w.sum(), Y)).max() < 1e-16


def test_theta_zero_is_exact(problem):
    """With theta = 0, Barnes-Hut opens every cell and gives the sum over all pairs."""
    _, Y = problem
    exact, sum_q = gradient.repulsive_forces(Y, method="exact")
    opened, sum_q_opened = gradient.repulsive_forces(Y, method="barnes_hut", theta=0)
    np.testing.assert_allclose(opened, exact, atol=1e-13)
    assert sum_q_opened == pytest.approx(sum_q, rel=1e-14)


def test_kl_and_cross_entropy_have_one_gradient(problem):
    """While P is fixed, H(P) is constant, so differences of KL are differences of cross-entropy."""
    P, Y = problem
    first, second = gradient.tsne_loss(P, Y), gradient.tsne_loss(P, Y * 1.1)
    assert first.entropy == second.entropy
    assert second.kl_divergence - first.kl_divergence == pytest.approx(
        second.cross_entropy - first.cross_entropy, abs=1e-14
    )

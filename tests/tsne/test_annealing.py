"""The annealed descent, which is the default: its schedules, its end, and maps on which a fast descent flies apart."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

import kullback
from kullback.tsne import Embedding, initialization


@pytest.fixture(scope="module")
def digits():
    """Return 500 of scikit-learn's digits."""
    return load_digits().data[:500]


def test_default_descent_ends_as_low_in_fewer_iterations(digits):
    """It ends at rest where 750 iterations of the classic descent end, which one keyword brings back."""
    fitted = kullback.TSNE(random_state=0).fit(digits)
    assert fitted.stop_reason_ == "tol"
    assert 200 < fitted.n_iter_ <= 350
    classic = kullback.TSNE(random_state=0, max_iter=750, early_exaggeration_iter=250).fit(digits)
    assert classic.n_iter_ == 750
    by_hand = Embedding(classic.affinities_, initialization.pca(digits, random_state=0))
    by_hand.optimize(250, exaggeration=12, momentum=0.8).optimize(500, momentum=0.8)
    np.testing.assert_array_equal(classic.embedding_, by_hand.positions)
    # Rounding decides into which minimum of several either descent falls; devel/descent.md has the means.
    assert fitted.exact_kl_ < 1.02 * classic.exact_kl_


def test_exaggeration_is_annealed(digits):
    """It falls in a straight line to late exaggeration, in 120 iterations or two fifths of all; momentum rises then."""
    for max_iter, end in ((600, 120), (50, 20)):
        seen = []
        options = {"early_exaggeration": 8, "exaggeration": 2, "max_iter": max_iter, "random_state": 0}
        kullback.TSNE(callback=seen.append, callback_every=1, **options).fit(digits[:300])
        for state in seen:  # with the rates of the step before
            expected = max(2, 8 - 6 * (state.iteration - 1) / end)
            assert state.exaggeration == pytest.approx(expected)
            assert state.momentum == (0.7 if state.iteration <= end else 0.95)


@pytest.mark.parametrize("n_points", [5, 12, 40, 150])
@pytest.mark.parametrize("perplexity", [2, 5])
def test_the_default_descent_of_few_points_or_neighbours_holds_together(n_points, perplexity):
    """The forces of such maps are steep. A descent that is too fast ends at several times the loss, or far away."""
    rng = np.random.default_rng(n_points)
    ratios = []
    for X in (rng.normal(size=(n_points, 2)), rng.standard_t(1.5, size=(n_points, 5)), rng.random((n_points, 50))):
        options = {"perplexity": min(perplexity, n_points - 2), "init": "random", "random_state": 0, "n_jobs": 1}
        annealed = kullback.TSNE(**options).fit(X)
        classic = kullback.TSNE(early_exaggeration_iter=250, max_iter=750, **options).fit(X)
        ratios.append((annealed.exact_kl_ + 0.01) / (classic.exact_kl_ + 0.01))
    assert max(ratios) < 1.4
    assert np.mean(ratios) < 1.15

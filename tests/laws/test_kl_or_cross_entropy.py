"""The question that the project started with: whether KL and cross-entropy learn alike."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from kullback import affinities, gradient


@pytest.fixture(scope="module")
def example():
    """Return the example as a module."""
    path = Path(__file__).parents[2] / "examples" / "kl_or_cross_entropy.py"
    spec = importlib.util.spec_from_file_location("kl_or_cross_entropy", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def runs(example):
    """Run the three cases on 200 digits."""
    return example.compare(load_digits().data[:200], n_iter=60, perplexity=10)


def test_a_fixed_p_gives_one_path(runs):
    """Descents on KL and on cross-entropy end at the same bits, and their curves differ by H(P) at every step."""
    on_kl, on_cross_entropy = runs["P fixed"].values()
    assert on_kl.positions.tobytes() == on_cross_entropy.positions.tobytes()
    for run in (on_kl, on_cross_entropy):
        assert np.ptp(run.entropy) == 0
        # Each of the three numbers is rounded once, at about 10 nats.
        np.testing.assert_allclose(run.cross_entropy - run.kl_divergence, run.entropy, atol=1e-14 * 10)
    assert on_kl.kl_divergence[-1] < 0.5 * on_kl.kl_divergence[0]
    np.testing.assert_array_equal(on_kl.kl_divergence, on_cross_entropy.kl_divergence)


def test_an_annealed_p_gives_one_path_but_curves_that_part(runs):
    """The paths are still the same. H(P), the distance of the curves, falls by more than half a nat."""
    on_kl, on_cross_entropy = runs["P annealed"].values()
    assert on_kl.positions.tobytes() == on_cross_entropy.positions.tobytes()
    assert on_kl.entropy[0] - on_kl.entropy[-1] > 0.5
    # When the map has formed, cross-entropy goes on falling, while KL to the sharper P does not.
    half = len(on_kl.entropy) // 2
    assert on_kl.cross_entropy[-1] < on_kl.cross_entropy[half]
    assert on_kl.cross_entropy[half] - on_kl.cross_entropy[-1] > on_kl.kl_divergence[half] - on_kl.kl_divergence[-1]


def test_a_learned_p_parts_the_paths(runs):
    """Cross-entropy sharpens its teacher and ends at less entropy and more KL, and KL does the opposite."""
    on_kl, on_cross_entropy = runs["P learned"].values()
    assert np.abs(on_kl.positions - on_cross_entropy.positions).max() > 1
    assert on_cross_entropy.sharpness[-1] > 1.2 > 1 > on_kl.sharpness[-1]
    assert on_cross_entropy.entropy[-1] < on_kl.entropy[-1] - 0.5
    assert on_kl.kl_divergence[-1] < on_cross_entropy.kl_divergence[-1]
    assert on_cross_entropy.cross_entropy[-1] < on_kl.cross_entropy[-1]


@pytest.mark.parametrize("loss", ["kl_divergence", "cross_entropy"])
def test_the_gradients_are_those_of_the_losses(example, loss):
    """Central differences of each loss give its gradients by the positions and by the sharpness."""
    rng = np.random.default_rng(0)
    P = affinities.perplexity(rng.normal(size=(30, 3)), 5).P
    Y = rng.normal(size=(30, 2))

    def value(Y, sharpness=1.0):
        return getattr(gradient.tsne_loss(example.sharpen(P, sharpness), Y, exact=True), loss)

    found = example.position_gradient(loss, P, Y)
    direction, h = rng.normal(size=Y.shape), 1e-5
    expected = (value(Y + h * direction) - value(Y - h * direction)) / (2 * h)
    # The truncation error is h^2, and the rounding error eps * 10 / h = 2e-10.
    assert np.sum(found * direction) == pytest.approx(expected, abs=1e-8)
    for sharpness in (0.5, 1.0, 2.0):
        found = example.sharpness_gradient(loss, P, sharpness, Y)
        expected = (value(Y, sharpness + h) - value(Y, sharpness - h)) / (2 * h)
        assert found == pytest.approx(expected, abs=1e-8)


def test_the_plot_is_drawn(example, runs, tmp_path):
    """The picture has three columns, with the verdicts in their titles."""
    pytest.importorskip("matplotlib")
    figure = example.draw(runs)
    titles = [axis.get_title(loc="left") for axis in figure.axes[:3]]
    assert [title.split(": ")[1] for title in titles] == ["one path, bit for bit"] * 2 + ["two paths"]
    figure.savefig(tmp_path / "plot.png", dpi=40)
    assert (tmp_path / "plot.png").stat().st_size > 0

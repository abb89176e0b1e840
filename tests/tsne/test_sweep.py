"""Many maps of one data set: alignment, stability, order of the settings, errors."""

import importlib.util
import signal
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

import kullback
from kullback import affinities, gradient
from kullback.tsne import Embedding, align, sweeps

FEW = {"max_iter": 120, "warm_iter": 40}


@pytest.fixture(scope="module")
def digits():
    """Return 200 digits."""
    return load_digits().data[:200]


@pytest.fixture(scope="module")
def swept(digits):
    """Return a sweep over all three settings, which are not in order."""
    return kullback.sweep(digits, perplexities=[5, 20], exaggerations=[1, 4], seeds=[3, 0], **FEW)


def test_one_map_for_each_combination(digits, swept):
    """Settings are in the order given. KL is that of their own P, and alignment does not change it."""
    settings = swept.settings
    assert list(settings.seed) == [3] * 4 + [0] * 4
    assert list(settings.perplexity) == [5, 5, 20, 20] * 2
    assert list(settings.exaggeration) == [1, 4] * 4
    assert swept.maps.shape == (8, 200, 2)
    assert swept.maps.dtype == np.float32
    for setting, positions in zip(settings, swept.maps, strict=True):
        P = affinities.perplexity(digits, setting.perplexity).P
        expected = gradient.tsne_loss(P, positions).kl_divergence
        assert setting.kl_divergence == pytest.approx(
            expected, rel=1e-4
        )  # the positions are float32 and have been turned


def test_the_first_map_is_plain_and_the_others_start_from_it(digits):
    """The largest perplexity has 250 iterations of early exaggeration, and the next one descends from its map."""
    found = kullback.sweep(digits, perplexities=[5, 20], init="random", max_iter=300, warm_iter=40)
    start = kullback.tsne.initialization.random(200, random_state=0)
    wide = Embedding(affinities.perplexity(digits, 20), start).optimize(250, exaggeration=12).optimize(50)
    narrow = Embedding(affinities.perplexity(digits, 5), wide.positions).optimize(40)
    np.testing.assert_allclose(found.maps[0], narrow.positions, atol=1e-4)
    np.testing.assert_allclose(found.maps[1], align(wide.positions, narrow.positions), atol=1e-3)


def test_alignment_undoes_a_motion():
    """Turned, mirrored and moved maps coincide again, sizes do not change, and no other motion comes nearer."""
    rng = np.random.default_rng(0)
    for n_components in (1, 2, 3):
        Y = rng.normal(size=(50, n_components))
        turn = np.linalg.qr(rng.normal(size=(n_components, n_components)))[0]
        turn[:, 0] *= -np.sign(np.linalg.det(turn))  # a mirror, which a rotation cannot undo
        np.testing.assert_allclose(align(3 * Y @ turn + 7, Y), 3 * (Y - Y.mean(axis=0)), atol=1e-12)
    Y, Z = rng.normal(size=(2, 50, 2))
    best = np.linalg.norm(align(Z, Y) - (Y - Y.mean(axis=0)))
    for angle in np.linspace(0, 2 * np.pi, 50):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for mirror in (1, -1):
            other = (Z - Z.mean(axis=0)) @ turn * [1, mirror]
            assert best <= np.linalg.norm(other - (Y - Y.mean(axis=0))) + 1e-12
    with pytest.raises(ValueError, match=r"positions must have the shape of reference, \(50, 2\), got \(49, 2\)"):
        align(Z[1:], Y)


def test_stability_and_spread_by_definition(swept):
    """Stability is the mean share of common neighbours over pairs of maps. Spread is that of scaled positions."""
    lists = [
        [set(np.argsort(((y - y[i]) ** 2).sum(axis=1), kind="stable")[1:16]) for i in range(200)]
        for y in swept.maps.astype(float)
    ]
    shared = [np.mean([len(lists[a][i] & lists[b][i]) / 15 for a in range(8) for b in range(a)]) for i in range(200)]
    np.testing.assert_allclose(swept.stability, shared, atol=1e-3)  # a tie in float32 may fall either way
    centred = swept.maps - swept.maps.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).sum(axis=2).mean(axis=1))[:, None, None]
    expected = np.sqrt(((scaled - scaled.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0))
    np.testing.assert_allclose(swept.spread, expected, rtol=1e-5)


def test_a_stray_point_is_not_stable():
    """Members of clusters keep their neighbours from seed to seed. A point midway between two clusters does not."""
    rng = np.random.default_rng(0)
    blobs = np.concatenate([rng.normal(size=(60, 5)) + 30 * i for i in range(2)])
    X = np.vstack([blobs, np.full(5, 15.0)])
    found = kullback.sweep(X, perplexities=[10], seeds=range(4), n_neighbors=59, init="random", max_iter=300)
    assert found.stability[:120].mean() > 0.9
    # The smallest of 120 depends on chance: with other seeds, 6 of 20 sweeps have a member below the stray point.
    assert found.stability[120] < np.quantile(found.stability[:120], 0.05)


def test_one_map_has_no_stability(digits):
    """The stability of a single map is NaN, and its spread is 0."""
    found = kullback.sweep(digits, max_iter=20)
    assert np.isnan(found.stability).all()
    assert (found.spread == 0).all()


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_threads_change_no_bit(digits, swept, n_jobs):
    """The maps and the scores have the same bits on any number of threads."""
    options = {"perplexities": [5, 20], "exaggerations": [1, 4], "seeds": [3, 0], **FEW}
    found = kullback.sweep(digits, n_jobs=n_jobs, **options)
    assert found.maps.tobytes() == swept.maps.tobytes()
    assert found.stability.tobytes() == swept.stability.tobytes()


def test_other_starts_and_distances(digits):
    """A sweep can have a spectral start and precomputed distances."""
    distances = np.sqrt(((digits[:, None] - digits) ** 2).sum(axis=2))
    found = kullback.sweep(distances, metric="precomputed", init="spectral", perplexities=[10], **FEW)
    expected = kullback.sweep(digits, init="spectral", perplexities=[10], **FEW)
    assert found.settings.kl_divergence[0] == pytest.approx(expected.settings.kl_divergence[0], rel=0.05)


def test_ctrl_c_keeps_the_maps_that_are_finished(digits, monkeypatch):
    """The interrupted map is left out. If it is the first, there is nothing to return."""
    optimize = Embedding.optimize
    calls = []

    def pressed(self, n_iter, **options):
        calls.append(n_iter)
        if len(calls) == stop:
            options |= {"callback": lambda s: signal.raise_signal(signal.SIGINT), "callback_every": 5}
        return optimize(self, n_iter, **options)

    monkeypatch.setattr(sweeps.Embedding, "optimize", pressed)
    stop = 2  # the first seed has one call: 20 iterations of early exaggeration
    with pytest.warns(ConvergenceWarning, match="1 maps of 2 were finished"):
        found = kullback.sweep(digits, seeds=[0, 1], max_iter=20)
    assert list(found.settings.seed) == [0]
    del calls[:]
    stop = 1
    with pytest.raises(KeyboardInterrupt):
        kullback.sweep(digits, seeds=[0, 1], max_iter=20)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"perplexities": 30}, TypeError, "perplexities must be a sequence of numbers, got 30"),
        ({"n_components": 0}, ValueError, "n_components must be at least 1, got 0"),
        ({"angle": 2}, ValueError, r"angle must be in \[0, 1\], got 2"),
        ({"metric": 5}, TypeError, "metric must be a name or a function of two rows, got 5"),
        ({"perplexities": []}, TypeError, "perplexities must be a sequence"),
        ({"perplexities": [5, 200]}, ValueError, "perplexities must be less than n_points = 200, got 200"),
        ({"exaggerations": [0]}, ValueError, r"every one of exaggerations must be in \(0, inf\], got 0"),
        ({"seeds": [0.5]}, TypeError, "every one of seeds must be an integer, got 0.5"),
        ({"init": "spiral"}, ValueError, "init must be one of"),
        ({"metric": "precomputed"}, ValueError, "square matrix of distances"),
        ({"warm_iter": 0}, ValueError, "warm_iter must be at least 1"),
    ],
)
def test_errors(digits, options, error, message, monkeypatch):
    """Errors name the argument, and come before the search for neighbours."""
    monkeypatch.setattr("kullback.tsne.sweeps.neighbor_graph", None)
    with pytest.raises(error, match=message):
        kullback.sweep(digits, **options)


def test_the_example_draws(tmp_path):
    """The example of stable points draws two maps and a colour bar."""
    pytest.importorskip("matplotlib")
    path = Path(__file__).parents[2] / "examples" / "stable_points.py"
    spec = importlib.util.spec_from_file_location("stable_points", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    X, labels = load_digits(return_X_y=True)
    options = {"perplexities": [5, 15], "exaggerations": [1, 2], "max_iter": 40, "warm_iter": 10}
    figure = module.draw(X[:150], labels[:150], **options)
    assert len(figure.axes) == 3
    figure.savefig(tmp_path / "map.png", dpi=30)
    assert (tmp_path / "map.png").stat().st_size > 0

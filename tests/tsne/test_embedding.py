"""The descent by its parts: schedules, callbacks, options, and the progress bar."""

import tracemalloc

import numpy as np
import pytest
from sklearn.datasets import load_digits

import kullback
from kullback import gradient
from kullback.tsne import Embedding, State


def test_a_number_is_a_constant_function(few_digits):
    """Numbers and functions that return them give the same path, bit for bit."""
    numbers = Embedding(*few_digits).optimize(60, exaggeration=4, learning_rate=50, momentum=0.6)
    functions = Embedding(*few_digits).optimize(
        60, exaggeration=lambda i: 4, learning_rate=lambda i: 50, momentum=lambda i: 0.6
    )
    assert numbers.positions.tobytes() == functions.positions.tobytes()


def test_schedules_see_the_iterations_of_the_embedding(few_digits):
    """A function is asked once for every iteration. The next call goes on counting, so two calls are like one."""
    asked = []

    def anneal(iteration):
        asked.append(iteration)
        return max(1.0, 12 - 0.2 * iteration)

    whole = Embedding(*few_digits).optimize(70, exaggeration=anneal)
    assert asked == list(range(70))
    halves = Embedding(*few_digits).optimize(30, exaggeration=anneal).optimize(40, exaggeration=anneal)
    assert asked == 2 * list(range(70))
    assert whole.positions.tobytes() == halves.positions.tobytes()
    constant = Embedding(*few_digits).optimize(70, exaggeration=12)
    assert not np.array_equal(whole.positions, constant.positions)


def test_auto_learning_rate_follows_the_exaggeration(few_digits):
    """The learning rate is n / exaggeration at each iteration, whatever the schedule."""
    seen = []
    Embedding(*few_digits).optimize(
        4, exaggeration=lambda i: 2.0**i, callback=lambda s: seen.append(s.learning_rate), callback_every=1
    )
    assert seen == [300, 150, 75, 37.5]
    assert Embedding(*few_digits).optimize(5, exaggeration=12).learning_rate == 25


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"exaggeration": 0}, ValueError, r"exaggeration must be in \(0, inf\], got 0"),
        ({"exaggeration": lambda i: -i}, ValueError, r"exaggeration of iteration 0 must be in \(0, inf\], got 0"),
        ({"momentum": lambda i: "x"}, TypeError, "momentum of iteration 0 must be a real number, got 'x'"),
        ({"momentum": 1.5}, ValueError, r"momentum must be in \[0, 1\], got 1.5"),
        ({"learning_rate": None}, TypeError, 'learning_rate .a number or "auto". must be a real number, got None'),
        ({"learning_rate": "fast"}, TypeError, 'learning_rate .a number or "auto". must be a real number'),
        ({"tol": 0}, ValueError, r"tol must be in \(0, inf\], got 0"),
        ({"callback_every": 0}, ValueError, "callback_every must be at least 1, got 0"),
        ({"max_step": -1}, ValueError, r"max_step must be in \(0, inf\], got -1"),
        ({"gains": 0.2}, TypeError, "gains must be a pair of numbers, .* got 0.2"),
        ({"gains": (-1, 0.8)}, ValueError, r"gains\[0\] must be in \[0, inf\], got -1"),
        ({"gains": (0.2, 1.5)}, ValueError, r"gains\[1\] must be in \(0, 1\], got 1.5"),
        ({"n_iter_without_progress": -1}, ValueError, "n_iter_without_progress must be at least 0, got -1"),
        ({"exagg": 1}, TypeError, "exagg"),
    ],
)
def test_bad_options_are_named(few_digits, options, error, message):
    """Bad numbers are refused before the first iteration, and bad values of functions when they are returned."""
    with pytest.raises(error, match=message):
        Embedding(*few_digits).optimize(5, **options)


def test_a_callback_sees_one_moment(few_digits):
    """The positions, loss and gradient of a state belong together. To look at them changes no bit of the path."""
    seen = []

    def look(state: State):
        seen.append((state.iteration, state.positions, state.loss, state.gradient_norm, state.exaggeration))

    embedding = Embedding(*few_digits).optimize(25, exaggeration=4, callback=look, callback_every=10)
    embedding.optimize(25, callback=look, callback_every=10)
    assert [row[0] for row in seen] == [10, 20, 30, 40, 50]
    assert [row[4] for row in seen] == [4, 4, 1, 1, 1]
    for _, positions, loss, gradient_norm, exaggeration in seen:
        # What the callback sees is computed from float32 positions before they are centred.
        expected = gradient.tsne_loss(few_digits[0].P, positions)
        assert loss.kl_divergence == pytest.approx(expected.kl_divergence, rel=1e-5)
        slope = gradient.tsne_gradient(few_digits[0].P, positions, exaggeration=exaggeration)
        assert gradient_norm == pytest.approx(np.linalg.norm(slope), rel=1e-4)
    assert np.array_equal(seen[-1][1], embedding.positions)
    assert list(embedding.loss["iteration"]) == [0, 10, 20, 25, 30, 40, 50]
    blind = Embedding(*few_digits).optimize(25, exaggeration=4).optimize(25)
    assert blind.positions.tobytes() == embedding.positions.tobytes()


def test_a_true_value_stops(few_digits):
    """The descent stops where the callback returns a true value, and records the loss there."""
    embedding = Embedding(*few_digits).optimize(100, callback=lambda s: s.iteration == 30, callback_every=15)
    assert (embedding.n_iter, embedding.stop_reason) == (30, "callback")
    assert embedding.loss["iteration"][-1] == 30
    plain = Embedding(*few_digits).optimize(30)
    assert plain.positions.tobytes() == embedding.positions.tobytes()
    assert plain.stop_reason == "iterations"
    estimator = kullback.TSNE(callback=lambda s: True, callback_every=20).fit(load_digits().data[:100])
    assert (estimator.n_iter_, estimator.stop_reason_) == (20, "callback")


def test_one_iteration_allocates_nothing(sorted_points):
    """Thirty iterations between two sorts allocate no more memory than a few Python objects take."""
    embedding = Embedding(*sorted_points, n_threads=1, method="barnes_hut").optimize(60)
    tracemalloc.start()
    try:
        embedding.optimize(30)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8_000  # one array of positions has 10,400 bytes


def test_affinities_or_their_matrix(few_digits):
    """An embedding takes an Affinities object or its P."""
    P, init = few_digits[0].P, few_digits[1]
    assert Embedding(P, init).optimize(5).positions.tobytes() == Embedding(*few_digits).optimize(5).positions.tobytes()


def test_progress_is_a_bar(few_digits, capsys):
    """The bar is on standard error and shows the phase, the iterations and KL. Nothing is on standard output."""
    Embedding(*few_digits).optimize(60, exaggeration=4, progress=True)
    captured = capsys.readouterr()
    assert "exaggeration 4" in captured.err
    assert "60/60" in captured.err
    assert "KL" in captured.err
    assert captured.out == ""

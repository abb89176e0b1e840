"""When a descent ends: rules that are not misled by plateaus and saddles, and Ctrl-C."""

import os
import signal
import threading

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

import kullback
from kullback.tsne import Embedding
from kullback.tsne.stop_rules import StopRules


def test_the_first_plateau_is_no_rest(few_digits):
    """KL of a small map in small steps is flat for 150 iterations, with a gradient below 1e-7. No rule stops it."""
    P, init = few_digits
    embedding = Embedding(P, init * 1e-6)
    coinciding = np.log(300 * 299) - P.entropy
    trace = []
    embedding.optimize(
        1500, tol=0.05, min_grad_norm=1e-7, learning_rate=lambda i: 1e-3 if i < 150 else 300.0,
        callback=lambda s: trace.append((s.iteration, s.loss.kl_divergence, s.gradient_norm)), callback_every=10,
    )  # fmt: skip
    flat = [iteration for iteration, kl, _ in trace if abs(kl - coinciding) < 1e-5]
    assert flat[-1] >= 150
    assert trace[14][2] < 1e-7
    assert embedding.stop_reason == "tol"
    assert embedding.loss["kl_divergence"][-1] < 0.3 * coinciding


def test_rest_is_rest(few_digits):
    """After a run ends by ``tol``, five hundred more iterations gain little."""
    embedding = Embedding(*few_digits).optimize(100, exaggeration=12).optimize(5000, tol=0.002)
    assert embedding.stop_reason == "tol"
    assert embedding.n_iter < 2000
    before = embedding.loss["kl_divergence"][-1]
    after = embedding.optimize(500).loss["kl_divergence"][-1]
    assert before - after < 0.02 * before


def rules_on(kl, gradient_norm, sum_q=5000.0, tol=0.01):
    """Return at which of the given records, ten iterations apart, the descent of 100 points ends, or None."""
    rules = StopRules(100 * 99, tol, None, 0.0)
    for look, (value, norm) in enumerate(zip(kl, gradient_norm, strict=True)):
        if rules.apply(1 + 10 * look, value, sum_q, norm):
            return look
    return None


def test_rules_of_rest():
    """A level KL ends a descent after a window to measure it and one to wait.

    It does not while the gradient grows, or before Z has fallen.
    """
    level, calm = np.ones(60), np.full(60, 1e-3)
    assert rules_on(level, calm) == 9
    assert rules_on(level, 1e-6 * 1.1 ** np.arange(60)) is None  # it grows 1.6 times in a window
    assert rules_on(level, calm, sum_q=9500.0) is None
    assert rules_on(0.99 ** np.arange(60), calm) is None  # it falls by 5 % in a window
    assert rules_on(0.9999 ** np.arange(60), calm) == 9
    step = np.r_[np.ones(8), np.full(52, 0.9)]  # a fall during the wait starts it anew
    assert rules_on(step, calm) == 8 + 5 + 4
    noisy = 1 + 0.02 * (np.arange(60) % 4 == 0)  # records that differ by more than tol, up and down
    assert rules_on(noisy, calm) is None


def test_automatic_end_of_exaggeration(few_digits):
    """Exaggeration ends when the map is at rest, at the latest after half of the iterations. All iterations run."""
    X = load_digits().data[:300]
    seen = []
    estimator = kullback.TSNE(
        perplexity=15, early_exaggeration_iter="auto", max_iter=600, random_state=0, callback_every=10,
        callback=lambda s: seen.append((s.iteration, s.exaggeration)),
    ).fit(X)  # fmt: skip
    end = max(iteration for iteration, exaggeration in seen if exaggeration == 12)
    assert 100 <= end < 300
    assert estimator.n_iter_ == 600
    fixed = kullback.TSNE(perplexity=15, max_iter=600, random_state=0).fit(X)
    assert estimator.exact_kl_ <= 1.03 * fixed.exact_kl_
    never = kullback.TSNE(
        perplexity=15, early_exaggeration_iter="auto", max_iter=100, random_state=0, init="random", tol=1e-9,
        callback=lambda s: seen.append((s.iteration, s.exaggeration)),
    )  # fmt: skip
    del seen[:]
    never.fit(X)
    assert seen == [(50, 12), (100, 1)]


# ---- Ctrl-C ----------------------------------------------------------------------------------------


def press(state):
    """Press Ctrl-C at iteration 20."""
    if state.iteration == 20:
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_keeps_the_map(few_digits):
    """The running iteration is finished, the state is complete, and the usual handler is back."""
    embedding = Embedding(*few_digits).optimize(100, callback=press, callback_every=10)
    assert (embedding.n_iter, embedding.stop_reason) == (21, "interrupt")
    assert embedding.loss["iteration"][-1] == 21
    assert embedding.positions.tobytes() == Embedding(*few_digits).optimize(21).positions.tobytes()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert embedding.optimize(79).positions.tobytes() == Embedding(*few_digits).optimize(100).positions.tobytes()


def test_ctrl_c_from_outside(sorted_points):
    """A signal to the process ends a descent that would take hours."""
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    embedding = Embedding(*sorted_points, n_threads=1)
    timer.start()
    embedding.optimize(10**8)
    timer.join()
    assert embedding.stop_reason == "interrupt"
    assert embedding.n_iter < 10**6
    assert np.isfinite(embedding.positions).all()


def test_a_second_ctrl_c_raises(few_digits):
    """A second Ctrl-C raises KeyboardInterrupt, and the usual handler is back."""

    def twice(state):
        press(state)
        press(state)

    with pytest.raises(KeyboardInterrupt):
        Embedding(*few_digits).optimize(100, callback=twice, callback_every=10)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_leave_signals_alone(few_digits):
    """Outside the main thread a descent runs, and installs no handler."""
    found = []
    thread = threading.Thread(target=lambda: found.append(Embedding(*few_digits).optimize(10).n_iter))
    thread.start()
    thread.join()
    assert found == [10]


def test_an_interrupted_fit_keeps_its_map():
    """The estimator warns and has all attributes of a complete fit. The second phase does not begin."""
    with pytest.warns(ConvergenceWarning, match="interrupted after 21 of 1000 iterations"):
        estimator = kullback.TSNE(callback=press, callback_every=10, random_state=0).fit(load_digits().data[:100])
    assert (estimator.n_iter_, estimator.stop_reason_) == (21, "interrupt")
    assert estimator.loss_.iteration[-1] == 21
    assert np.isfinite(estimator.embedding_).all()
    assert estimator.exact_kl_ > 0

"""Calls from threads, from the processes of loky and multiprocessing, and from asyncio: the bits of serial calls."""

import asyncio
import multiprocessing
import pickle
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import kullback
from kullback.tsne import Embedding

sys.path.append(str(Path(__file__).parent))  # processes find this module on the path of their parent, too

import public_calls
from public_calls import bits

N_THREADS = 8
FEW = {"perplexity": 8, "max_iter": 40, "early_exaggeration_iter": 20, "random_state": 0, "n_jobs": 1}
IN_PROCESSES = (
    "kl_divergence, rows", "pairwise_divergence, js", "RowDivergence", "evaluate", "TSNE, fit_transform",
    "repulsive_forces, exact, 2, float32", "repulsive_forces, barnes_hut, 2, float64", "Embedding, fft", "sweep",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder for the files that some calls read."""
    return tmp_path_factory.mktemp("calls")


@pytest.fixture(scope="module")
def calls(folder):
    """Return all calls of public functions."""
    return public_calls.all_calls(folder)


@pytest.fixture(scope="module")
def expected(calls):
    """Return the bits of serial calls."""
    return {name: bits(call()) for name, call in calls.items()}


def run(*works):
    """Run functions in threads, and let none raise."""
    assert public_calls.run_threads(list(works)) == []


def test_every_public_function_is_called(calls):
    """No function that runs a kernel is left out."""
    assert public_calls.uncalled(calls) == []


def test_threads_make_equal_and_different_calls(calls, expected):
    """Eight threads are at four calls at a time, and two of them at the same one."""
    names = list(calls)
    orders = [names[k % 4 :: 4] for k in range(N_THREADS)]
    assert public_calls.call_in_threads(calls, orders, expected, together=False) == []


@pytest.mark.parametrize("name", public_calls.accumulators())
def test_threads_share_an_accumulator(name):
    """They add rows to it and look at its result."""
    assert public_calls.update_in_threads(name, 2, N_THREADS) == []


# ---- One estimator, one descent ------------------------------------------------------------------


def content(model):
    """Return the bits of all that was fitted."""
    fitted = (model.embedding_, model.affinities_.P, model.n_iter_, model.kl_divergence_, np.asarray(model.loss_))
    return bits((*fitted, model.exact_kl_, model.point_kl_, model.gradient_error_, model.n_features_in_))


def test_threads_share_a_fitted_model(tmp_path):
    """They place rows, look at attributes that are computed on demand, pickle it and save it."""
    X, new = public_calls.X, public_calls.NEW
    model, twin = (kullback.TSNE(**FEW).fit(X) for _ in range(2))
    placed, attributes = bits(twin.transform(new, return_scores=True)), content(twin)

    def place():
        assert bits(model.transform(new, return_scores=True)) == placed

    def look():
        assert content(model) == attributes

    def copy_it():
        assert bits(pickle.loads(pickle.dumps(model)).transform(new, return_scores=True)) == placed
        model.save(tmp_path / "model.npz")
        assert bits(kullback.TSNE.load(tmp_path / "model.npz").transform(new, return_scores=True)) == placed

    run(place, look, copy_it, place, look, copy_it, place, look)


def test_threads_that_fit_one_model_take_turns():
    """Whoever places rows meanwhile finds one of the maps as a whole, be it of other features, and so do the fits."""
    X, new = public_calls.X, public_calls.NEW
    data = {n: np.ascontiguousarray(X[:, :n]) for n in (3, 6)}
    placed = {n: bits(kullback.TSNE(**FEW).fit(rows).transform(new[:, :n])) for n, rows in data.items()}
    maps = {n: bits(kullback.TSNE(**FEW).fit_transform(rows)) for n, rows in data.items()}
    model, done = kullback.TSNE(**FEW).fit(data[3]), threading.Event()

    def fit(n):
        for _ in range(3):
            assert bits(model.fit_transform(data[n])) == maps[n]

    def fit_all():
        other = threading.Thread(target=fit, args=(6,))
        other.start()
        fit(3)
        other.join()
        done.set()

    def place(n):
        while not done.is_set():
            try:
                assert bits(model.transform(new[:, :n])) == placed[n]
            except ValueError as error:  # the map is that of the other data, before the search as much as after it
                assert f"X has {n} features, but TSNE is expecting {9 - n} features" in str(error)

    run(fit_all, partial(place, 3), partial(place, 6))


def test_threads_that_add_rows_take_turns():
    """Of an unfitted model, one thread makes the map, and all the others add to it: no rows are lost."""
    X = public_calls.X
    model, parts = kullback.TSNE(**FEW), [X[k::4] for k in range(4)]
    run(*(partial(model.partial_fit, part) for part in parts))
    assert model.embedding_.shape == (260, 2) and len(model.loss_) == 3 + 3
    np.testing.assert_array_equal(np.sort(model.transform(X), axis=0), np.sort(model.embedding_, axis=0))


def test_a_fit_that_fails_leaves_what_another_thread_fitted():
    """A fit that began before does not bring an older map back."""
    X = public_calls.X
    begun, fitted = threading.Event(), threading.Event()

    def fail_later(state):
        if not begun.is_set():
            begun.set()
            fitted.wait(0.3)
            raise ArithmeticError("a callback may raise")

    model = kullback.TSNE(**FEW, callback=fail_later, callback_every=10)

    def fail():
        with pytest.raises(ArithmeticError, match="may raise"):
            model.fit(X[:100])

    def fit():
        assert begun.wait(60)
        model.fit(X)
        fitted.set()

    run(fail, fit)
    assert bits(model.embedding_) == bits(kullback.TSNE(**FEW).fit_transform(X))


def test_a_callback_sees_the_old_map_and_may_keep_things():
    """While a model is fitted it is as before, and what a callback sets stays."""
    X = public_calls.X
    model = kullback.TSNE(**FEW).fit(X[:, :3])
    before = bits(model.transform(X[:9, :3]))

    def look(state):
        assert bits(model.transform(X[:9, :3])) == before
        model.last_kl = state.loss.kl_divergence

    model.set_params(callback=look, callback_every=20).fit(X)
    assert model.n_features_in_ == 6
    assert model.last_kl == model.kl_divergence_


@pytest.mark.parametrize("method", ["exact", "fft"])
def test_a_descent_that_others_look_at(tmp_path, method):
    """What others read, copy and save is the state between two iterations; a second descent at once is refused."""
    make = partial(Embedding, public_calls.WIDE_JOINT, public_calls.WIDE / 1e3, method=method, n_threads=1)
    alone, done = make(), threading.Event()
    states = [bits(alone.optimize(n).positions) for n in [0] + [1] * 60]
    shared = make()

    def descend():
        try:
            for _ in range(6):
                shared.optimize(10)
        finally:
            done.set()

    def look():
        while not done.is_set():
            assert bits(shared.positions) in states
            iterations = shared.loss["iteration"].tolist()
            assert iterations == sorted(set(iterations))

    def save():
        while not done.is_set():
            shared.save(tmp_path / "map.npz")
            saved = Embedding.load(tmp_path / "map.npz", n_threads=1)
            assert bits(saved.positions) == states[saved.n_iter]
            if saved.n_iter < 60:
                assert bits(saved.optimize(1).positions) == states[saved.n_iter]

    run(descend, look, save)
    with pytest.raises(RuntimeError, match="optimize runs on this object already"):
        shared.optimize(3, callback=lambda state: shared.optimize(1), callback_every=1)
    assert bits(make().optimize(60).positions) == states[60]


# ---- Processes and asyncio -----------------------------------------------------------------------


def test_processes(folder, expected):
    """A process of each kind gives the same bits, also by a fitted model that is sent to it."""
    loky = pytest.importorskip("joblib.externals.loky")
    model = kullback.TSNE(**FEW).fit(public_calls.X)
    placed = bits(model.transform(public_calls.NEW))
    with ExitStack() as pools:
        pool = pools.enter_context(loky.ProcessPoolExecutor(1))
        starts = [pool.submit]
        for kind in {"spawn", "forkserver"} & set(multiprocessing.get_all_start_methods()):
            context = multiprocessing.get_context(kind)
            starts.append(pools.enter_context(ProcessPoolExecutor(1, mp_context=context)).submit)
        found = [start(public_calls.bits_of_calls, str(folder), IN_PROCESSES) for start in starts]
        there = [start(model.transform, public_calls.NEW) for start in starts]
        for result in found:
            assert result.result(300) == {name: expected[name] for name in IN_PROCESSES}
        for result in there:
            assert bits(result.result(300)) == placed


def test_asyncio(calls, expected):
    """Calls that an event loop sends to threads give the same bits."""

    async def gather():
        return await asyncio.gather(*(asyncio.to_thread(calls[name]) for name in IN_PROCESSES))

    found = asyncio.run(gather())
    assert [bits(value) for value in found] == [expected[name] for name in IN_PROCESSES]

"""The descent by its parts: schedules, callbacks, stops that are not fooled, Ctrl-C, files that resume it."""

import copy
import io
import json
import os
import pickle
import signal
import threading
import tracemalloc
import zipfile

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

import kullback
from kullback import affinities, gradient
from kullback.tsne import Embedding, State, initialization
from kullback.tsne.stop_rules import StopRules


@pytest.fixture(scope="module")
def digits():
    """Return the affinities of 300 digits and their principal components."""
    X = load_digits().data[:300]
    return affinities.perplexity(X, 15), initialization.pca(X, random_state=0)


@pytest.fixture(scope="module")
def sorted_points():
    """Return affinities and a start of 1,300 digits, which are sorted along the Z-order curve."""
    X = load_digits().data[:1300]
    return affinities.perplexity(X, 10), initialization.pca(X, random_state=0)


# ---- Schedules -------------------------------------------------------------------------------------


def test_a_number_is_a_constant_function(digits):
    """Numbers and functions that return them give one path, bit for bit."""
    numbers = Embedding(*digits).optimize(60, exaggeration=4, learning_rate=50, momentum=0.6)
    functions = Embedding(*digits).optimize(
        60, exaggeration=lambda i: 4, learning_rate=lambda i: 50, momentum=lambda i: 0.6
    )
    assert numbers.positions.tobytes() == functions.positions.tobytes()


def test_schedules_see_the_iterations_of_the_embedding(digits):
    """A function is asked once for every iteration, and goes on counting in the next call: two calls are one."""
    asked = []

    def anneal(iteration):
        asked.append(iteration)
        return max(1.0, 12 - 0.2 * iteration)

    whole = Embedding(*digits).optimize(70, exaggeration=anneal)
    assert asked == list(range(70))
    halves = Embedding(*digits).optimize(30, exaggeration=anneal).optimize(40, exaggeration=anneal)
    assert asked == 2 * list(range(70))
    assert whole.positions.tobytes() == halves.positions.tobytes()
    constant = Embedding(*digits).optimize(70, exaggeration=12)
    assert not np.array_equal(whole.positions, constant.positions)


def test_auto_learning_rate_follows_the_exaggeration(digits):
    """The learning rate is n / exaggeration at each iteration, whatever the schedule."""
    seen = []
    Embedding(*digits).optimize(
        4, exaggeration=lambda i: 2.0**i, callback=lambda s: seen.append(s.learning_rate), callback_every=1
    )
    assert seen == [300, 150, 75, 37.5]
    assert Embedding(*digits).optimize(5, exaggeration=12).learning_rate == 25


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"exaggeration": 0}, ValueError, r"exaggeration must be in \(0, inf\], got 0"),
        ({"exaggeration": lambda i: -i}, ValueError, r"exaggeration of iteration 0 must be in \(0, inf\], got 0"),
        ({"momentum": lambda i: "x"}, TypeError, "momentum of iteration 0 must be a real number, got 'x'"),
        ({"momentum": 1.5}, ValueError, r"momentum must be in \[0, 1\], got 1.5"),
        ({"learning_rate": "fast"}, TypeError, 'learning_rate .a number or "auto". must be a real number'),
        ({"tol": 0}, ValueError, r"tol must be in \(0, inf\], got 0"),
        ({"callback_every": 0}, ValueError, "callback_every must be at least 1, got 0"),
        ({"max_step": -1}, ValueError, r"max_step must be in \(0, inf\], got -1"),
        ({"n_iter_without_progress": -1}, ValueError, "n_iter_without_progress must be at least 0, got -1"),
        ({"exagg": 1}, TypeError, "exagg"),
    ],
)
def test_bad_options_are_named(digits, options, error, message):
    """Numbers are refused before the first iteration, values of functions when they come."""
    with pytest.raises(error, match=message):
        Embedding(*digits).optimize(5, **options)


# ---- Callbacks -------------------------------------------------------------------------------------


def test_a_callback_sees_one_moment(digits):
    """Positions, loss and gradient of a state belong together, and looking changes no bit of the path."""
    seen = []

    def look(state: State):
        seen.append((state.iteration, state.positions, state.loss, state.gradient_norm, state.exaggeration))

    embedding = Embedding(*digits).optimize(25, exaggeration=4, callback=look, callback_every=10)
    embedding.optimize(25, callback=look, callback_every=10)
    assert [row[0] for row in seen] == [10, 20, 30, 40, 50]
    assert [row[4] for row in seen] == [4, 4, 1, 1, 1]
    for _, positions, loss, gradient_norm, exaggeration in seen:
        # the callback's are of float32 positions that have not been centred
        expected = gradient.tsne_loss(digits[0].P, positions)
        assert loss.kl_divergence == pytest.approx(expected.kl_divergence, rel=1e-5)
        slope = gradient.tsne_gradient(digits[0].P, positions, exaggeration=exaggeration)
        assert gradient_norm == pytest.approx(np.linalg.norm(slope), rel=1e-4)
    assert np.array_equal(seen[-1][1], embedding.positions)
    assert list(embedding.loss["iteration"]) == [0, 10, 20, 25, 30, 40, 50]
    blind = Embedding(*digits).optimize(25, exaggeration=4).optimize(25)
    assert blind.positions.tobytes() == embedding.positions.tobytes()


def test_a_true_value_stops(digits):
    """The descent stays where the callback said stop, and records the loss there."""
    embedding = Embedding(*digits).optimize(100, callback=lambda s: s.iteration == 30, callback_every=15)
    assert (embedding.n_iter, embedding.stop_reason) == (30, "callback")
    assert embedding.loss["iteration"][-1] == 30
    plain = Embedding(*digits).optimize(30)
    assert plain.positions.tobytes() == embedding.positions.tobytes()
    assert plain.stop_reason == "iterations"
    estimator = kullback.TSNE(callback=lambda s: True, callback_every=20).fit(load_digits().data[:100])
    assert (estimator.n_iter_, estimator.stop_reason_) == (20, "callback")


def test_one_iteration_allocates_nothing(sorted_points):
    """Thirty iterations between two sorts take no more memory than a few Python objects."""
    embedding = Embedding(*sorted_points, n_threads=1, method="barnes_hut").optimize(60)
    tracemalloc.start()
    try:
        embedding.optimize(30)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8_000  # one array of positions has 10,400 bytes


def test_affinities_or_their_matrix(digits):
    """An Affinities object stands for its P."""
    P, init = digits[0].P, digits[1]
    assert Embedding(P, init).optimize(5).positions.tobytes() == Embedding(*digits).optimize(5).positions.tobytes()


# ---- Rest ------------------------------------------------------------------------------------------


def test_the_first_plateau_is_no_rest(digits):
    """A small map in small steps is flat for 150 iterations, with a gradient below 1e-7: nothing stops it."""
    P, init = digits
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


def test_rest_is_rest(digits):
    """Where the run ends by ``tol``, five hundred further iterations gain little."""
    embedding = Embedding(*digits).optimize(100, exaggeration=12).optimize(5000, tol=0.002)
    assert embedding.stop_reason == "tol"
    assert embedding.n_iter < 2000
    before = embedding.loss["kl_divergence"][-1]
    after = embedding.optimize(500).loss["kl_divergence"][-1]
    assert before - after < 0.02 * before


def rules_on(kl, gradient_norm, sum_q=5000.0, tol=0.01):
    """Return at which of the given looks, ten iterations apart, the descent of 100 points ends."""
    rules = StopRules(100, tol, None, 0.0)
    for look, (value, norm) in enumerate(zip(kl, gradient_norm, strict=True)):
        if rules.apply(1 + 10 * look, value, sum_q, norm):
            return look
    return None


def test_rules_of_rest():
    """A level KL is rest after a window to measure and one to wait; not while the gradient grows, or before Z falls."""
    level, calm = np.ones(60), np.full(60, 1e-3)
    assert rules_on(level, calm) == 9
    assert rules_on(level, 1e-6 * 1.1 ** np.arange(60)) is None  # 1.6 times in a window
    assert rules_on(level, calm, sum_q=9500.0) is None
    assert rules_on(0.99 ** np.arange(60), calm) is None  # 5 % in a window
    assert rules_on(0.9999 ** np.arange(60), calm) == 9
    step = np.r_[np.ones(8), np.full(52, 0.9)]  # a fall within the wait starts it anew
    assert rules_on(step, calm) == 8 + 5 + 4
    noisy = 1 + 0.02 * (np.arange(60) % 4 == 0)  # looks that differ by more than tol, up and down
    assert rules_on(noisy, calm) is None


def test_automatic_end_of_exaggeration(digits):
    """Exaggeration ends once the map is at rest under it, no later than half of the iterations; all others run."""
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


def test_ctrl_c_keeps_the_map(digits):
    """The iteration that runs is finished, the state is whole, and the handler is the usual one again."""
    embedding = Embedding(*digits).optimize(100, callback=press, callback_every=10)
    assert (embedding.n_iter, embedding.stop_reason) == (21, "interrupt")
    assert embedding.loss["iteration"][-1] == 21
    assert embedding.positions.tobytes() == Embedding(*digits).optimize(21).positions.tobytes()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert embedding.optimize(79).positions.tobytes() == Embedding(*digits).optimize(100).positions.tobytes()


def test_ctrl_c_from_outside(sorted_points):
    """A signal to the process ends a descent that would take hours, in far less than the time limit of a test."""
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    embedding = Embedding(*sorted_points, n_threads=1)
    timer.start()
    embedding.optimize(10**8)
    timer.join()
    assert embedding.stop_reason == "interrupt"
    assert embedding.n_iter < 10**6
    assert np.isfinite(embedding.positions).all()


def test_a_second_ctrl_c_raises(digits):
    """Who presses twice wants out."""

    def twice(state):
        press(state)
        press(state)

    with pytest.raises(KeyboardInterrupt):
        Embedding(*digits).optimize(100, callback=twice, callback_every=10)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_leave_signals_alone(digits):
    """Outside the main thread a descent runs and installs no handler."""
    found = []
    thread = threading.Thread(target=lambda: found.append(Embedding(*digits).optimize(10).n_iter))
    thread.start()
    thread.join()
    assert found == [10]


def test_an_interrupted_fit_keeps_its_map():
    """The estimator warns, and has everything that a whole fit has; the second phase does not begin."""
    with pytest.warns(ConvergenceWarning, match="interrupted after 21 of 1000 iterations"):
        estimator = kullback.TSNE(callback=press, callback_every=10, random_state=0).fit(load_digits().data[:100])
    assert (estimator.n_iter_, estimator.stop_reason_) == (21, "interrupt")
    assert estimator.loss_.iteration[-1] == 21
    assert np.isfinite(estimator.embedding_).all()
    assert estimator.exact_kl_ > 0


# ---- Files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [0, 50, 73, 130])
@pytest.mark.parametrize("method", ["auto", "exact", "barnes_hut", "fft"])
def test_a_file_resumes_bit_for_bit(sorted_points, method, stop, tmp_path):
    """Before, at and between sorts of the points; saving changes nothing either."""
    whole = Embedding(*sorted_points, n_threads=1, method=method).optimize(160, exaggeration=4)
    first = Embedding(*sorted_points, n_threads=1, method=method).optimize(stop, exaggeration=4)
    first.save(tmp_path / "map.npz")
    again = Embedding.load(tmp_path / "map.npz", n_threads=3 if stop == 73 else 1)
    assert again.positions.tobytes() == first.positions.tobytes()
    assert (again.n_iter, again.stop_reason) == (stop, "iterations")
    for embedding in (first, again):
        embedding.optimize(160 - stop, exaggeration=4)
        assert embedding.positions.tobytes() == whole.positions.tobytes()
        # records at the end of a call are one more; the others have the same bits
        common = np.isin(embedding.loss["iteration"], whole.loss["iteration"])
        assert embedding.loss[common].tobytes() == whole.loss.tobytes()


def test_the_grid_that_is_kept_is_in_the_file(sorted_points, tmp_path):
    """A map that shrank keeps its wider FFT grid, whose rounding a fresh grid would not repeat."""
    P, init = sorted_points
    embedding = Embedding(P, init * 3e5, method="fft", n_threads=1)
    embedding.optimize(20, exaggeration=30)
    fresh = Embedding(P, embedding.positions, method="fft", n_threads=1).optimize(0)
    assert fresh._repulsion.n_nodes != embedding._repulsion.n_nodes  # else this tests nothing
    embedding.save(tmp_path / "map.npz")
    again = Embedding.load(tmp_path / "map.npz", n_threads=1).optimize(20)
    assert again.positions.tobytes() == embedding.optimize(20).positions.tobytes()


@pytest.mark.parametrize("n_components", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_kind_of_map_is_kept(digits, n_components, dtype, tmp_path):
    """Dimensions, precision, options and momentum come back."""
    init = np.random.default_rng(0).normal(size=(300, n_components)).astype(dtype)
    embedding = Embedding(digits[0], init, dof=0.7, theta=0.3).optimize(30)
    embedding.save(str(tmp_path / "map.npz"))
    again = Embedding.load(str(tmp_path / "map.npz"))
    assert again.positions.dtype == dtype
    assert again.optimize(10).positions.tobytes() == embedding.optimize(10).positions.tobytes()


def test_copies_and_pickles_go_on_alike(sorted_points):
    """Both are the embedding again, and independent of it."""
    embedding = Embedding(*sorted_points, n_threads=1).optimize(60, exaggeration=4)
    twins = copy.deepcopy(embedding), pickle.loads(pickle.dumps(embedding))
    embedding.optimize(20)
    for twin in twins:
        assert twin.n_iter == 60
        assert twin.optimize(20).positions.tobytes() == embedding.positions.tobytes()


def test_progress_is_a_bar(digits, capsys):
    """On standard error, with the phase, the iterations and KL; nothing on standard output."""
    Embedding(*digits).optimize(60, exaggeration=4, progress=True)
    captured = capsys.readouterr()
    assert "exaggeration 4" in captured.err
    assert "60/60" in captured.err
    assert "KL" in captured.err
    assert captured.out == ""


def members(path):
    """Return the arrays of a file."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a file with a small map, and its arrays."""
    rng = np.random.default_rng(0)
    P = affinities.perplexity(rng.normal(size=(20, 3)), 4)
    path = tmp_path_factory.mktemp("embedding") / "map.npz"
    Embedding(P, rng.normal(size=(20, 2)).astype(np.float32), method="fft").optimize(7).save(path)
    return path, members(path)


def damages(arrays):
    """Yield arrays that are wrong in one way each."""
    header = json.loads(str(arrays["header"]))
    for name in arrays:
        yield {key: value for key, value in arrays.items() if key != name}
        if name == "header":
            continue
        yield arrays | {name: arrays[name][:-1]}
        yield arrays | {name: arrays[name].astype(np.int8)}
        yield arrays | {name: np.full(arrays[name].shape, 2**30, arrays[name].dtype)}
        yield arrays | {name: arrays[name] - np.asarray(2**20).astype(arrays[name].dtype)}
        if arrays[name].dtype.kind == "f":
            yield arrays | {name: arrays[name] * np.float32("nan")}
            yield arrays | {name: arrays[name] + np.float32("inf")}
    yield arrays | {"surplus": np.zeros(3)}
    yield arrays | {"order": np.zeros_like(arrays["order"])}
    yield arrays | {"columns": arrays["columns"] + 1}
    yield arrays | {"row_starts": arrays["row_starts"][::-1].copy()}
    yield arrays | {"grid": np.array([1.0, 0.0, 2.0**40, 2.0**40])}
    yield arrays | {"grid": np.array([1.0, 0.0, 30.5, 30])}
    yield arrays | {"grid": np.ones(1)}
    for change in (
        {"version": 2}, {"version": "1"}, {"format": "kullback.tsne.Nothing"}, {"surplus": 1}, {"options": None},
        {"options": {}, "n_iter": 3.5}, {"n_iter": -1}, {"n_iter": 2**70}, {"n_iter": 3}, {"stop_reason": 7},
        {"options": header["options"] | {"theta": "x"}}, {"options": header["options"] | {"theta": 7}},
        {"options": header["options"] | {"surplus": 1}}, {"options": header["options"] | {"method": "fast"}},
        {"options": header["options"] | {"n_threads": 1}}, {"options": header["options"] | {"dof": float("nan")}},
        {"options": header["options"] | {"method": "exact"}},
    ):  # fmt: skip
        yield arrays | {"header": np.array(json.dumps(header | change))}
    for text in ("", "[]", "3", "[" * 100_000):
        yield arrays | {"header": np.array(text)}


def test_damaged_arrays_are_refused(saved, tmp_path):
    """Each of about a hundred wrong files raises a ValueError; the right one is read."""
    path, arrays = saved
    count = 0
    for damaged in damages(arrays):
        np.savez(tmp_path / "bad.npz", **damaged)
        harmless = {"rates", "gains", "velocity", "loss", "centre"}  # any finite numbers will do there
        changed = {key for key in damaged if damaged[key] is not arrays.get(key)}
        shapes = all(damaged[key].shape == arrays[key].shape for key in changed & set(arrays))
        if changed and changed <= harmless and shapes and all(
            damaged[key].dtype == arrays[key].dtype and np.isfinite(damaged[key]).all() for key in changed
        ):  # fmt: skip
            continue
        if changed == {"positions"} and np.isfinite(damaged["positions"]).all() and shapes:
            continue
        with pytest.raises(ValueError, match="cannot load"):
            Embedding.load(tmp_path / "bad.npz")
        count += 1
    assert count > 80
    assert Embedding.load(path).n_iter == 7


def test_damaged_files_are_refused(saved, tmp_path):
    """Every truncation and every flipped bit raises a ValueError or changes nothing that counts."""
    path, arrays = saved
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for cut in [0, 1, *rng.integers(2, len(content), 25)]:
        (tmp_path / "bad.npz").write_bytes(content[:cut])
        with pytest.raises(ValueError, match="cannot load"):
            Embedding.load(tmp_path / "bad.npz")
    for place in rng.integers(0, len(content), 120):
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.integers(8)
        (tmp_path / "bad.npz").write_bytes(flipped)
        try:
            Embedding.load(tmp_path / "bad.npz").save(tmp_path / "again.npz")
        except ValueError as error:
            assert "cannot load" in str(error)
            continue
        again = members(tmp_path / "again.npz")
        assert all(again[name].tobytes() == arrays[name].tobytes() for name in arrays)


def test_hostile_files(saved, tmp_path):
    """Pickles are never opened, nor what claims to be larger than it is."""
    _, arrays = saved
    path = tmp_path / "bad.npz"
    np.savez(path, **(arrays | {"positions": np.array([print, open], object)}))
    with pytest.raises(ValueError, match="cannot load"):
        Embedding.load(path)
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(huge, {"descr": "<f4", "fortran_order": False, "shape": (2**40, 2)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("positions.npy", huge.getvalue())
    with pytest.raises(ValueError, match="does not fit its size"):
        Embedding.load(path)
    kullback.streaming.RowDivergence().save(path)
    with pytest.raises(ValueError, match="its header must have the keys"):
        Embedding.load(path)
    with pytest.raises(FileNotFoundError):
        Embedding.load(tmp_path / "nothing.npz")

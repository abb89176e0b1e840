"""Accumulators that threads share, and updates that end in the middle."""

import copy
import os
import pickle
import sys
import threading
from functools import partial

import numpy as np
import pytest

import kullback.streaming as streaming
from kullback.streaming import HistogramDivergence, PairedDivergence, RowDivergence, RowValues, SupportDivergence

N_THREADS = 4
CLASSES = {name for name in streaming.__all__ if hasattr(getattr(streaming, name), "merge")}


def chunk(kind, seed, *, labels=None):
    """Return the arguments of an update for an accumulator of `make`; ``labels`` are those of groups."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    p, q, r = (rng.dirichlet(np.ones(5), n) for _ in range(3))
    groups = rng.integers(0, 40, n) if labels is None else np.full(n, labels)
    if kind == "row":
        return (p, q), {"group": groups, **({"weights": rng.random(n)} if seed % 2 else {})}
    if kind == "values":
        return (rng.normal(size=(2, n)),), {}
    if kind == "histogram":
        return (), {"q": q}
    if kind in ("support", "logits"):
        return ((p[0], q[0]), {}) if kind == "support" else ((9 * rng.normal(size=(2, 9))), {})
    return (p, q, r), {"cluster": groups}


def test_all_classes_are_tried(make, kinds):
    """Each accumulator of the public module is among those below."""
    assert {type(make(kind)).__name__ for kind in kinds} == CLASSES


def run(*works):
    """Run functions in threads that begin together; raise the first error."""
    barrier, errors = threading.Barrier(len(works)), []

    def work(function):
        barrier.wait()
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(function,)) for function in works]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads change as often as they can
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive(), "threads wait for each other"
    finally:
        sys.setswitchinterval(interval)
    if errors:
        raise errors[0]


def test_updates_and_merges_from_threads(make, kind):
    """Updates and merges from several threads, in any order, give the bits of one thread."""
    shared, serial = make(kind), make(kind)
    chunks = [[chunk(kind, 100 * i + k) for k in range(12)] for i in range(N_THREADS)]
    parts = [make(kind) for _ in range(N_THREADS)]
    for part, own in zip(parts, chunks, strict=True):
        for positional, named in own:
            serial.update(*positional, **named)
        part.update(*own[0][0], **own[0][1])
        serial.merge(part)

    def work(i):
        for k, (positional, named) in enumerate(chunks[i]):
            shared.update(*positional, **named)
            if k == i:
                shared.merge(parts[i])

    run(*(lambda i=i: work(i) for i in range(N_THREADS)))
    assert shared == serial
    assert shared.result().to_dict().__repr__() == serial.result().to_dict().__repr__()


def test_readers_see_whole_states(make, kind):
    """Whatever reads while others update sees each chunk as a whole: the states that it finds could all be."""
    shared, positions = make(kind), [chunk(kind, 7, labels=k) for k in range(30)]
    expected, counter = {}, shared.copy()
    expected[content(counter)] = 0
    for k, (positional, named) in enumerate(positions):
        counter.update(*positional, **named)
        expected[content(counter)] = k + 1
    stop = threading.Event()

    def write():
        for positional, named in positions:
            shared.update(*positional, **named)
        stop.set()

    def read():
        last = 0
        ways = (
            lambda: pickle.loads(pickle.dumps(shared)),
            lambda: copy.deepcopy(shared),
            lambda: type(shared).from_state(shared.to_state()),
            lambda: shared.copy().reset().merge(shared),
            shared.copy,
        )
        while not stop.is_set():
            for way in ways:
                now = expected[content(way())]  # a KeyError is a state that never was
                assert now >= last
                last = now
            repr(shared)
            shared.result()

    run(write, read, read)


def content(accumulator):
    """Return what tells states apart."""
    state = accumulator.to_state()
    return tuple(array.tobytes() for name, array in state.items() if name != "header")


def test_merging_each_other_does_not_wait_for_ever(make, kind):
    """One thread merges a with b while another merges b with a."""
    left, right = make(kind), make(kind).reset()

    def merge(a, b):
        for _ in range(20):
            a.merge(b)
            a.reset()

    run(lambda: merge(left, right), lambda: merge(right, left), lambda: left == right, lambda: left + right)


def test_frames_of_two_orders_from_threads():
    """The first frame names the features, and columns in another order are matched, whichever thread is first."""
    pandas = pytest.importorskip("pandas")
    values = np.random.default_rng(0).random((50, 2))
    frames = [pandas.DataFrame(values, columns=list("ab")), pandas.DataFrame(values[:, ::-1], columns=list("ba"))]
    for _ in range(5):
        shared = HistogramDivergence(edges=[0.2, 0.5], n_features=2)
        run(*(partial(shared.update, frame, frame) for frame in frames))
        names = shared.to_state()["names"].tolist()
        alone = HistogramDivergence(edges=[0.2, 0.5], n_features=2).update(frames["".join(names) == "ba"])
        assert (shared.counts_p == 2 * alone.counts_p).all()


class Interrupt:
    """Raise an error before the n-th operation of the interpreter in the code of streaming."""

    def __init__(self, n, error):
        self.left, self.error = n, error
        self.root = os.path.dirname(streaming.__file__)

    def __call__(self, frame, event, argument):
        """Trace the operations of this code alone, and raise when the time has come."""
        if not frame.f_code.co_filename.startswith(self.root):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                raise self.error
        return self


def interrupt(function, n, error):
    """Call a function, raise the error at its n-th operation, and return how many operations it had left."""
    usual, tracer = sys.gettrace(), Interrupt(n, error)
    sys.settrace(tracer)
    try:
        function()
    except type(error):
        return 0
    finally:
        sys.settrace(usual)
    return tracer.left


@pytest.mark.parametrize(("way", "n_places"), [("update", 100), ("merge", 60), ("result", 12), ("reset", 40)])
def test_an_interrupt_at_any_place_leaves_all_or_nothing(make, kind, way, n_places, monkeypatch):
    """Ctrl-C or a MemoryError before any operation leaves the state before or after, and going on is exact.

    The accumulator grows in the update: new groups, first weights, and buckets that are full.
    """
    # An exception that is injected just behind the entry of a lock leaves it held, which no signal can do. Threads of
    # later tests would wait for it if it were one of those that accumulators share.
    monkeypatch.setattr("kullback.streaming._state.take_lock", threading.RLock)
    start, other = make(kind), make(kind)
    (positional, named), more = chunk(kind, 3, labels=99), chunk(kind, 1)
    if kind == "values":
        start.update(np.ones((2, 2040)))  # 4096 keys fit
    if kind == "row":
        start = RowDivergence(("kl", "entropy_p"), quantiles=(0.5,), groups=True)
        start.update(*chunk(kind, 2)[0], group=0)
        other.update(*positional, **named)
    if kind == "logits":
        positional = positional + 100  # which raises the windows
    act = {"update": lambda acc: acc.update(*positional, **named), "merge": lambda acc: acc.merge(other),
           "result": lambda acc: acc.result(), "reset": lambda acc: acc.reset()}[way]  # fmt: skip
    before, after = start.copy(), start.copy()
    act(after)
    later = {content(acc): content(acc.copy().update(*more[0], **more[1])) for acc in (before, after)}
    end = 10**9
    for _ in range(2):  # Python 3.13 traces all operations only of code that has been traced before
        n_operations = end - interrupt(partial(act, start.copy()), end, KeyboardInterrupt())
    seen = set()
    for n in np.unique(np.linspace(1, n_operations + 1, n_places, dtype=int)).tolist():
        acc = start.copy()
        interrupt(partial(act, acc), n, (KeyboardInterrupt, MemoryError)[n % 2]())
        found = content(acc)
        assert found in later, n
        assert content(acc.update(*more[0], **more[1])) == later[found], n
        seen.add(found)
    assert seen == set(later) or way == "result"


def test_bad_rows_in_a_chunk_change_nothing():
    """A chunk with one bad row, label or weight is refused as a whole."""
    p = np.full((3, 2), 0.5)
    bad = p.copy()
    bad[2] = 2
    row = RowDivergence(groups=True, quantiles=(0.5,)).update(p, p, group=1)
    paired = PairedDivergence(clusters=True).update(p, p, p, cluster=1)
    support = SupportDivergence(from_logits=True).update(p, p)
    histogram = HistogramDivergence(edges=[0.5], n_features=2).update(p, p)
    values = RowValues(("a", "b")).update([[1.0], [2.0]])
    for acc, positional, named in (
        (row, (p, bad), {"group": 2}), (row, (p, p), {"group": "x"}), (row, (p, p), {"group": [2, 3]}),
        (row, (p, p), {"group": 2, "weights": [1, 1, -1]}), (paired, (p, p, bad), {"cluster": 2}),
        (paired, (p, p, p[:2]), {"cluster": 2}), (paired, (p, p, p), {"cluster": "x"}), (paired, (p, p, p), {}),
        (support, (p, p * np.nan), {}), (support, (p, p[:2]), {}), (histogram, (p, "x"), {}),
        (histogram, (p, p[:, :1]), {}), (values, ([[1.0], [2.0, 3.0]],), {}), (values, ([[1.0], ["x"]],), {}),
    ):  # fmt: skip
        before = acc.copy()
        with pytest.raises((ValueError, TypeError), match=r"."):
            acc.update(*positional, **named)
        assert acc == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_finds_accumulators_whole_and_free(make):
    """A child that is forked while threads update can read, update and merge what they share."""
    shared = make("row")
    stop = threading.Event()

    def write():
        k = 0
        while not stop.is_set():
            positional, named = chunk("row", k % 50)
            shared.update(*positional, **named)
            k += 1

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    positional, named = chunk("row", 3)
                    RowDivergence.from_state(shared.update(*positional, **named).to_state()).merge(shared).result()
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()

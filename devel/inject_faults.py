"""Send signals at random moments and take memory away, and count what does not survive.

``python devel/inject_faults.py signals`` lets Ctrl-C arrive while a model is fitted, grown or applied, and while rows
are evaluated. Each time the object must be as before or as after, and going on must give the bits of an uninterrupted
run. ``updates`` does so with an accumulator, which must hold all rows of a chunk or none. ``commands`` sends SIGINT and
SIGTERM to the command line and to an evaluation with a checkpoint: no file may be half-written. ``memory`` forks a
child for each level of RLIMIT_AS: a call gives its result or a MemoryError, and afterwards, without the limit, its
result. Exit status 1 says that something was lost.
"""

import argparse
import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np

import kullback
from kullback import affinities, gradient, neighbors, streaming
from kullback.tsne import Embedding, initialization

rng = np.random.default_rng(0)
X = rng.normal(size=(1500, 10)).astype(np.float32)
P, Q = rng.dirichlet(np.ones(200), (2, 3000))
TSNE_OPTIONS = {"max_iter": 100, "early_exaggeration_iter": 50, "random_state": 0}
MEMORY_ERROR, WRONG = 10, 20


def same(first, second):
    """Return whether two results have the same bits."""
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first, second, strict=True))


# ---- Objects that a signal may reach: made anew, worked on, looked at -----------------------------


class Fit:
    """A model that has a map of other rows."""

    def __init__(self):
        self.model = kullback.TSNE(**TSNE_OPTIONS).fit(X[:300])

    def work(self):
        """Do what is interrupted."""
        self.model.fit(X)

    def state(self):
        """Return all that a user sees."""
        return self.model.embedding_, [self.model.n_iter_], self.model.affinities_.P.data


class Grow(Fit):
    """A model that gets more rows."""

    def work(self):
        """Do what is interrupted."""
        self.model.partial_fit(X[300:400])


class Place(Fit):
    """A model that places new rows."""

    placed = np.empty(0)

    def work(self):
        """Do what is interrupted."""
        self.placed = np.empty(0)
        self.placed = self.model.transform(X[300:])

    def state(self):
        """Return all that a user sees."""
        return *super().state(), self.placed


class Sweep:
    """Several maps."""

    maps = np.empty(0)

    def work(self):
        """Do what is interrupted."""
        found = kullback.sweep(X[:600], seeds=[0, 1], max_iter=60, warm_iter=30).maps
        if len(found) == 2:
            self.maps = found

    def state(self):
        """Return all that a user sees."""
        return (self.maps,)


def interrupt(work, seconds):
    """Let Ctrl-C arrive after some seconds of work; return how long the work went on."""
    sent = []

    def send():
        time.sleep(seconds)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=send)
    ended = None
    try:
        thread.start()
        work()
        ended = time.perf_counter()
        thread.join()
        time.sleep(0.01)
    except KeyboardInterrupt:
        ended = ended or time.perf_counter()
        thread.join()
    return max(0.0, ended - sent[0])


def optimise(moments):
    """Interrupt a descent, and let it go on."""
    joint, start = affinities.perplexity(X, 20), initialization.pca(X, random_state=0)
    begin = time.perf_counter()
    expected = Embedding(joint, start).optimize(150).positions
    duration, lost, slowest = time.perf_counter() - begin, 0, 0.0
    for _ in range(moments):
        embedding = Embedding(joint, start)
        slowest = max(slowest, interrupt(lambda e=embedding: e.optimize(150), random.uniform(0, 1.1 * duration)))
        lost += not np.array_equal(embedding.optimize(150 - embedding.n_iter).positions, expected)
    return lost, slowest


def evaluate(moments):
    """Interrupt an evaluation, and let it go on from its checkpoint."""
    begin = time.perf_counter()
    expected = kullback.evaluate(P, Q, batch_rows=100, progress=False).kl.mean
    duration, lost, slowest = time.perf_counter() - begin, 0, 0.0
    for _ in range(moments):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "state.npz")

            def work(path=path):
                with contextlib.suppress(kullback.EvaluationInterrupted):
                    kullback.evaluate(P, Q, batch_rows=100, progress=False, checkpoint=path, checkpoint_every=0.001)

            slowest = max(slowest, interrupt(work, random.uniform(0, 3 * duration)))
            again = kullback.evaluate(P, Q, batch_rows=100, progress=False, checkpoint=path).kl.mean
            lost += again != expected or os.listdir(folder) != ["state.npz"]
    return lost, slowest


def update(moments):
    """Interrupt an accumulator that gets chunks of rows: each must be in it as a whole or not at all."""
    make = lambda: streaming.RowDivergence(("kl", "js"), quantiles=[0.5])  # noqa: E731
    lost, slowest = 0, 0.0
    for _ in range(moments):
        accumulator, n_updates = make(), 0

        def work(accumulator=accumulator):
            nonlocal n_updates
            for start in range(0, 3000, 5):
                accumulator.update(P[start : start + 5], Q[start : start + 5])
                n_updates += 1

        slowest = max(slowest, interrupt(work, random.uniform(0, 0.2)))
        whole = [make().update(P[: 5 * n], Q[: 5 * n]) for n in (n_updates, n_updates + 1)]
        lost += repr(accumulator.result()) not in {repr(one.result()) for one in whole}
    return lost, slowest


def inject_signals(moments):
    """Return how many faults were injected and lost."""
    n_lost = 0
    for kind in (Fit, Grow, Place, Sweep):
        thing = kind()
        begin = time.perf_counter()
        thing.work()
        duration, after, lost, slowest = time.perf_counter() - begin, thing.state(), 0, 0.0
        for _ in range(moments):
            thing = kind()
            before = thing.state()
            slowest = max(slowest, interrupt(thing.work, random.uniform(0, 1.1 * duration)))
            partly = kind is Fit and thing.model.stop_reason_ == "interrupt"
            consistent = partly or same(thing.state(), before) or same(thing.state(), after)
            if kind is not Grow or same(thing.state(), before):
                thing.work()
            lost += not (consistent and same(thing.state(), after))
        n_lost += report(kind.__name__, moments, lost, slowest)
    n_lost += report("Optimise", moments, *optimise(moments))
    n_lost += report("Evaluate", moments, *evaluate(moments))
    return n_lost


def report(name, injected, lost, slowest):
    """Print one line, and return what was lost."""
    print(f"{name:>12}: {injected} faults, {lost} lost, longest time to the end {slowest:.2f} s", flush=True)
    return lost


# ---- Processes ------------------------------------------------------------------------------------

EVALUATE = """
import sys, numpy as np, kullback
p, q = np.load("p.npy", mmap_mode="r"), np.load("q.npy", mmap_mode="r")
options = {"batch_rows": 50, "progress": False, "checkpoint": "state.npz", "checkpoint_every": 0.001}
print(repr(kullback.evaluate(p, q, **options).kl.mean))
"""


def inject_into_commands(moments):
    """Send signals to processes that write files; the second run must end and give what it gives undisturbed."""
    lost = {"embed": 0, "divergence": 0, "evaluate": 0}
    commands = {
        "embed": ["-m", "kullback", "embed", "x.npy", "-o", "y.npy", "--max-iter", "100", "--quiet"],
        "divergence": ["-m", "kullback", "divergence", "p.npy", "q.npy"],
        "evaluate": ["-c", EVALUATE],
    }
    for name, command in commands.items():
        with tempfile.TemporaryDirectory() as folder:
            for stem, values in (("x", X[:500]), ("p", P), ("q", Q)):
                np.save(Path(folder, f"{stem}.npy"), values)
            inputs, slowest = set(os.listdir(folder)), 0.0
            begin = time.perf_counter()
            expected = run(command, folder)
            duration, files = time.perf_counter() - begin, contents(folder)
            for k in range(moments):
                for path in set(os.listdir(folder)) - inputs:
                    Path(folder, path).unlink()
                process = subprocess.Popen([sys.executable, *command], cwd=folder, env=environment(),
                                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
                time.sleep(random.uniform(0, duration))
                sent = time.perf_counter()
                process.send_signal((signal.SIGINT, signal.SIGTERM)[k % 2])
                process.communicate()
                slowest = max(slowest, time.perf_counter() - sent)
                left = {file for file in os.listdir(folder) if name != "evaluate" or not file.endswith(".partial")}
                for path in set(os.listdir(folder)) - left:  # SIGTERM ends a process of the library as it stands
                    Path(folder, path).unlink()
                whole = left <= set(files)
                lost[name] += not (whole and run(command, folder) == expected and contents(folder) == files)
        report(name, moments, lost[name], slowest)
    return sum(lost.values())


def environment():
    """Return the variables of a child, which imports what this process imports."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def run(command, folder):
    """Return what a command prints, less the time that it took, and its status."""
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment(), capture_output=True, check=False)
    return done.returncode, done.stdout


def contents(folder):
    """Return the names of the files of a folder, with the bytes of those that hold nothing but results."""
    return {path.name: path.read_bytes() if path.suffix == ".npy" else b"" for path in Path(folder).iterdir()}


# ---- Memory ---------------------------------------------------------------------------------------

MODEL = kullback.TSNE(**TSNE_OPTIONS)
CALLS = {
    "fit": lambda: [MODEL.fit_transform(X)],
    "transform": lambda: [MODEL.transform(X[:500] + 1)],
    "neighbours": lambda: neighbors.nearest_neighbors(X, 20),
    "lists": lambda: neighbors.nearest_neighbors(X, 20, method="approximate"),
    "barnes_hut": lambda: gradient.repulsive_forces(X[:, :2], method="barnes_hut"),
    "fft": lambda: gradient.repulsive_forces(X[:, :2], method="fft"),
    "exact": lambda: gradient.repulsive_forces(X[:, :2], method="exact"),
    "rows": lambda: [kullback.kl_divergence(P, Q)],
    "compare": lambda: [np.asarray(value) for value in kullback.compare(P, Q).values()],
    "pairwise": lambda: [kullback.pairwise_divergence(P[:800], measure="js")],
    "evaluate": lambda: [kullback.evaluate(P, Q, progress=False).kl.mean],
}


def memory_of_this_process():
    """Return its address space in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def limited(call, expected, n_bytes):
    """Run a call in a child with so many bytes more than it has; return the child's status."""
    child = os.fork()
    if child == 0:
        status = WRONG
        try:
            signal.alarm(300)
            resource.setrlimit(resource.RLIMIT_AS, (memory_of_this_process() + n_bytes, resource.RLIM_INFINITY))
            try:
                status = 0 if same(call(), expected) else WRONG
            except MemoryError:
                status = MEMORY_ERROR
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
            if not same(call(), expected):
                status = WRONG
        except BaseException as error:
            print(repr(error)[:300], flush=True)
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def take_memory(levels):
    """Return how many calls neither gave their result nor a MemoryError."""
    n_lost = 0
    for name, call in CALLS.items():
        expected = call()
        statuses = [limited(call, expected, int(2**n)) for n in np.linspace(17, 28, levels)]
        lost = [status for status in statuses if status not in (0, MEMORY_ERROR)]
        right, refused = statuses.count(0), statuses.count(MEMORY_ERROR)
        print(f"{name:>12}: {levels} levels, {right} right, {refused} MemoryError, lost: {lost or 0}", flush=True)
        n_lost += len(lost)
    return n_lost


def main():
    """Inject the faults that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="+", choices=["signals", "updates", "commands", "memory"])
    parser.add_argument("--moments", type=int, default=50, help="signals for each kind of object or command")
    parser.add_argument("--levels", type=int, default=20, help="levels of memory, from 128 KB to 256 MB more")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    warnings.simplefilter("ignore")
    lost = 0
    for kind in arguments.kinds:
        if kind == "memory":
            lost += take_memory(arguments.levels)
        elif kind == "updates":
            lost += report("Update", arguments.moments, *update(arguments.moments))
        else:
            lost += (inject_signals if kind == "signals" else inject_into_commands)(arguments.moments)
    sys.exit(lost > 0)


if __name__ == "__main__":
    main()

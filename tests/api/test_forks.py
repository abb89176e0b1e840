"""Forked children of processes that used threads: they end, and give the bits of their parents."""

import os
import shlex
import subprocess
import sys

import pytest

from kullback._kernels import cpu

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

# A child that hangs is killed by its alarm. Its parent is a process of its own, in which no other thread is at work.
HEAD = """
import os, signal
import kullback

def in_child(work):
    child = os.fork()
    if child == 0:
        signal.alarm(120)
        os._exit(0 if work() else 1)
    return os.waitpid(child, 0)[1] == 0
"""

CALLS = """
import numpy as np
from scipy import sparse
from kullback import gradient, neighbors
rng = np.random.default_rng(0)
X = rng.normal(size=(1100, 10)).astype(np.float32)
places = np.repeat(np.arange(270), 5), rng.integers(250_000, size=1350)
S = sparse.csr_array((np.ones(1350), places), shape=(270, 250_000))  # so wide that it is never dense
p, q = rng.dirichlet(np.ones(300), (2, 1100))
Y = X[:, :2]
m = kullback.TSNE(max_iter=4, early_exaggeration_iter=2, random_state=0, n_jobs=2)
calls = {
    "neighbours": lambda: neighbors.nearest_neighbors(X, 5, n_threads=2),
    "inverted file": lambda: neighbors.nearest_neighbors(X, 5, method="approximate", n_threads=2),
    "manhattan": lambda: neighbors.nearest_neighbors(S, 5, metric="manhattan", n_threads=2),
    "exact": lambda: gradient.repulsive_forces(Y, method="exact", n_threads=2)[:1],
    "barnes_hut": lambda: gradient.repulsive_forces(Y, method="barnes_hut", n_threads=2)[:1],
    "fft": lambda: gradient.repulsive_forces(Y, method="fft", n_threads=2)[:1],
    "fit": lambda: [m.fit_transform(X[:1050])],
    "transform": lambda: [m.transform(X[1050:])],
    "sweep": lambda: [kullback.sweep(X, seeds=[0, 1], max_iter=3, warm_iter=3, n_jobs=2).maps],
    "rows": lambda: [kullback.kl_divergence(p, q, n_threads=2)],
    "pairwise": lambda: [kullback.pairwise_divergence(p[:200], q[:200], n_threads=2)],
    "evaluate": lambda: [np.array(kullback.evaluate(p, q, n_threads=2).kl.mean)],
}
"""


def run(code):
    """Run Python code in a fresh process, whose idle threads sleep, and return the words that it prints."""
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-W", "ignore", "-c", HEAD + code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_forked_child_gives_the_bits_of_its_parent():
    """Parent and child search, embed and reduce with two threads. libgomp alone would let the child wait for ever.

    Another thread of the parent holds the locks of the process, which are free in the child.
    """
    code = """
import threading
from kullback import _faiss, _threads
before = {name: call() for name, call in calls.items()}
same = lambda: all(np.array_equal(a, b) for name in calls for a, b in zip(before[name], calls[name](), strict=True))
print(in_child(lambda: same() and in_child(same)))
with _faiss._faiss_lock, _threads._blas_lock, _threads.lock_of(m):
    thread = threading.Thread(target=lambda: print(in_child(lambda: calls["fit"]())))
    thread.start()
    thread.join()
"""
    assert run(CALLS + code) == ["True", "True"]


def test_importing_the_library_is_enough_before_a_fork():
    """The child of a process in which others have used threads may be the first that calls a function."""
    code = """
import faiss, numpy as np
X = np.ones((3000, 30), np.float32)
index = faiss.IndexFlatL2(30)
index.add(X)
faiss.omp_set_num_threads(2)
index.search(X, 3)
print(in_child(lambda: kullback.neighbors.nearest_neighbors(X, 3, n_threads=2)))
"""
    assert run(code) == ["True"]


@pytest.mark.skipif(sys.platform != "linux" or not cpu.openmp(), reason="only libgomp on Linux is asked")
def test_a_runtime_that_keeps_its_threads_leaves_the_child_with_one(tmp_path):
    """A library of its name, without the function, stands for a libgomp before version 9.

    Children of a build by clang have one thread in any case.
    """
    source = "static int n; void omp_set_num_threads(int k) { n = k; } int get(void) { return n; }"
    (tmp_path / "old.c").write_text(source)
    library = tmp_path / "libgomp-old.so.1"
    command = [*shlex.split(os.environ.get("CC", "cc")), "-shared", "-fPIC", "old.c", "-o", str(library)]
    if subprocess.run(command, cwd=tmp_path, check=False).returncode:
        pytest.skip("there is no compiler")
    code = f"""
import ctypes
from kullback._kernels import cpu
from kullback._threads import resolve_threads
assert not cpu.is_serial() and in_child(lambda: cpu.is_serial() == cpu.compiler().startswith("clang"))
old = ctypes.CDLL({str(library)!r})
print(in_child(lambda: cpu.is_serial() and old.get() == resolve_threads(2) == resolve_threads(None) == 1))
print(cpu.is_serial(), old.get())
"""
    assert run(code) == ["True", "False", "0"]

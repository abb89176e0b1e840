"""Torch, faiss and scikit-learn in one process, each with threads of its own, beside ours."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

PROGRAM = """
import importlib, os, sys, threading
for name in sys.argv[1:]:
    importlib.import_module(name)
import numpy as np
import kullback
from kullback.neighbors import neighbor_graph
import faiss
from sklearn.cluster import KMeans

rng = np.random.default_rng(0)
X = rng.normal(size=(3000, 20)).astype(np.float32)
P, Q = rng.dirichlet(np.ones(300), (2, 4000))


def ours():
    graph = neighbor_graph(X, 15, n_threads=2)
    Y = kullback.TSNE(max_iter=30, random_state=0, n_jobs=2).fit_transform(X)
    return [part.tobytes() for part in (*graph[:3], Y, kullback.kl_divergence(P, Q))]


def theirs_faiss():
    index = faiss.IndexFlatL2(20)
    index.add(X)
    return [index.search(X[:500], 10)[1].tobytes()]


def theirs_sklearn():
    return [KMeans(5, n_init=1, max_iter=5, random_state=0).fit(X).labels_.tobytes()]


works = [ours, theirs_faiss, theirs_sklearn, ours]
if "torch" in sys.argv:
    import torch
    rows = torch.from_numpy(np.log(Q))
    works.append(lambda: [torch.log_softmax(rows @ rows.T, dim=1).argmax(dim=1).numpy().tobytes()])
expected = [work() for work in works]
found = [None] * len(works)


def repeat(k):
    found[k] = [works[k]() for _ in range(3)]


threads = [threading.Thread(target=repeat, args=(k,)) for k in range(len(works))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for k in range(len(works)):
    assert found[k] == [expected[k]] * 3, works[k]

if hasattr(os, "fork"):
    child = os.fork()
    if child == 0:
        os._exit(0 if ours() == expected[0] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print("the same")
"""


@pytest.mark.parametrize("order", ["kullback torch", "torch kullback", "faiss sklearn.cluster kullback", "kullback"])
def test_threads_of_other_libraries(order):
    """Whichever is imported first, all give the bits that they give alone, and a forked child does too."""
    if "torch" in order and find_spec("torch") is None:
        pytest.skip("torch is not installed")  # a peer of the group "bench", which the group "test" does not have
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, *order.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "the same\n"), done.stderr

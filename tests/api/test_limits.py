"""Limits of the system on memory and on processes: fewer threads or a MemoryError, and never the end of the process."""

import os
import subprocess
import sys

import numpy as np
import pytest

from kullback import _threads, affinities, gradient
from kullback._kernels import attraction

resource = pytest.importorskip("resource")

LIMITED = """
import os, resource, sys
import numpy as np
import kullback
from kullback import affinities, gradient, neighbors, streaming

rng = np.random.default_rng(0)
X = rng.normal(size=(3000, 8)).astype(np.float32)
Y, P = X[:, :2], affinities.perplexity(X[:2000], 10).P
p, q = rng.dirichlet(np.ones(64), (2, 3000))
calls = [
    lambda n: neighbors.nearest_neighbors(X, 5, n_threads=n)[1].sum(),
    lambda n: neighbors.nearest_neighbors(p[:300], 5, metric="cityblock", n_threads=n)[1].sum(),
    lambda n: affinities.perplexity(X[:2000], 10, n_threads=n).P.sum(),
    lambda n: gradient.repulsive_forces(Y, method="barnes_hut", n_threads=n)[1],
    lambda n: gradient.repulsive_forces(Y, method="fft", n_threads=n)[1],
    lambda n: gradient.tsne_loss(P, Y[:2000], n_threads=n).kl_divergence,
    lambda n: kullback.kl_divergence(p, q, n_threads=n).sum(),
    lambda n: kullback.pairwise_divergence(p[:200], measure="chi2", n_threads=n).sum(),
    lambda n: kullback.evaluate(p, q, n_threads=n).kl.mean,
    lambda n: streaming.SupportDivergence(n_threads=n).update(p[0], q[0]).result().kl,
]
expected = [call(1) for call in calls]
"""


def run(code, **environment):
    """Run Python code in a fresh process, and return the words that it prints."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment}
    command = [sys.executable, "-W", "ignore", "-c", LIMITED + code]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout.split()


@pytest.mark.skipif(sys.platform != "linux", reason="no other system keeps these limits")
@pytest.mark.parametrize("limit", ["memory", "processes"])
def test_threads_that_cannot_be_made_end_no_process(memory_limits, limit):
    """A thousand threads are asked for where the stacks of a few do not fit, or where no process may be added."""
    code = f"""
if {limit == "memory"}:
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**27,) * 2)
else:
    if os.geteuid() == 0:
        os.setuid(65534)  # the limit does not hold for root
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
print(*(call(1000) == value for call, value in zip(calls, expected, strict=True)))
"""
    assert run(code, OMP_STACKSIZE="64M", OMP_WAIT_POLICY="passive") == ["True"] * 10


def test_the_number_of_threads_is_bounded(monkeypatch):
    """More threads than the machine can use count as the most it is asked for, from whatever source they come."""
    most = _threads.most_threads()
    monkeypatch.setattr(os, "cpu_count", lambda: pytest.fail("a call of a few microseconds cannot pay for this"))
    assert _threads.resolve_threads(1) == 1
    monkeypatch.undo()
    assert most >= max(16, 4 * (os.cpu_count() or 1))
    assert _threads.resolve_threads(10**12) == (most if _threads.resolve_threads(2) == 2 else 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1000000")
    assert _threads.resolve_threads(None) == _threads.available_threads() <= most
    assert _threads.resolve_threads(-1) <= most


@pytest.mark.parametrize("name", ["sum_log_affinity", "accumulate_attraction"])
def test_small_work_wakes_no_thread(monkeypatch, name):
    """The loss and the gradient of 200 points are computed by the thread that asks, however many there are."""
    seen = []
    kernel = getattr(attraction, name)
    monkeypatch.setattr(attraction, name, lambda *given: seen.append(given[-1]) or kernel(*given))
    Y = np.random.default_rng(0).normal(size=(200, 2))
    P = affinities.perplexity(Y, 10).P
    gradient.tsne_loss(P, Y, n_threads=8)
    gradient.tsne_gradient(P, Y, n_threads=8)
    assert seen == [1]

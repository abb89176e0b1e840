"""Ctrl-C and SIGTERM: calls end soon, and leave objects and files as they were or as they become."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kullback
from kullback import __main__, _faiss, cli, gradient
from kullback._search import EuclideanSearch
from kullback.divergence import _plan
from kullback.tsne import repulsion
from kullback.tsne.repulsion import ExactRepulsion


def test_a_large_reduction_is_several_calls(monkeypatch):
    """Between two calls of the kernel Ctrl-C takes effect. No bit depends on where rows are cut."""
    p, q = np.random.default_rng(0).dirichlet(np.ones(50), (2, 40, 30))
    whole = kullback.kl_divergence(p, q), kullback.kl_divergence(p, q, axis=0, normalize=False)
    of_order = kullback.renyi_divergence(p, q, alpha=2)
    sizes, run = [], _plan.Plan._run
    monkeypatch.setattr(_plan, "CALL_ELEMENTS", 7000)
    monkeypatch.setattr(_plan.Plan, "_run", lambda self, *given: sizes.append(given[1][0].size) or run(self, *given))
    parts = kullback.kl_divergence(p, q), kullback.kl_divergence(p, q, axis=0, normalize=False)
    np.testing.assert_array_equal(whole[0], parts[0])
    np.testing.assert_array_equal(whole[1], parts[1])
    assert len(sizes) > 15 and max(sizes) <= 7000
    monkeypatch.setattr(_plan, "CALL_ELEMENTS_OF_ORDER", 3000)
    np.testing.assert_array_equal(kullback.renyi_divergence(p, q, alpha=2), of_order)
    assert len(sizes) > 35 and max(sizes[-20:]) <= 3000
    p[33, 2, 1] = -1
    with pytest.raises(ValueError, match="33, 2"):
        kullback.kl_divergence(p, q)


@pytest.mark.parametrize("exact", [True, False])
def test_a_large_search_is_several_calls(monkeypatch, exact):
    """The same holds for the rows that ask faiss."""
    X = np.random.default_rng(0).normal(size=(3000, 5))
    search = EuclideanSearch(X, exact=exact, n_threads=1)
    whole, sizes, ask = search.among_themselves(4, 1), [], EuclideanSearch._ask
    monkeypatch.setattr("kullback._faiss.BLOCK_WORK", 700 * 32 * 5)
    search = EuclideanSearch(X, exact=exact, n_threads=1)  # rows are added to the 32 lists in several calls, too
    monkeypatch.setattr("kullback._faiss.BLOCK_WORK", 256 * 3000 * 5)
    monkeypatch.setattr(EuclideanSearch, "_ask", lambda self, *given: sizes.append(len(given[0])) or ask(self, *given))
    parts = search.among_themselves(4, 1)
    np.testing.assert_array_equal(whole[0], parts[0])
    np.testing.assert_array_equal(whole[1], parts[1])
    assert len(sizes) >= 12 and 250 <= max(sizes) <= 256


@pytest.mark.parametrize("dof", [1.0, 0.7])
def test_a_large_exact_sum_is_several_calls(monkeypatch, dof):
    """The same holds for the forces of the exact sum; Z is added up in another order."""
    Y = np.random.default_rng(0).normal(size=(500, 2))
    forces, sum_q = gradient.repulsive_forces(Y, method="exact", dof=dof)
    monkeypatch.setattr(repulsion, "CALL_PAIRS", {True: 20_000, False: 20_000})
    parts = np.empty_like(Y)
    again = ExactRepulsion(Y.shape, Y.dtype, dof, 1)(Y, parts)
    np.testing.assert_array_equal(forces, parts)
    assert again == pytest.approx(sum_q, rel=1e-14)


def test_sigterm_leaves_no_file_half_written(monkeypatch, tmp_path):
    """The command line ends with the status of the signal when what it had begun to write is removed."""
    X = np.random.default_rng(0).normal(size=(40, 3))
    np.save(tmp_path / "x.npy", X)
    monkeypatch.chdir(tmp_path)

    def write(file, array):
        file.write(b"half")
        file.flush()
        assert len(os.listdir()) == 2
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(cli.np, "save", write)
    with pytest.raises(SystemExit) as left:
        cli.main(["embed", "x.npy", "-o", "y.npy", "--perplexity", "5", "--max-iter", "10", "--quiet"])
    assert left.value.code == 143
    assert os.listdir() == ["x.npy"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("n_features", [50, 5000, 10**6])
def test_a_call_of_the_search_has_a_row_for_each_thread(n_features):
    """However wide rows are, one call takes some 0.1 s, or a row for each thread."""
    for n_threads in (1, 2, 3, 64):
        n_rows = _faiss.rows_of_call(n_threads, 2000 * n_features)
        assert n_rows % n_threads == 0
        assert n_rows == n_threads or n_rows * 2000 * n_features <= _faiss.BLOCK_WORK


@pytest.mark.parametrize("status", [0, 2, 130, SystemExit(143), SystemExit(0), KeyboardInterrupt()])
def test_the_command_ends_at_once_where_a_signal_ends_it(monkeypatch, status, capsys):
    """Python is not taken down, which may take seconds; every other end is an ordinary one."""
    left = []

    def run():
        if isinstance(status, BaseException):
            raise status
        return status

    monkeypatch.setattr(cli, "main", run)
    monkeypatch.setattr(os, "_exit", left.append)
    with pytest.raises(SystemExit) as end:
        __main__.command()
    code = end.value.code
    assert code == {SystemExit: getattr(status, "code", 0), KeyboardInterrupt: 130}.get(type(status), status)
    assert left == ([code] if code in (130, 143) else [])
    assert ("interrupted" in capsys.readouterr().err) == isinstance(status, KeyboardInterrupt)


@pytest.mark.skipif(sys.platform != "linux", reason="the script reads the address space from /proc")
def test_nothing_is_lost_to_signals_and_to_a_lack_of_memory(memory_limits):
    """A few moments and levels of what the script tries at length; its docstring says what counts as lost."""
    script = Path(__file__).parents[2] / "devel" / "inject_faults.py"
    if not script.exists():
        pytest.skip("the folder devel is not part of a source distribution")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, str(script), "signals", "memory", "--moments", "1", "--levels", "2"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

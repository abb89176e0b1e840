"""Results have the same bits in every process, whatever the seed of hashes; levels of SIMD differ in last bits only."""

import copy
import hashlib
import json
import os
import pickle
import subprocess
import sys
from itertools import product

import joblib
import numpy as np
import pytest
from scipy import sparse

import kullback
from kullback import _kernels, affinities, gradient, streaming


def digest(*values):
    """Return a number for the bits of arrays, numbers and dictionaries of them."""
    sums = hashlib.sha256()
    for value in values:
        if isinstance(value, dict):
            sums.update(json.dumps({key: digest(item) for key, item in value.items()}).encode())
        else:
            sums.update(np.ascontiguousarray(value).tobytes())
    return sums.hexdigest()


def values():
    """Return what the four wings of the library give for the same rows."""
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(30), (2, 200)).astype(np.float32)
    x, y = rng.normal(size=(2, 50, 1500)).astype(np.float32)
    rows = streaming.RowDivergence(measures=("kl", "js", "entropy_p"), quantiles=(0.5, 0.9), groups=True)
    rows.update(p, q, group=np.array(["a", "b"])[np.arange(200) % 2])
    histogram = streaming.HistogramDivergence(edges=np.linspace(-3, 3, 10)).update(x[0], y[0])
    evaluated = kullback.evaluate(p, q, measures=("kl", "hellinger"), batch_rows=30, progress=False)
    Y = rng.normal(size=(1200, 2)) * 10
    logits = kullback.compare(x, y, from_logits=True)
    P = affinities.perplexity(x[:, :20], 10).P
    model = kullback.TSNE(random_state=0, max_iter=60, early_exaggeration_iter=30, perplexity=10, method="barnes_hut")
    return {
        "divergences": kullback.compare(p, q) | {f"{name} of logits": value for name, value in logits.items()},
        "pairs": kullback.pairwise_divergence(p[:40]),
        "rows": {name: array for name, array in rows.to_state().items() if name != "header"},
        "histogram": {name: array for name, array in histogram.to_state().items() if name != "header"},
        "evaluate": np.array([evaluated.kl.mean, evaluated.kl.standard_error, evaluated.hellinger.mean]),
        "forces": np.append(*gradient.repulsive_forces(Y, method="fft")),
        "affinities": P.data,
        "map": model.fit_transform(p),
        "new points": model.transform(q[:20]),
    }


def results():
    """Return a digest of each of them."""
    return {name: digest(value) for name, value in values().items()}


def floats():
    """Return those that are numbers, without the map, whose descent magnifies the last bits."""
    found = values()
    names = ("pairs", "evaluate", "forces", "affinities")
    return {**found["divergences"], **{name: found[name] for name in names}}


def run(code, **environment):
    """Run Python code in another process, which finds this module."""
    path = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    command, variables = [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": path, **environment}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("seed", ["1", "4294967295"])
def test_processes_and_seeds_of_hashes_change_no_bit(seed):
    """Another process, whose sets of strings have another order, gives the same bits."""
    code = "import json, test_determinism; print(json.dumps(test_determinism.results()))"
    assert json.loads(run(code, PYTHONHASHSEED=seed)) == results()


@pytest.mark.parametrize("level", _kernels.USABLE_LEVELS)
def test_levels_differ_in_last_bits_only(level, tmp_path):
    """The lanes are the same at all levels, so that only fused multiplication and addition makes a difference."""
    path = tmp_path / "values.npz"
    run(f"import numpy, test_determinism; numpy.savez({str(path)!r}, **test_determinism.floats())", KULLBACK_SIMD=level)
    found = np.load(path)
    for name, expected in floats().items():
        rtol = 1e-10 if name in ("pairs", "forces") else 1e-6  # the others come from float32
        np.testing.assert_allclose(found[name], expected, rtol=rtol, atol=1e-12, err_msg=name)


def by_file(dump, load):
    """Return a function that sends a model through a file."""

    def send(model, path):
        dump(model, path)
        return load(path)

    return send


WAYS = {
    "file": by_file(lambda model, path: model.save(path), kullback.TSNE.load),
    "pickle": lambda model, path: pickle.loads(pickle.dumps(model)),
    "deepcopy": lambda model, path: copy.deepcopy(model),
    "joblib": by_file(joblib.dump, joblib.load),
}
KINDS = {
    "exact": {"method": "exact"},
    "barnes_hut": {"method": "barnes_hut", "dof": 0.8, "n_components": 3},
    "fft": {"method": "fft", "metric": "cosine"},
    "manhattan": {"metric": "manhattan", "init": "random"},
    "sparse": {"init": "spectral", "angle": 0.3},
}


def look(model, new):
    """Return a digest of what a model makes of new rows, and of all that was fitted."""
    fitted = model.embedding_, model.affinities_.P.data, model.affinities_.neighbors.data, model.loss_, model.n_iter_
    audits = model.exact_kl_, model.point_kl_, model.gradient_error_, model.kl_divergence_, model.learning_rate_
    return digest(*model.transform(new, return_scores=True), *fitted, *audits)


WAYS_OF_KINDS = [("deepcopy", "sparse"), ("joblib", "sparse"), *product(("pickle", "file"), KINDS)]


@pytest.mark.parametrize("way, kind", WAYS_OF_KINDS)
def test_models_that_are_copied_or_saved_on_the_way_go_on_alike(way, kind, tmp_path):
    """Between a fit, new rows, added rows and more new rows, a model may go any way: no bit tells."""
    rows = np.random.default_rng(0).normal(size=(150, 5)).astype(np.float32)
    old, more, new = (sparse.csr_array(part) if kind == "sparse" else part for part in np.split(rows, [100, 120]))
    options = {"perplexity": 5, "max_iter": 60, "early_exaggeration_iter": 30, "random_state": 0, "n_jobs": 1}
    whole = kullback.TSNE(**options, **KINDS[kind]).fit(old)
    sent = WAYS[way](whole, tmp_path / "model.npz")
    assert look(sent, new) == look(whole, new)
    again = WAYS[way](sent.partial_fit(more), tmp_path / "model.npz")
    assert look(again, new) == look(whole.partial_fit(more), new)

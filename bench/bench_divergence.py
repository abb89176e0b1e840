"""Divergences of rows beside their peers: gigabytes of input read in one second, float32 and float64."""

import numpy as np
import pytest
import scipy.special
import scipy.stats

import kullback
from kullback import reference

RTOL = {"float32": 1e-6, "float64": 1e-13}


def rows(shape, dtype, seed):
    """Return distributions whose logits are normal, pages touched."""
    logits = 2 * np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    p = np.exp(logits, dtype=dtype)
    p /= p.sum(axis=-1, keepdims=True, dtype=np.float64)
    return p


def report(benchmark, function, n_bytes):
    """Time ``function`` and note its bandwidth."""
    result = benchmark(function)
    if benchmark.stats:
        benchmark.extra_info["GB/s"] = n_bytes / benchmark.stats["median"] / 1e9
    return result


PEERS = {
    ("entropy", "kullback"): lambda p, q: kullback.entropy(p),
    ("entropy", "scipy"): lambda p, q: scipy.special.entr(p).sum(axis=1),
    ("cross_entropy", "kullback"): lambda p, q: kullback.cross_entropy(p, q),
    ("kl_divergence", "kullback"): lambda p, q: kullback.kl_divergence(p, q),
    ("kl_divergence", "scipy rel_entr"): lambda p, q: scipy.special.rel_entr(p, q).sum(axis=1),
    ("kl_divergence", "scipy entropy"): lambda p, q: scipy.stats.entropy(p, q, axis=1),
    ("decompose", "kullback"): lambda p, q: kullback.decompose(p, q)[0],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "peer"), PEERS)
def test_rows_of_a_vocabulary(benchmark, full, name, peer, dtype):
    """256 x 151,936: a batch of tokens over the vocabulary of a language model."""
    shape = (256, 151_936) if full else (3, 2000)
    p, q = rows(shape, dtype, 1), rows(shape, dtype, 2)
    benchmark.group = f"{name} {dtype}"
    operands = 1 if name == "entropy" else 2
    actual = report(benchmark, lambda: PEERS[name, peer](p, q), operands * p.nbytes)
    if peer == "kullback":
        expected = getattr(reference, name)(*((p[:2], q[:2])[:operands]))
        expected = expected[0] if name == "decompose" else expected
        np.testing.assert_allclose(actual[:2], expected, rtol=RTOL[dtype])


@pytest.mark.parametrize("peer", ["kullback", "scipy entropy"])
@pytest.mark.parametrize("shape", [(10,), (1_000_000, 10)])
def test_short_rows(benchmark, full, shape, peer):
    """The cost of one call, and of a million histograms of ten bins."""
    shape = shape if full or len(shape) == 1 else (1000, 10)
    p, q = rows(shape, "float64", 1), rows(shape, "float64", 2)
    benchmark.group = f"kl_divergence of {shape}"
    function = {
        "kullback": kullback.kl_divergence,
        "scipy entropy": lambda p, q: scipy.stats.entropy(p, q, axis=-1),
    }
    actual = report(benchmark, lambda: function[peer](p, q), 2 * p.nbytes)
    np.testing.assert_allclose(actual, reference.kl_divergence(p, q), rtol=1e-12)


@pytest.mark.parametrize("layout", ["rows", "columns", "every other element"])
def test_layouts(benchmark, full, layout):
    """A row axis other than the last, and a strided input, beside contiguous rows."""
    shape = (256, 151_936) if full else (3, 2000)
    p, q = rows(shape, "float32", 1), rows(shape, "float32", 2)
    benchmark.group = "kl_divergence by layout"
    expected = reference.kl_divergence(p[:2], q[:2])
    if layout == "columns":
        p, q = np.ascontiguousarray(p.T), np.ascontiguousarray(q.T)
    elif layout == "every other element":
        p, q = np.repeat(p, 2, axis=1)[:, ::2], np.repeat(q, 2, axis=1)[:, ::2]
    axis = 0 if layout == "columns" else 1
    actual = report(benchmark, lambda: kullback.kl_divergence(p, q, axis=axis), 2 * p.nbytes)
    np.testing.assert_allclose(actual[:2], expected, rtol=1e-6)


MEASURES = ["hellinger_distance", "total_variation_distance", "jensen_shannon_divergence", "chi2_divergence"]


@pytest.mark.parametrize("name", MEASURES)
def test_measures_of_a_vocabulary(benchmark, full, name):
    """Other measures of float32 probabilities."""
    shape = (256, 151_936) if full else (3, 2000)
    p, q = rows(shape, "float32", 1), rows(shape, "float32", 2)
    benchmark.group = "measures float32"
    actual = report(benchmark, lambda: getattr(kullback, name)(p, q), 2 * p.nbytes)
    np.testing.assert_allclose(actual[:2], getattr(reference, name)(p[:2], q[:2]), rtol=1e-6)


@pytest.mark.parametrize("measures", [("kl",), ("kl", "reverse_kl", "js", "entropy_p", "entropy_q", "top1_agreement")])
def test_measures_at_once(benchmark, full, measures):
    """Six measures of float32 probabilities from one read, beside one."""
    shape = (256, 151_936) if full else (3, 2000)
    p, q = rows(shape, "float32", 1), rows(shape, "float32", 2)
    benchmark.group = "compare float32"
    actual = report(benchmark, lambda: kullback.compare(p, q, measures=measures)["kl"], 2 * p.nbytes)
    np.testing.assert_allclose(actual[:2], reference.kl_divergence(p[:2], q[:2]), rtol=1e-6)


@pytest.mark.parametrize("peer", ["kullback", "torch", "kullback bfloat16", "kullback float64", "compare"])
def test_logits_of_a_vocabulary(benchmark, full, peer):
    """KL from logits beside torch's log_softmax and kl_div, and several measures at once."""
    shape = (256 if peer != "kullback float64" else 128, 151_936) if full else (3, 2000)
    rng = np.random.default_rng(0)
    x = 3 * rng.standard_normal(shape, dtype=np.float32)
    y = x + np.float32(0.1) * rng.standard_normal(shape, dtype=np.float32)
    benchmark.group = "kl_divergence of logits"
    if peer == "torch":
        torch = pytest.importorskip("torch")
        a, b = torch.from_numpy(x), torch.from_numpy(y)

        def function():
            logs = torch.log_softmax(b, -1), torch.log_softmax(a, -1)
            return torch.nn.functional.kl_div(*logs, reduction="none", log_target=True).sum(-1).numpy()

        report(benchmark, function, 2 * x.nbytes)
        return
    if peer == "kullback bfloat16":
        bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
        x, y = x.astype(bfloat16), y.astype(bfloat16)
    elif peer == "kullback float64":
        x, y = x.astype(np.float64), y.astype(np.float64)
    if peer == "compare":
        actual = report(benchmark, lambda: kullback.compare(x, y, from_logits=True)["kl"], 2 * x.nbytes)
    else:
        actual = report(benchmark, lambda: kullback.kl_divergence(x, y, from_logits=True), 2 * x.nbytes)
    expected = reference.kl_divergence(x[:2].astype(np.float64), y[:2].astype(np.float64), from_logits=True)
    np.testing.assert_allclose(actual[:2], expected, rtol=2e-6)


@pytest.mark.parametrize("measure", ["js_distance", "kl"])
@pytest.mark.parametrize("peer", ["kullback", "scipy"])
def test_all_pairs(benchmark, full, measure, peer):
    """All pairs of rows of 200; SciPy gets a tenth of the rows, so compare a tenth of its time."""
    n = 3000 if full else 30
    p, q = rows((n, 200), "float64", 1), rows((n, 200), "float64", 2)
    benchmark.group = f"pairwise {measure}"
    if peer == "kullback":
        actual = report(benchmark, lambda: kullback.pairwise_divergence(p, q, measure=measure), p.nbytes)
        expected = reference.pairwise_divergence(p[:3], q[:3], measure=measure)
        np.testing.assert_allclose(actual[:3, :3], expected, rtol=1e-10)
    elif measure == "kl":
        report(benchmark, lambda: scipy.special.rel_entr(p[: n // 10, None], q).sum(axis=-1), p.nbytes)
    else:
        from scipy.spatial.distance import cdist

        report(benchmark, lambda: cdist(p[: n // 10], q, "jensenshannon"), p.nbytes)

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

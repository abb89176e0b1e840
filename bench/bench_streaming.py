"""Accumulators: what they add to the bare call, and what histograms cost."""

import struct

import numpy as np
import pytest

from kullback import kl_divergence, reference
from kullback._threads import available_threads
from kullback.readers import LlamaLogits, compare_logits
from kullback.streaming import HistogramDivergence, RowDivergence, SupportDivergence


def rows(n, size, seed):
    """Return float32 distributions, pages touched."""
    p = np.random.default_rng(seed).random((n, size), dtype=np.float32) + np.float32(0.01)
    return p / p.sum(axis=-1, keepdims=True, dtype=np.float64).astype(np.float32)


@pytest.mark.benchmark(group="1,024 x 32,000 float32")
@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("what", ["kl_divergence", "update"])
def test_update_beside_the_bare_call(benchmark, full, what, from_logits):
    """What an accumulator adds to kl_divergence."""
    shape = (1024, 32_000) if full else (8, 500)
    p, q = rows(*shape, 1), rows(*shape, 2)
    if from_logits:
        p, q = np.log(p), np.log(q)
    acc = RowDivergence(from_logits=from_logits)
    if what == "update":
        benchmark(lambda: acc.update(p, q))
        found = acc.result().kl.mean
    else:
        found = benchmark(lambda: kl_divergence(p, q, from_logits=from_logits)).mean()
    if not full:
        expected = reference.kl_divergence(p, q, from_logits=from_logits).mean()
        assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.benchmark(group="one row of V = 100")
@pytest.mark.parametrize("what", ["kl_divergence", "update"])
def test_single_rows(benchmark, what):
    """The cost of one call."""
    p, q = rows(1, 100, 1)[0].astype(float), rows(1, 100, 2)[0].astype(float)
    p, q = p / p.sum(), q / q.sum()
    acc = RowDivergence()
    function = acc.update if what == "update" else kl_divergence
    benchmark(lambda: function(p, q))
    assert acc.update(p, q).result().kl.mean == pytest.approx(reference.kl_divergence(p, q), rel=1e-13)


@pytest.mark.parametrize("n_threads", [1, None])
def test_histogram_update(benchmark, full, n_threads):
    """1,000 features x 50 bins; the figure of issue is values a second a core."""
    n, n_features = (100_000, 1000) if full else (300, 20)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, n_features), dtype=np.float32)
    edges = np.sort(rng.normal(size=(n_features, 49)), axis=1)
    acc = HistogramDivergence(edges=edges, n_features=n_features, n_threads=n_threads)
    benchmark(lambda: acc.reset().update(x))
    if benchmark.stats:
        cores = n_threads or available_threads()
        benchmark.extra_info["values/s/core"] = x.size / benchmark.stats["median"] / cores
    expected = np.bincount(np.digitize(x[:, 3].astype(float), edges[3]), minlength=50)
    assert (acc.counts_p[3] == expected).all()


@pytest.mark.parametrize("measure", ["psi", "kl", "js"])
def test_histogram_comparison(benchmark, full, measure):
    """1,000 features x 50 bins x 365 days."""
    days, n_features = (365, 1000) if full else (3, 10)
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 3000, (days, n_features, 50))
    acc = HistogramDivergence((measure,), categories=range(49), n_features=n_features).add_counts(counts[0])
    found = benchmark(lambda: acc.compare(counts))
    assert (found[measure][0] == 0).all()
    if measure == "kl":
        p, q = counts[0, 3] / counts[0, 3].sum(), counts[1, 3] / counts[1, 3].sum()
        assert found["kl"][1, 3] == pytest.approx(reference.kl_divergence(p, q), rel=1e-10)


@pytest.mark.parametrize("from_logits", [False, True])
def test_support(benchmark, full, from_logits):
    """One pair of distributions along its support."""
    n = 4_000_000 if full else 3000
    p, q = (np.random.default_rng(i).normal(size=n) for i in (0, 1))
    log_p, log_q = (x - np.log(np.exp(x).sum()) for x in (p, q))
    p, q = (log_p, log_q) if from_logits else (np.exp(log_p), np.exp(log_q))
    acc = SupportDivergence(from_logits=from_logits)
    benchmark(lambda: acc.reset().update(p, q))
    expected = (np.exp(log_p) * (log_p - log_q)).sum()
    assert acc.result().kl == pytest.approx(expected, rel=1e-9)


@pytest.mark.benchmark(group="llama.cpp's base logits")
@pytest.mark.parametrize("what", ["read", "compare_logits"])
def test_llama(benchmark, full, tmp_path, what):
    """A report beside the reads of the two files that it is of."""
    n_vocab, n_ctx = (32_000, 512) if full else (500, 16)
    rng = np.random.default_rng(0)
    n_rows, paths = n_ctx - 1 - n_ctx // 2, []
    for name in "pq":
        record = np.zeros((n_rows, 4 + n_vocab), "<u2")
        record[:, :4] = np.array([16 / 65535, -20], "<f4").view("<u2")
        record[:, 4:] = rng.integers(0, 1 << 16, (n_rows, n_vocab))
        header = b"_logits_" + struct.pack("<iii", n_ctx, n_vocab, 1) + np.zeros(n_ctx, "<i4").tobytes()
        paths.append(tmp_path / name)
        paths[-1].write_bytes(header + record.tobytes())
    sources = [LlamaLogits(path) for path in paths]
    if what == "read":
        benchmark(lambda: [source.read_codes(0, n_rows) for source in sources])
    else:
        assert benchmark(lambda: compare_logits(*sources, progress=False)).n_tokens == n_rows
    benchmark.extra_info["tokens"] = n_rows
    for source in sources:
        source.close()

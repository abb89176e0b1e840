"""llama.cpp's base logits, in files that are written here as that tool writes them."""

import os
import signal
import struct
import threading
import time

import numpy as np
import pytest
from scipy.special import log_softmax, rel_entr

import kullback
from kullback.readers import LlamaLogits, compare_logits, open_source
from kullback.streaming import RowDivergence

N_CTX, N_VOCAB, N_CHUNK = 12, 257, 3
SCORED = N_CTX - 1 - N_CTX // 2


@pytest.fixture
def data(tmp_path, write_llama):
    """Make logits of two models whose lowest values are clipped, and a file of the first."""
    rng = np.random.default_rng(0)
    base = rng.normal(0, 4, (N_CHUNK * SCORED, N_VOCAB)).astype(np.float32)
    base[3] = base[3, 0]  # all logits are equal, so the scale is 0
    second = (base + rng.normal(0, 0.1, base.shape)).astype(np.float32)
    tokens = rng.integers(0, N_VOCAB, (N_CHUNK, N_CTX))
    write_llama(tmp_path / "base.kld", base, tokens)
    return tmp_path / "base.kld", base, second, tokens


def test_reader_returns_what_was_written(data):
    """Any block has the values that were written, within half a step, and the labels of its positions."""
    path, base, _, tokens = data
    source = open_source(path)
    assert isinstance(source, LlamaLogits)
    assert (source.n_rows, source.n_columns) == base.shape
    assert (source.labels == tokens[:, N_CTX // 2 + 1 :].reshape(-1)).all()
    rows = source.read(0, source.n_rows)
    log_p = log_softmax(base.astype(float), axis=-1)
    kept = base > base.max(-1, keepdims=True) - 15.99
    assert np.abs(rows - log_p)[kept].max() <= 16 / 65535 / 2 + 2**-17
    assert (~kept).any()
    for start, stop in ((0, 1), (4, 9), (14, 99)):
        assert (source.read(start, stop) == rows[start:stop]).all()
    source.close()


def test_bounds_hold_the_true_divergence(data):
    """KL of the unquantised base lies within the bounds, in each row and in the mean, and the bounds are narrow."""
    path, base, second, _ = data
    report = compare_logits(path, second, progress=False)
    log_p, log_q = (log_softmax(x.astype(float), axis=-1) for x in (base, second))
    true = rel_entr(np.exp(log_p), np.exp(log_q)).sum(-1)
    low, high = report.kl_bounds
    assert low <= true.mean() <= high
    assert low <= report.kl.mean <= high
    assert high - low < 0.01 * true.mean()
    from kullback.readers.llama import _values_of_rows

    source = LlamaLogits(path)
    values = _values_of_rows(source.read_records(0, len(base)), second, source.labels, 0)
    assert (values["kl_low"] <= true).all()
    assert (true <= values["kl_high"]).all()
    source.close()


@pytest.mark.parametrize("max_memory", [1, 200_000, 256 << 20])
def test_report_equals_its_formulas(data, max_memory, n_threads):
    """Every line of the report equals its formula for the stored values, whatever the block and the threads."""
    path, _, second, tokens = data
    report = compare_logits(path, second, progress=False, max_memory=max_memory, n_threads=n_threads)
    assert repr(report.to_dict()) == repr(compare_logits(path, second, progress=False).to_dict())
    source = LlamaLogits(path)
    scale, minimum, codes = source.read_codes(0, source.n_rows)
    source.close()
    raw = codes * scale[:, None] + minimum[:, None]
    log_p, log_q = log_softmax(raw, axis=-1), log_softmax(second.astype(float), axis=-1)
    labels = tokens[:, N_CTX // 2 + 1 :].reshape(-1)
    rows, n = np.arange(len(labels)), len(labels)
    nll, nll_base = -log_q[rows, labels], -log_p[rows, labels]
    kl = rel_entr(np.exp(log_p), np.exp(log_q)).sum(-1)
    change = np.exp(-nll) - np.exp(-nll_base)
    error = nll.std(ddof=1) / n**0.5
    assert report.n_tokens == n
    assert report.perplexity == pytest.approx((np.exp(nll.mean()), np.exp(nll.mean()) * error))
    ratio = np.exp((nll - nll_base).mean())
    assert report.perplexity_ratio == pytest.approx((ratio, ratio * (nll - nll_base).std(ddof=1) / n**0.5))
    assert report.kl.mean == pytest.approx(kl.mean(), rel=1e-10)
    assert report.kl.standard_error == pytest.approx(kl.std(ddof=1) / n**0.5, rel=1e-9)
    assert report.top1_agreement[0] == (raw.argmax(-1) == second.argmax(-1)).mean()
    assert report.p_change.mean == pytest.approx(change.mean(), rel=1e-9)
    assert report.p_change_rms == pytest.approx((change**2).mean() ** 0.5, rel=1e-9)
    for name in ("PPL(second)/PPL(base)", "Same top token", "99.9 % of KL", "unquantised"):
        assert name in repr(report)
    assert report.to_dict()["kl"]["n_rows"] == n


def test_two_files_and_equal_models(data, tmp_path, write_llama):
    """A file has no divergence from itself, and its bounds begin at 0."""
    path, _, second, tokens = data
    same = compare_logits(path, path, progress=False)
    assert (same.kl.mean, same.top1_agreement[0], same.perplexity_ratio[0]) == (0, 1, 1)
    assert same.kl_bounds[0] == 0 < same.kl_bounds[1] < 1e-3
    write_llama(tmp_path / "second.kld", second, tokens)
    both = compare_logits(path, tmp_path / "second.kld", progress=False)
    assert both.kl.mean == pytest.approx(compare_logits(path, second, progress=False).kl.mean, rel=0.01)
    rng = np.random.default_rng(1)
    arrays = compare_logits(second, second[:, ::-1], rng.integers(0, N_VOCAB, len(second)), progress=False)
    assert arrays.kl_bounds is None
    assert "unquantised" not in repr(arrays)


def test_masked_logits(data):
    """-inf is probability zero: it adds nothing where both sides have it, and makes KL infinite in the second alone."""
    _, base, second, _ = data
    base, second, labels = base.copy(), second.copy(), np.arange(len(second)) + 10
    base[:, :5] = second[:, :5] = -np.inf
    report = compare_logits(base, second, labels, progress=False)
    p, q = (np.exp(log_softmax(x.astype(float), axis=-1)) for x in (base, second))
    assert report.kl.mean == pytest.approx(rel_entr(p, q).sum(-1).mean(), rel=1e-10)
    base[3, 7] = -np.inf
    assert compare_logits(base, second, labels, progress=False).kl.n_infinite == 0
    second[4, 7] = -np.inf
    assert compare_logits(base, second, labels, progress=False).kl.n_infinite == 1


def test_labels_are_checked(data):
    """A label that no column has is refused, rather than counted from the end."""
    _, base, second, _ = data
    for bad in (-1, N_VOCAB):
        with pytest.raises(ValueError, match="labels must"):
            compare_logits(base, second, np.full(len(base), bad), progress=False)
    with pytest.raises(TypeError, match="labels must"):
        compare_logits(base, second, np.full(len(base), 0.5), progress=False)


class Stopping:
    """Rows that press Ctrl-C when they are read for the third time, and take their time from then on."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.n_reads = array, array.shape, array.dtype, 0

    def __getitem__(self, rows):
        self.n_reads += 1
        if self.n_reads == 3:
            os.kill(os.getpid(), signal.SIGINT)
        if self.n_reads >= 3:
            time.sleep(0.05)  # the main thread looks for an interrupt every 0.1 s
        return self.array[rows]


def test_an_interrupt_ends_at_a_block(data, n_threads):
    """Ctrl-C is a KeyboardInterrupt when the blocks that were begun are done; no thread reads on behind it."""
    path, _, second, _ = data
    source, n_before = Stopping(second), threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        compare_logits(path, source, progress=False, max_memory=1, n_threads=n_threads)
    assert source.n_reads < len(second)
    assert threading.active_count() == n_before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sources_of_too_few_rows(data):
    """A source that ends early is an error, whatever its kind."""
    path, base, second, tokens = data
    labels = tokens[:, N_CTX // 2 + 1 :].reshape(-1)
    for sides in ((path, iter([second[:4]])), (iter([base[:4]]), iter([second[:4]])), (iter([]), second)):
        with pytest.raises(ValueError, match="base and second must have shape"):
            compare_logits(*sides, labels, progress=False)


def test_evaluate_reads_it(data):
    """An evaluation takes the stored rows as logits, and the labels of the file."""
    path, _, second, _ = data
    source = LlamaLogits(path)
    rows, labels = source.read(0, source.n_rows), source.labels
    options = {"measures": ("kl", "log_loss"), "from_logits": True}
    expected = RowDivergence(**options).update(rows, second, labels).result()
    assert kullback.evaluate(path, second, labels=labels, batch_rows=4, progress=False, **options) == expected
    assert kullback.evaluate(source, second, labels=labels, progress=False, **options) == expected
    source.close()
    report = compare_logits(path, second, progress=False)
    # the rows of evaluate are float32: log-probabilities below 32, which are rounded to 2^-20 at worst
    assert report.kl.mean == pytest.approx(expected.kl.mean, abs=1e-5)


@pytest.mark.parametrize("cut", [5, 19, 30, 500, -1])
def test_truncated_files_are_refused(data, cut):
    """A file that was cut anywhere is refused."""
    path = data[0]
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"speaks of|no file of llama|must end in"):
        compare_logits(path, data[2], progress=False)


def test_damaged_files_are_refused(data, tmp_path, write_llama):
    """Impossible headers, tokens and scales, and sides that do not fit each other are refused."""
    path, base, second, tokens = data
    good = path.read_bytes()
    for place, value, message in (
        (8, -1, "damaged"),
        (12, 1 << 30, "speaks of"),
        (20, N_VOCAB, "tokens outside"),
    ):
        path.write_bytes(good[:place] + struct.pack("<i", value) + good[place + 4 :])
        with pytest.raises(ValueError, match=message):
            LlamaLogits(path)
    first = 20 + 4 * tokens.size
    for scale, minimum in ((np.nan, -9), (-1e-5, -9), (1e30, -9), (1e-4, np.inf), (1e-4, -1e30), (1e-4, 5)):
        path.write_bytes(good[:first] + struct.pack("<ff", scale, minimum) + good[first + 8 :])
        with pytest.raises(ValueError, match="damaged between rows"):
            compare_logits(path, second, progress=False)
    path.write_bytes(good)
    for other, message in ((second[1:], "second must have 15 rows"), (second[:, 1:], "one vocabulary")):
        with pytest.raises(ValueError, match=message):
            compare_logits(path, other, progress=False)
    write_llama(tmp_path / "other.kld", second, (tokens + 1) % N_VOCAB)
    with pytest.raises(ValueError, match="same text"):
        compare_logits(path, tmp_path / "other.kld", progress=False)
    with pytest.raises(ValueError, match="labels must be given"):
        compare_logits(base, second, progress=False)
    write_llama(tmp_path / "foreign.bin", base, tokens, magic=b"_Logits_")
    with pytest.raises(ValueError, match="no file of llama"):
        LlamaLogits(tmp_path / "foreign.bin")

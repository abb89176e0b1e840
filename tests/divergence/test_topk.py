"""The KL divergence from a distribution of which only the top k is known."""

import itertools

import numpy as np
import pytest

import kullback
from kullback import reference


def top(p, k):
    """Return the classes of the k largest probabilities of each row, and their logarithms."""
    index = np.argsort(-p, axis=-1, kind="stable")[..., :k]
    with np.errstate(divide="ignore"):
        return index, np.log(np.take_along_axis(p, index, axis=-1))


def exact_divergence(p, logits):
    """Return the divergence in extended precision, from terms that are never negative."""
    p, x = p.astype(np.longdouble), np.asarray(logits).astype(np.longdouble)
    p = p / p.sum(axis=-1, keepdims=True)
    x = x - x.max(axis=-1, keepdims=True)
    log_q = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.log(p) - log_q) - p, 0) + np.exp(log_q)
    return np.maximum(terms.sum(axis=-1), 0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, "bfloat16"])
@pytest.mark.parametrize("gap", [0.0, 1e-6, 3.0, 60.0, 700.0])
@pytest.mark.parametrize("shape", [(300, 4), (60, 200), (2, 9000)])
def test_bounds_hold_for_rounded_lists(dtype, gap, shape):
    """Whatever the list was rounded to, ties and masked logits included, the limits enclose the divergence."""
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    rng = np.random.default_rng(shape[1])
    x = rng.uniform(-gap, 0, shape)
    x[:, : shape[1] // 3] = np.round(x[:, : shape[1] // 3])
    p = np.exp(x - x.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    for noise, mask in ((0.0, 0), (0.3, 0), (gap, 0), (1.0, 1)):
        logits = (x + noise * rng.normal(size=shape)).astype(dtype)
        logits[:, -mask:][:, :mask] = -np.inf
        exact = exact_divergence(p, logits)
        for k in (1, min(64, shape[1] - 1), shape[1] if shape[1] < 1000 else 500):
            index, logs = top(p, k)
            found = kullback.kl_divergence_topk(index, logs.astype(dtype), logits)
            assert (found.lower <= exact).all() and (exact <= found.upper).all()


def test_bounds_hold_for_the_vocabulary_of_a_model():
    """Rows of 152,000 float32 logits, of which 64 are listed."""
    x = np.random.default_rng(0).normal(size=(3, 152_000)) * 3
    p = np.exp(x)
    p /= p.sum(axis=1, keepdims=True)
    index, logs = top(p, 64)
    logits = (x + 0.3 * np.random.default_rng(1).normal(size=x.shape)).astype(np.float32)
    found = kullback.kl_divergence_topk(index, logs.astype(np.float32), logits)
    exact = exact_divergence(p, logits)
    assert (found.lower <= exact).all() and (exact <= found.upper).all()
    assert (kullback.kl_divergence_topk(index, logs, logits, max_log_ratio=2.0).upper < 1.5).all()


def test_bounds_are_the_best_that_the_list_allows():
    """The upper limit is that of the farthest of all orders of filling, and no other tail is nearer."""
    rng = np.random.default_rng(0)
    for trial in range(150):
        n_classes = int(rng.integers(2, 7))
        k = int(rng.integers(1, n_classes + 1))
        p, logits = rng.dirichlet(np.ones(n_classes) * (0.2, 1, 5)[trial % 3]), rng.normal(size=n_classes) * 4
        index, logs = top(p, k)
        log_q = logits - np.log(np.exp(logits).sum())
        others, cap = np.delete(log_q, index), p[index[-1]]
        t = max(1 - p[index].sum(), 0) if k < n_classes else 0.0
        listed = (p[index] * (logs - log_q[index])).sum()
        amounts = np.clip(t - np.arange(n_classes - k) * cap, 0, cap)

        def add(amounts, others=others):
            return np.where(amounts > 0, amounts * (np.log(np.where(amounts > 0, amounts, 1)) - others), 0).sum()

        farthest = max(add(np.array(order)) for order in itertools.permutations(amounts))
        found = kullback.kl_divergence_topk(index, logs, logits)
        np.testing.assert_allclose(found.upper, listed + farthest, rtol=1e-11, atol=1e-12)
        if cap > 0:  # mixtures of vertices are tails that the list allows
            for _ in range(20):
                order = rng.permuted(np.tile(amounts, (n_classes, 1)), axis=1)
                assert listed + add(rng.dirichlet(np.ones(n_classes)) @ order) >= found.lower - 1e-12
        twin = reference.kl_divergence_topk(index, logs, logits)
        np.testing.assert_allclose(found, np.maximum(twin, 0), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("tail", ["bounds", "bucket", "uniform", "drop"])
def test_tails_follow_their_twin(dtype, tail):
    """Many rows in several axes, lists of each dtype, and caps that bind and do not."""
    rng = np.random.default_rng(1)
    for scale in (0.3, 3.0, 60.0):
        p, logits = rng.dirichlet(np.full(80, 0.5), size=(3, 4)), rng.normal(size=(3, 4, 80)) * scale
        index, logs = top(p, 20)
        logs = logs.astype(dtype)
        found = kullback.kl_divergence_topk(index, logs, logits, tail=tail)
        np.testing.assert_allclose(found, reference.kl_divergence_topk(index, logs, logits, tail=tail), rtol=1e-11)
    with_ratio = kullback.kl_divergence_topk(index, logs, logits, max_log_ratio=300.0)
    twin = reference.kl_divergence_topk(index, logs, logits, max_log_ratio=300.0)
    np.testing.assert_allclose(with_ratio, twin, rtol=1e-11)


def test_a_bound_on_the_ratio_tightens_the_upper_limit():
    """The limit holds where the assumption does, meets the bucket where P is proportional to Q, or is refused."""
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(20, 500)) * 3
    p = np.exp(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))
    index, logs = top(p, 30)
    noisy = logits + 0.1 * rng.normal(size=logits.shape)
    log_q = noisy - np.log(np.exp(noisy).sum(axis=1, keepdims=True))
    exact, loose = exact_divergence(p, noisy), kullback.kl_divergence_topk(index, logs, noisy)
    ratio = (np.log(p) - log_q).max()
    tight = kullback.kl_divergence_topk(index, logs, noisy, max_log_ratio=ratio)
    assert (exact <= tight.upper).all() and (tight.upper < loose.upper - 0.05).all()
    np.testing.assert_array_equal(tight.lower, loose.lower)
    same = kullback.kl_divergence_topk(index, logs, logits, max_log_ratio=0.0)
    np.testing.assert_allclose(same.upper, 0, atol=1e-13)
    with pytest.raises(ValueError, match="max_log_ratio must be larger"):
        kullback.kl_divergence_topk(index, logs, logits, max_log_ratio=-0.5)
    with pytest.raises(ValueError, match="max_log_ratio must be None with tail='drop'"):
        kullback.kl_divergence_topk(index, logs, logits, tail="drop", max_log_ratio=1.0)
    with pytest.raises(ValueError, match="max_log_ratio must be finite"):
        kullback.kl_divergence_topk(index, logs, logits, max_log_ratio=np.inf)


def test_logits_far_apart():
    """The mass of unlisted classes is a sum of its own, where one less the listed mass would be 0."""
    found = kullback.kl_divergence_topk([0], [np.log(0.9)], [40.0, 0, 0])
    np.testing.assert_allclose(found.lower, 0.9 * np.log(0.9) + 0.1 * np.log(0.05) + 4.0, rtol=1e-12)
    np.testing.assert_allclose(found.upper, 0.9 * np.log(0.9) + 0.1 * np.log(0.1) + 4.0, rtol=1e-12)
    assert kullback.kl_divergence_topk([0], [np.log(0.9)], [40.0, 0, 0], tail="bucket") == pytest.approx(found.lower)


def test_whole_lists_and_empty_rests():
    """Where nothing is missing both limits are the divergence, whatever the rounding of the sum is."""
    p = np.random.default_rng(3).dirichlet(np.ones(30), size=50)
    logits = np.random.default_rng(4).normal(size=p.shape)
    exact = exact_divergence(p, logits).astype(float)
    for tail in ("bucket", "uniform", "drop"):
        np.testing.assert_allclose(kullback.kl_divergence_topk(*top(p, 30), logits, tail=tail), exact, rtol=1e-13)
    for dtype, width in ((np.float64, 1e-13), (np.float32, 1e-5), (np.float16, 0.1)):
        index, logs = top(p, 30)
        found = kullback.kl_divergence_topk(index, logs.astype(dtype), logits)
        assert (found.lower <= exact).all() and (exact <= found.upper).all()
        assert (found.upper - found.lower < width).all()
    masked = kullback.kl_divergence_topk([0, 1], [0.0, -np.inf], [0.0, -1, -np.inf])  # no class can have more than 0
    np.testing.assert_allclose(masked, np.log1p(np.exp(-1)), rtol=1e-13)
    open_end = kullback.kl_divergence_topk([0], [np.log(0.9)], [0.0, -1, -np.inf])
    assert np.isfinite(open_end.lower) and open_end.upper == np.inf
    no_room = kullback.kl_divergence_topk([0], [np.log(0.5)], [0.0, -np.inf])
    assert no_room == (np.inf, np.inf)


def test_lists_that_contradict_themselves():
    """A mass above 1 is refused to the precision of the dtype, and so is one that the other classes cannot hold."""
    half = np.log(np.array([0.501, 0.501])).astype(np.float16)
    assert np.isfinite(kullback.kl_divergence_topk([0, 1], half, [0.0, 0.0, 0.0])).all()
    with pytest.raises(ValueError, match=r"log_probs must have a mass of at most 1 within 0\.001"):
        kullback.kl_divergence_topk([0, 1], half.astype(np.float32) + 0.001, [0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"leave 0\.7 in row 1 to 1 other classes, none above 0\.3"):
        kullback.kl_divergence_topk([[0], [0]], np.log([[0.6], [0.3]]), np.zeros((2, 2)))

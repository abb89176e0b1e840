"""What may be passed as probabilities, logits and rows, and what is refused with which words."""

import numpy as np
import pytest

import kullback
from kullback import reference
from kullback.readers import compare_logits
from kullback.streaming import RowDivergence, SupportDivergence


def bfloat16_bits(values):
    """Return the upper halves of float32, and the float32 that they stand for."""
    bits = (np.asarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return bits, (bits.astype(np.uint32) << 16).view(np.float32)


def test_uint16_is_bfloat16_where_logits_are_asked_for():
    """Every function, accumulator and twin reads logits of uint16 as the bits of bfloat16."""
    rng = np.random.default_rng(0)
    (bits_p, p), (bits_q, q) = (bfloat16_bits(rng.normal(size=(6, 300))) for _ in "pq")
    tokens = np.arange(6)
    order = np.argsort(-p, axis=-1)[:, :4]
    log_p = p - np.log(np.exp(p.astype(float)).sum(-1, keepdims=True))
    bits_log_p, log_p = bfloat16_bits(np.take_along_axis(log_p, order, -1))
    for call in (
        lambda p, q, _: kullback.kl_divergence(p, q, from_logits=True),
        lambda p, q, _: reference.kl_divergence(p, q, from_logits=True),
        lambda p, q, _: kullback.log_loss(tokens, q, from_logits=True, label_smoothing=0.1),
        lambda p, q, _: reference.log_loss(tokens, q, from_logits=True),
        lambda p, q, _: RowDivergence(from_logits=True).update(p, q).result().kl.mean,
        lambda p, q, _: SupportDivergence(from_logits=True).update(p[0], q[0]).result().kl,
        lambda p, q, _: kullback.evaluate(p, q, from_logits=True, progress=False).kl.mean,
        lambda p, q, _: compare_logits(p, q, tokens, progress=False).kl.mean,
        lambda p, q, logs: kullback.kl_divergence_topk(order, logs, q, tail="bucket"),
        lambda p, q, logs: kullback.kl_divergence_topk(order, logs, q).upper,
    ):
        np.testing.assert_allclose(call(bits_p, bits_q, bits_log_p), call(p, q, log_p), rtol=1e-12)
    counts = rng.integers(1, 60000, (2, 50)).astype(np.uint16)  # they are counts elsewhere
    np.testing.assert_array_equal(kullback.entropy(counts), kullback.entropy(counts.astype(np.int64)))
    found = SupportDivergence(normalize=True).update(*counts).result().kl
    assert found == SupportDivergence(normalize=True).update(*counts.astype(np.int64)).result().kl


def test_bfloat16_of_ml_dtypes_everywhere():
    """Where uint16 stands for bfloat16, the dtype of ml_dtypes is taken, too."""
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    bits, _ = bfloat16_bits(np.random.default_rng(1).normal(size=(2, 40)))
    p, q = bits.view(bfloat16)
    found = SupportDivergence(from_logits=True).update(p, q).result().kl
    assert found == SupportDivergence(from_logits=True).update(*bits).result().kl
    halves = np.array([0.5, 0.25, 0.2461], bfloat16)  # sums to 1 within the square root of bfloat16's eps
    assert SupportDivergence().update(halves, halves).result().kl == 0

"""Every measure against its NumPy twin: from probabilities, logits and labels; options; pairs; top k; samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import kullback
from kullback import reference

PAIRS = [
    ("kl_divergence", {}),
    ("cross_entropy", {}),
    ("jeffreys_divergence", {}),
    ("population_stability_index", {}),
    ("jensen_shannon_divergence", {}),
    ("jensen_shannon_distance", {}),
    ("hellinger_distance", {}),
    ("bhattacharyya_distance", {}),
    ("total_variation_distance", {}),
    ("chi2_divergence", {}),
    *[("renyi_divergence", {"alpha": a}) for a in (0, 0.3, 1, 2, np.inf)],
    *[("alpha_divergence", {"alpha": a}) for a in (-1.5, 0, 0.5, 1, 3)],
]
SINGLES = [
    ("entropy", {}),
    ("perplexity", {}),
    *[("renyi_entropy", {"alpha": a}) for a in (0, 0.5, 1, 2, np.inf)],
    *[("tsallis_entropy", {"alpha": a}) for a in (0, 0.5, 1, 2)],
]
# float32 terms err by a few ulp; a logit's error is that of its exponential. The twin's own sums err in float64.
RTOL = {np.float32: 4e-6, np.float64: 1e-11}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [10, 700])
@pytest.mark.parametrize(("name", "extra"), PAIRS + SINGLES)
def test_measures_match_reference(at_level, name, extra, size, dtype, n_threads, draw):
    """Probabilities, counts of any scale, and logits with an offset."""
    p, q = draw((6, size), dtype, 1, spread=1), draw((6, size), dtype, 2, spread=1)
    operands = (p,) if (name, extra) in SINGLES else (p, q)
    expected = getattr(reference, name)(*operands, **extra)
    options = {**extra, "n_threads": n_threads}
    close = {"rtol": RTOL[dtype], "atol": 1e-12}
    np.testing.assert_allclose(getattr(kullback, name)(*operands, **options), expected, **close)
    scaled = [x * dtype(4) for x in operands]
    np.testing.assert_allclose(getattr(kullback, name)(*scaled, normalize=True, **options), expected, **close)
    logits = [(np.log(x) + 3).astype(dtype) for x in operands]
    expected = getattr(reference, name)(*logits, from_logits=True, **extra)
    np.testing.assert_allclose(getattr(kullback, name)(*logits, from_logits=True, **options), expected, **close)


@pytest.mark.parametrize("noise", [1e-1, 1e-3, 1e-4])
@pytest.mark.parametrize("offset", [0, 1e4])
def test_kl_of_float32_logits(at_level, noise, offset):
    """Relative error at most 1e-6 at KL ~ 5e-3 and 1e-5 down to 5e-9, against extended precision; with huge offsets."""
    rng = np.random.default_rng(0)
    x = (3 * rng.standard_normal((2, 128_000))).astype(np.float32)
    y = (x + noise * rng.standard_normal(x.shape) + offset).astype(np.float32)

    def log_softmax(z):
        z = z.astype(np.longdouble)
        z -= z.max(axis=-1, keepdims=True)
        return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))

    p, t = np.exp(log_softmax(x)), log_softmax(x) - log_softmax(y)
    expected = (p * (np.expm1(-t) + t)).sum(axis=-1).astype(float)
    rtol = 1e-6 if expected.min() > 1e-3 else 1e-5
    np.testing.assert_allclose(kullback.kl_divergence(x, y, from_logits=True), expected, rtol=rtol)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_masks_and_identical_logits(at_level, dtype):
    """-inf is probability zero on either side; equal rows give exactly 0; no NaN anywhere."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 3000)).astype(dtype)
    x[:, :1500] = -np.inf
    y = (x + 0.1 * rng.standard_normal(x.shape)).astype(dtype)
    for name in ("kl_divergence", "jensen_shannon_divergence", "total_variation_distance"):
        function = getattr(kullback, name)
        np.testing.assert_array_equal(function(x, x, from_logits=True), np.zeros(3))
        expected = function(x[:, 1500:].astype(float), y[:, 1500:].astype(float), from_logits=True)
        np.testing.assert_allclose(function(x, y, from_logits=True), expected, rtol=4e-6)
    y[:, 2000] = -np.inf
    assert (kullback.kl_divergence(x, y, from_logits=True) == np.inf).all()
    assert np.isfinite(kullback.kl_divergence(y, x, from_logits=True)).all()


def test_compare_agrees_with_the_functions(at_level, draw):
    """One read gives what each function gives."""
    p, q = draw((5, 3000), np.float64, 1), draw((5, 3000), np.float64, 2)
    q[0] = p[0]
    names = (
        "kl",
        "reverse_kl",
        "cross_entropy",
        "entropy_p",
        "entropy_q",
        "js",
        "hellinger",
        "total_variation",
        "top1_agreement",
    )
    for options, a, b in (({}, p, q), ({"from_logits": True, "temperature": 2.0}, np.log(p), np.log(q))):
        actual, expected = kullback.compare(a, b, names, **options), reference.compare(a, b, names, **options)
        for name in names:
            np.testing.assert_allclose(actual[name], expected[name], rtol=1e-10, atol=1e-14, err_msg=name)


@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.1}, {"ignore_index": 3}, {"reduction": "mean", "ignore_index": 3}]
)
@pytest.mark.parametrize("from_logits", [False, True])
def test_labels(at_level, options, from_logits, draw):
    """Integer labels stand for one-hot rows."""
    q = draw((8, 20), np.float64, 1)
    labels = np.array([3, 0, 19, 7, 3, 1, 2, 5])
    q = np.log(q) + 1 if from_logits else q
    for name in ("cross_entropy", "log_loss"):
        actual = getattr(kullback, name)(labels, q, from_logits=from_logits, **options)
        expected = getattr(reference, name)(labels, q, from_logits=from_logits, **options)
        np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_log_loss_of_soft_labels_and_logits(at_level, draw):
    """Distributions as targets, zeros among them, against logits; the temperature is that of the logits alone."""
    y, x = draw((6, 20), np.float64, 1), np.log(draw((6, 20), np.float64, 2)) + 3
    y[:, :4] = 0
    y /= y.sum(axis=1, keepdims=True)
    for options in ({}, {"temperature": 2.0}, {"base": 2, "reduction": "mean"}):
        actual = kullback.log_loss(y, x, from_logits=True, **options)
        np.testing.assert_allclose(actual, reference.log_loss(y, x, from_logits=True, **options), rtol=1e-12)
    hot = np.eye(20)[[3, 7]]
    labelled = kullback.log_loss([3, 7], x[:2], from_logits=True)
    np.testing.assert_allclose(kullback.log_loss(hot, x[:2], from_logits=True), labelled, rtol=1e-12)
    x[0, 5] = -np.inf
    assert kullback.log_loss(y[:1], x[:1], from_logits=True)[0] == np.inf
    with pytest.raises(ValueError, match="y must sum to 1"):
        kullback.log_loss(2 * y, x, from_logits=True)


def test_options_of_rows(at_level, draw):
    """weights, where, reduction, smoothing, base and out."""
    p, q = draw((4, 5, 30), np.float64, 1), draw((4, 5, 30), np.float64, 2)
    weights, where = np.random.default_rng(0).random((4, 5)), np.random.default_rng(1).random((4, 5)) < 0.6
    for options in (
        {"reduction": "mean", "weights": weights},
        {"reduction": "sum", "where": where},
        {"reduction": "mean", "where": where, "weights": weights, "base": 2},
        {"where": where},
        {"smoothing": 0.01},
        {"keepdims": True},
    ):
        np.testing.assert_allclose(
            kullback.kl_divergence(p, q, **options), reference.kl_divergence(p, q, **options), rtol=1e-12
        )
    logits = np.log(p), np.log(q)
    expected = reference.kl_divergence(*logits, from_logits=True, smoothing=0.01)
    np.testing.assert_allclose(kullback.kl_divergence(*logits, from_logits=True, smoothing=0.01), expected, rtol=1e-12)
    out = np.empty((4, 5))
    assert kullback.kl_divergence(p, q, out=out) is out
    np.testing.assert_array_equal(out, kullback.kl_divergence(p, q))
    p[~where] = np.nan  # padding is not checked
    assert np.isfinite(kullback.kl_divergence(p, q, where=where, reduction="mean"))


@pytest.mark.parametrize(
    "measure", ["kl", "cross_entropy", "js", "js_distance", "hellinger", "total_variation", "chi2", "jeffreys"]
)
def test_pairwise(measure, draw):
    """All pairs, with zeros, equal rows and nearest rows."""
    P, Q = draw((20, 30), np.float64, 1), draw((9, 30), np.float64, 2)
    P[0, :5] = 0
    P[0] /= P[0].sum()
    Q[3], P[7] = P[5], P[6] * (1 + 1e-9)
    expected = reference.pairwise_divergence(P, Q, measure=measure)
    # square roots of differences keep half of the digits in the twin
    np.testing.assert_allclose(kullback.pairwise_divergence(P, Q, measure=measure), expected, rtol=1e-10, atol=2e-8)
    values, indices = kullback.pairwise_divergence(P, measure=measure, k=3)
    assert (indices != np.arange(20)[:, None]).all() and (np.sort(values, axis=1) == values).all()


def test_samples_of_normals():
    """The estimates approach the closed forms for normal distributions; ties do not break them."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4000, 2)), rng.standard_normal((4000, 2)) + np.array([1, 0])
    # the standard error is about sd / sqrt(n) = 0.03; three of them
    assert abs(kullback.kl_divergence_from_samples(x, y) - 0.5) < 0.09
    assert abs(kullback.differential_entropy_from_samples(x) - np.log(2 * np.pi * np.e)) < 0.09
    tied = np.round(x, 1)
    assert np.isfinite(kullback.kl_divergence_from_samples(tied, np.round(y, 1)))
    assert np.isfinite(kullback.differential_entropy_from_samples(np.repeat(x, 8, axis=0)))


@pytest.mark.parametrize("digits", [1, 2, 3, 4, 6])
def test_rounding_samples_moves_their_entropy_little(digits):
    """Of points on a grid that are tied at a distance, half count as within it, in one to three features."""
    rng = np.random.default_rng(0)
    assert abs(kullback.differential_entropy_from_samples(np.round(rng.uniform(size=5000), digits))) < 0.11
    for d in (2, 3):
        x = np.round(rng.standard_normal((1500, d)), digits)
        assert abs(kullback.differential_entropy_from_samples(x) - d / 2 * np.log(2 * np.pi * np.e)) < 0.15


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e-5, 1e170, 1e300])
def test_samples_of_any_scale(scale):
    """A factor adds its logarithm to the entropy of each feature and leaves the divergence."""
    x, y = np.random.default_rng(0).standard_normal((2, 300, 3))
    for module in (kullback, reference) if 1e-100 < scale < 1e100 else (kullback,):
        expected = module.differential_entropy_from_samples(x) + 3 * np.log(scale)
        assert module.differential_entropy_from_samples(x * scale) == pytest.approx(expected, rel=1e-12)
        expected = module.kl_divergence_from_samples(x, y)
        assert module.kl_divergence_from_samples(x * scale, y * scale) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("base", [None, 2])
def test_samples_match_their_twins(base):
    """Tied and untied samples, one and two features, against all distances."""
    rng = np.random.default_rng(1)
    for shift, digits in ((0.5, 9), (0.5, 1)):
        x, y = np.round(rng.standard_normal((80, 2)), digits), np.round(rng.standard_normal((90, 2)) + shift, digits)
        for a, b in ((x, y), (x[:, 0], y[:, 0])):
            options = {"k": 3, "base": base}
            # the two ways to a distance differ in its last bits, which the logarithm keeps
            close = {"rtol": 1e-10, "atol": 1e-12}
            actual = kullback.kl_divergence_from_samples(a, b, **options)
            np.testing.assert_allclose(actual, reference.kl_divergence_from_samples(a, b, **options), **close)
            actual = kullback.differential_entropy_from_samples(a, **options)
            np.testing.assert_allclose(actual, reference.differential_entropy_from_samples(a, **options), **close)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e140])
def test_samples_of_many_features_match_their_twins(scale):
    """Beyond ten features the library's neighbour search serves, whose float32 ranks cost no precision."""
    rng = np.random.default_rng(2)
    x, y = scale * rng.standard_normal((300, 12)), scale * (rng.standard_normal((310, 12)) + 0.3)
    x[40:60] = x[0]  # more ties than neighbours
    y[7:20] = x[0]
    for k in (1, 4):
        close = {"rtol": 1e-10, "atol": 1e-12}
        actual = kullback.kl_divergence_from_samples(x, y, k=k)
        np.testing.assert_allclose(actual, reference.kl_divergence_from_samples(x, y, k=k), **close)
        actual = kullback.differential_entropy_from_samples(y, k=k)
        np.testing.assert_allclose(actual, reference.differential_entropy_from_samples(y, k=k), **close)
        again = kullback.kl_divergence_from_samples(x, y, k=k, n_threads=1)
        assert again == kullback.kl_divergence_from_samples(x, y, k=k, n_threads=2)


def test_mutual_information():
    """Independent variables share nothing; a table agrees with its twin."""
    counts = np.random.default_rng(0).integers(0, 9, (3, 4, 5))
    np.testing.assert_allclose(kullback.mutual_information(counts), reference.mutual_information(counts), rtol=1e-10)
    assert kullback.mutual_information(np.outer([1, 2, 3], [4, 5])) == 0


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, (2, 7), elements=st.floats(0, 1, width=32)))
def test_inequalities(rows):
    """Pinsker, Bretagnolle-Huber's bound of Hellinger, bounds of JS, symmetry: on rows with zeros and tiny values."""
    rows = rows + np.eye(2, 7)
    p, q = rows / rows.sum(axis=1, keepdims=True)
    tv, h = kullback.total_variation_distance(p, q), kullback.hellinger_distance(p, q)
    js, kl = kullback.jensen_shannon_divergence(p, q), kullback.kl_divergence(p, q)
    slack = 1e-12
    assert 0 <= js <= np.log(2) + slack and 2 * tv**2 <= kl + slack
    assert h**2 <= tv + slack and tv <= np.sqrt(2) * h + slack
    assert js == pytest.approx(kullback.jensen_shannon_divergence(q, p), rel=1e-12, abs=1e-300)
    assert kullback.renyi_divergence(p, q, alpha=0.5) <= kl + slack


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kullback.renyi_divergence([1.0], [1.0], alpha=-1), ValueError, "alpha must be in"),
        (lambda: kullback.alpha_divergence([1.0], [1.0], alpha=np.inf), ValueError, "alpha must be finite"),
        (lambda: kullback.kl_divergence([1.0], [1.0], temperature=2), ValueError, "temperature must be 1 unless"),
        (lambda: kullback.kl_divergence([1.0], [1.0], smoothing=-1), ValueError, "smoothing must be in"),
        (lambda: kullback.kl_divergence([1.0], [1.0], reduction="max"), ValueError, "reduction must be one of"),
        (lambda: kullback.kl_divergence([[1.0]], [[1.0]], weights=[1]), ValueError, "weights need reduction"),
        (lambda: kullback.kl_divergence([[1.0]], [[1.0]], where=[1]), TypeError, "where must be boolean"),
        (lambda: kullback.kl_divergence([[1.0]], [[1.0]], out=np.empty(2)), ValueError, "out must be writeable"),
        (
            lambda: kullback.kl_divergence([np.nan, 1], [0, 1.0], from_logits=True),
            ValueError,
            "p must hold logits < inf",
        ),
        (lambda: kullback.cross_entropy([5], [[0.5, 0.5]]), ValueError, r"labels must be in \[0, 2\), got 5"),
        (lambda: kullback.log_loss([0, 1], [[0.5, 0.5]]), ValueError, "labels must have one entry a row"),
        (lambda: kullback.compare([1.0], [1.0], ("kl", "x")), ValueError, "measures must be one of"),
        (lambda: kullback.kl_divergence_topk([[0, 0]], [[-1, -1]], [[0.0, 0, 0]]), ValueError, "distinct"),
        (
            lambda: kullback.kl_divergence_topk([[0, 9]], [[-1, -1]], [[0.0, 0, 0]]),
            ValueError,
            r"indices must be in \[0, 3\)",
        ),
        (lambda: kullback.kl_divergence_topk([[0, 1]], [[-2, -1]], [[0.0, 0, 0]]), ValueError, "descending"),
        (lambda: kullback.pairwise_divergence([[0.5, 0.6]]), ValueError, "P must have rows that sum to 1"),
        (lambda: kullback.pairwise_divergence([[1.0]], k=1), ValueError, "k must be in"),
        (lambda: kullback.kl_divergence_from_samples([1.0, 2], [1.0, 2], k=2), ValueError, "n_samples > k = 2"),
        (lambda: kullback.mutual_information([1.0, 2]), ValueError, "counts must have at least two axes"),
        (lambda: kullback.entropy([1.0], alpha=2), TypeError, "alpha"),
    ],
)
def test_errors(call, error, message):
    """Each error names the argument, what came and what is accepted."""
    with pytest.raises(error, match=message):
        call()

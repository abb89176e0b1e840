"""SupportDivergence, to which one pair of distributions comes in chunks along the support."""

import math

import mpmath
import numpy as np
import pytest
from scipy.special import kl_div, log_softmax, rel_entr
from scipy.stats import entropy

from kullback import _kernels
from kullback.streaming import SupportDivergence
from kullback.streaming._exact import to_fraction

ALL = ("kl", "reverse_kl", "entropy_p", "entropy_q", "cross_entropy", "js", "total_variation")
LOGITS = ALL[:5]


def pair(n, seed=0, dtype=np.float64):
    """Return two distributions with zeros on both sides."""
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(n))
    p[: n // 4] = 0
    return (p / p.sum()).astype(dtype), (q / q.sum()).astype(dtype)


def exact_logits(a, b):
    """Return every measure of two vectors of logits, computed with 60 digits."""
    with mpmath.workdps(60):
        a, b = [mpmath.mpf(float(x)) for x in a], [mpmath.mpf(float(x)) for x in b]
        log_p = mpmath.log(mpmath.fsum(map(mpmath.exp, a)))
        log_q = mpmath.log(mpmath.fsum(map(mpmath.exp, b)))
        p, q = [mpmath.exp(x - log_p) for x in a], [mpmath.exp(x - log_q) for x in b]

        def mean(weights, values):
            return mpmath.fsum(w * v for w, v in zip(weights, values, strict=True) if w)

        log_ps, log_qs = [x - log_p for x in a], [x - log_q for x in b]
        h_p, h_q, cross, back = (-mean(*x) for x in ((p, log_ps), (q, log_qs), (p, log_qs), (q, log_ps)))
        return dict(kl=float(cross - h_p), reverse_kl=float(back - h_q), entropy_p=float(h_p),
                    entropy_q=float(h_q), cross_entropy=float(cross))  # fmt: skip


@pytest.mark.parametrize("n", [4, 8, 9, 257, 20000])
def test_probabilities_equal_scipy(n, n_threads):
    """All measures agree with those of SciPy for the whole vectors."""
    p, q = pair(n)
    acc = SupportDivergence(ALL, n_threads=n_threads)
    for chunk in np.array_split(np.arange(n), 3):
        acc.update(p[chunk], q[chunk])
    found, m = acc.result(), (p + q) / 2
    expected = {
        "kl": rel_entr(p, q).sum(), "reverse_kl": math.inf, "entropy_p": entropy(p), "entropy_q": entropy(q),
        "cross_entropy": rel_entr(p, q).sum() + entropy(p),
        "js": (rel_entr(p, m) + rel_entr(q, m)).sum() / 2, "total_variation": np.abs(p - q).sum() / 2,
    }  # fmt: skip
    for name in ALL:
        assert found[name] == pytest.approx(expected[name], rel=1e-12)
    assert found.kl == found["kl"]
    assert found.n_elements == n


def test_generalised_and_normalised():
    """normalize=False is SciPy's kl_div; True divides by the totals; "check" refuses them."""
    p, q = np.array([0.5, 1.0, 2.0]), np.array([1.0, 1.5, 0.25])
    assert SupportDivergence(normalize=False).update(p, q).result().kl == pytest.approx(kl_div(p, q).sum(), rel=1e-14)
    true = SupportDivergence(("kl", "entropy_p"), normalize=True, base=2).update(p, q).result()
    assert true.kl == pytest.approx(entropy(p, q, base=2), rel=1e-14)
    assert true["entropy_p"] == pytest.approx(entropy(p, base=2), rel=1e-14)
    with pytest.raises(ValueError, match="must sum to 1"):
        SupportDivergence().update(p, q).result()


@pytest.mark.parametrize("distance", [1e-1, 1e-4, 1e-7])
def test_nearly_equal_sides_keep_their_digits(distance):
    """KL of nearly equal probabilities agrees with that computed with 60 digits."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(1000))
    q = p * (1 + distance * rng.uniform(-1, 1, 1000))
    with mpmath.workdps(60):
        big_p, big_q = [mpmath.mpf(x) for x in p], [mpmath.mpf(x) for x in q]
        sum_p, sum_q = mpmath.fsum(big_p), mpmath.fsum(big_q)
        exact = mpmath.fsum(a / sum_p * mpmath.log(a / sum_p / (b / sum_q)) for a, b in zip(big_p, big_q, strict=True))
        found = SupportDivergence(normalize=True).update(p, q).result().kl
        # (q - p) / p of two float64 is exact to eps relative to itself where they are within 2 x
        assert abs(found / exact - 1) < 1e-13


@pytest.mark.parametrize("offset", [0.0, 1e4, -3e4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_against_sixty_digits(dtype, offset, n_threads):
    """All measures of logits with offsets are right but for the rounding of their terms."""
    rng = np.random.default_rng(0)
    a, b = ((rng.normal(0, 4, 9000) + offset).astype(dtype) for _ in "ab")
    acc = SupportDivergence(LOGITS, from_logits=True, n_threads=n_threads).update(a, b)
    expected = exact_logits(a[:500], b[:500])
    found = SupportDivergence(LOGITS, from_logits=True, n_threads=n_threads).update(a[:500], b[:500]).result()
    for name in LOGITS:
        # one or two roundings for each term, each relative to |logit| in the entropies
        tolerance = 1e-14 if name in ("kl", "reverse_kl") else 1e-15 * (10 + abs(offset))
        assert found[name] == pytest.approx(expected[name], rel=1e-14, abs=tolerance)
    log_p, log_q = log_softmax(a.astype(float)), log_softmax(b.astype(float))
    assert acc.result().kl == pytest.approx((np.exp(log_p) * (log_p - log_q)).sum(), rel=1e-10)


def test_logits_extremes():
    """A logit of -inf is probability zero: KL of equal sides is 0, and infinite for p > 0 and q = 0. NaN is refused."""
    inf = np.inf
    make = lambda: SupportDivergence(("kl", "reverse_kl"), from_logits=True)  # noqa: E731
    assert make().update([0.0, 1.0, -inf], [0.0, 1.0, -inf]).result().kl == 0
    found = make().update([0.0, -inf], [0.0, 1.0]).result()
    assert found.kl == pytest.approx(math.log1p(math.e), rel=1e-15)
    assert found.reverse_kl == inf
    low = np.finfo(np.float32).min
    masked = make().update(np.array([0, 1, low], np.float32), np.array([1, 0, low], np.float32)).result()
    assert masked.kl == pytest.approx(make().update([0.0, 1.0], [1.0, 0.0]).result().kl, rel=1e-15)
    assert math.isnan(make().update([-inf], [-inf]).result().kl)
    assert math.isnan(make().result().kl)
    acc = make()
    for bad in (np.nan, inf, 2e12):
        with pytest.raises(ValueError, match="2\\^40"):
            acc.update([0.0, bad], [0.0, 0.0])
    assert acc == make()
    # far below the kept windows, yet impossible under q
    assert make().update([0.0, -2000.0], [0.0, -inf]).result().kl == inf


@pytest.mark.parametrize("from_logits", [False, True])
def test_chunking_and_merging_change_no_bit(from_logits, n_threads):
    """Random chunks and merge trees give one state, even where the maximum grows by whole windows."""
    rng = np.random.default_rng(0)
    if from_logits:
        a, b = rng.normal(0, 400, 400), rng.normal(0, 400, 400)  # they span 3,000 binary exponents
        a[:9], b[5:20] = -np.inf, -np.inf
    else:
        a, b = pair(400)
    options = {"from_logits": from_logits, "n_threads": n_threads, "normalize": not from_logits or "check"}
    measures = ("kl", "reverse_kl", "entropy_q")
    whole = SupportDivergence(measures, **options).update(a, b)
    for _ in range(40):
        parts = [
            SupportDivergence(measures, **options).update(a[i], b[i])
            for i in np.split(rng.permutation(400), np.sort(rng.integers(0, 401, 6)))
        ]
        while len(parts) > 1:
            last = parts.pop(rng.integers(len(parts)))
            parts[rng.integers(len(parts))].merge(last)
        assert parts[0] == whole
    large = [np.tile(x, 60) for x in (a, b)]  # these are enough for several parts
    one = SupportDivergence(measures, **(options | {"n_threads": 1})).update(*large)
    assert SupportDivergence(measures, **options).update(*large) == one


def test_levels_agree(level):
    """Every level gives the terms of SciPy to a few units."""
    kernel = _kernels.load("support", level)
    p, q = pair(100)
    sums, infinite = np.zeros((1, 1, 70), np.int64), np.zeros((1, 1), np.int64)
    kernel.add_probabilities(p, q, np.array([2], np.intc), sums, infinite, 1)
    _kernels.exact_sum.carry(sums[0])
    assert float(to_fraction(sums[0, 0])) == pytest.approx(kl_div(p, q).sum(), rel=1e-14)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measures": ("js",), "from_logits": True}, "among"),
        ({"measures": ("js",), "normalize": True}, "among"),
        ({"normalize": "maybe"}, "normalize"), ({"base": -1}, "base"),
        ({"base": 0.5}, "base must be above 1"),
    ],
)  # fmt: skip
def test_bad_options(options, message):
    """Options are checked when an accumulator is made."""
    with pytest.raises(ValueError, match=message):
        SupportDivergence(**options)


def test_bad_values():
    """Shapes, dtypes, negative and NaN probabilities are refused."""
    acc = SupportDivergence()
    with pytest.raises(ValueError, match="same shape"):
        acc.update([0.5], [0.5, 0.5])
    with pytest.raises(ValueError, match="q must be finite"):
        acc.update([0.5], [np.nan])
    with pytest.raises(ValueError, match="p must be finite"):
        acc.update([-0.5], [0.5])
    with pytest.raises(TypeError, match="numbers"):
        acc.update(["a"], [0.5])
    assert acc == SupportDivergence()
    assert "SupportResult" in repr(acc.update([1.0], [1.0]).result())


def test_near_logits_give_no_negative_divergence():
    """The rounding of terms alone would make some of these values negative."""
    rng = np.random.default_rng(0)
    for scale in (1e-16, 1e-14, 1e-12, 1e-10, 1e-9):
        for _ in range(40):
            a = rng.normal(size=50)
            b = a + scale * rng.normal(size=50)
            accumulator = SupportDivergence(("kl", "reverse_kl", "entropy_p"), from_logits=True)
            assert min(accumulator.update(a, b).result().measures.values()) >= 0
            p, q = (np.exp(x) / np.exp(x).sum() for x in (a, b))
            assert min(SupportDivergence(("kl", "reverse_kl")).update(p, q).result().measures.values()) >= 0

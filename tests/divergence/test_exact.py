"""Values that are exact: those of counts and of powers of two, and those of independent tables."""

import mpmath
import numpy as np
import pytest

import kullback
from kullback import reference


def halves(rng, size):
    """Return a distribution of powers of two, by halving one of its elements until there are enough."""
    p = [1.0]
    while len(p) < size:
        half = p.pop(rng.integers(len(p))) / 2
        p += [half, half]
    return rng.permutation(p)


@pytest.mark.parametrize("scale", [1, 3, 7, 12345, 0.1, 1e-5])
@pytest.mark.parametrize("size", [1, 2, 5, 8, 40, 100])
def test_powers_of_two_are_exact(at_level, size, scale):
    """Of any scale, as counts or as floats, alone and in a mixture of measures, in bits and in nats."""
    rng = np.random.default_rng(size)
    for _ in range(20):
        p, q = halves(rng, size), halves(rng, size)
        h, h_q, cross = -(p * np.log2(p)).sum(), -(q * np.log2(q)).sum(), -(p * np.log2(q)).sum()
        rows = [p * scale, q * scale] if scale < 1 else [x / x.min() * scale for x in (p, q)]
        if scale >= 1 and max(x.max() for x in rows) < 2**62:
            rows = [x.astype(np.int64) for x in rows]
        options = {"base": 2, "normalize": True}
        assert kullback.entropy(rows[0], **options) == h
        assert kullback.entropy(rows[0], normalize=True) == h * np.log(2)
        assert kullback.cross_entropy(np.array([rows[0]]), rows[1], **options)[0] == cross
        assert kullback.kl_divergence(*rows, **options) == cross - h
        found = kullback.compare(*rows, ("kl", "reverse_kl", "entropy_p", "entropy_q", "js"), **options)
        assert (found["kl"], found["entropy_p"], found["entropy_q"]) == (cross - h, h, h_q)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
@pytest.mark.parametrize("size", [2, 8, 32, 256, 4096])
@pytest.mark.parametrize("count", [1, 3, 100])
def test_uniform_rows_are_exact(at_level, size, count, dtype):
    """Every entropy of them is the logarithm of their size, and so is every divergence of a sure outcome from them."""
    row, sure = np.full(size, count, dtype), np.eye(1, size, dtype=dtype)[0]
    bits = np.log2(size)
    options = {"base": 2, "normalize": True}
    assert kullback.entropy(row, **options) == bits
    assert kullback.entropy(row, base=size, normalize=True) == 1
    assert kullback.perplexity(row, normalize=True) == size
    assert kullback.kl_divergence(sure, row, **options) == bits
    assert kullback.jensen_shannon_divergence(np.append(row, 0 * row), np.append(0 * row, row), **options) == 1
    for alpha in (0, 0.5, 1, 2, 3, np.inf):
        assert kullback.renyi_entropy(row, alpha=alpha, **options) == bits
        assert kullback.renyi_divergence(sure, row, alpha=alpha, **options) == bits
    assert kullback.entropy(np.tile(row, (3, 1)), **options).tolist() == [bits] * 3


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("size", [2, 8, 32, 1024, 4096])
@pytest.mark.parametrize("logit", [0.0, 3.0, -1000.0])
def test_equal_logits_are_exact(at_level, size, logit, dtype):
    """Every entropy of them is the logarithm of how many there are, and so is the KL of a sure outcome from them."""
    row, sure = np.full(size, logit, dtype), np.full(size, -np.inf, dtype)
    sure[-1] = 7
    bits, options = np.log2(size), {"from_logits": True, "base": 2}
    assert kullback.entropy(row, **options) == bits
    assert kullback.entropy(row, from_logits=True) == bits * np.log(2)
    assert kullback.cross_entropy(np.array([sure]), row, **options)[0] == bits
    assert kullback.kl_divergence(sure, row, **options) == bits
    left, right = np.append(row, sure), np.append(sure, row)
    left[size:], right[:size] = -np.inf, -np.inf
    assert kullback.jensen_shannon_divergence(left, right, **options) == 1
    assert kullback.entropy(np.tile(row, (3, 1)), **options).tolist() == [bits] * 3
    if size <= 128 or dtype == np.float64:
        assert kullback.perplexity(row, from_logits=True) == size
    found = kullback.compare(sure, row, ("kl", "cross_entropy", "entropy_p"), **options)
    assert list(found.values()) == [bits, bits, 0]


def test_what_anyone_tries_first():
    """The values of SciPy's entropy for small examples."""
    assert kullback.entropy([4, 4], base=2) == 1
    assert kullback.entropy([1, 1, 2], base=2) == 1.5
    assert kullback.entropy(np.full(8, 1 / 8), base=2) == 3
    assert kullback.entropy([1] * 10, base=10) == 1
    assert kullback.entropy([5, 5]) == np.log(2)
    assert kullback.kl_divergence([1.0, 0], [0.5, 0.5], base=2) == 1
    assert kullback.mutual_information([[5, 0], [0, 5]], base=2) == 1


def test_other_values_keep_their_accuracy(at_level):
    """Values are moved by no more than rounding explains: of near and of any rows, against mpmath."""
    rng = np.random.default_rng(0)
    for k in range(200):
        p = rng.dirichlet(np.ones(6))
        q = rng.dirichlet(np.ones(6)) if k % 2 else p * (1 + 1e-3 * rng.standard_normal(6))
        q /= q.sum()
        exact_p, exact_q = ([mpmath.mpf(float(x)) / mpmath.fsum(map(float, row)) for x in row] for row in (p, q))
        h = -mpmath.fsum(x * mpmath.log(x) for x in exact_p)
        kl = mpmath.fsum(x * mpmath.log(x / y) for x, y in zip(exact_p, exact_q, strict=True))
        assert kullback.entropy(p) == pytest.approx(float(h), rel=4e-15)
        assert kullback.kl_divergence(p, q) == pytest.approx(float(kl), rel=2e-14)


@pytest.mark.parametrize("scale", [1, 7, 1e-200, 1e200])
def test_independent_tables_share_nothing(at_level, scale):
    """Products of counts give exactly 0, and so do products that are rounded; one count more gives more."""
    rng = np.random.default_rng(0)
    assert kullback.mutual_information(np.ones((1, 7), int)) == 0
    for shape in ((1, 1), (2, 2), (5, 4), (40, 3), (100, 200)):
        table = np.outer(rng.integers(1, 99, shape[0]), rng.integers(1, 99, shape[1])) * float(scale)
        assert kullback.mutual_information(table) == 0
        assert kullback.mutual_information(table / table.sum()) == 0
        floats = np.outer(rng.dirichlet(np.ones(shape[0])), rng.dirichlet(np.ones(shape[1]))) * scale
        assert kullback.mutual_information(floats) == 0
        if min(shape) > 1:
            table[0, 0] *= 1 + 1e-6
            assert kullback.mutual_information(table) > 0
    counts = np.array([[[1, 2], [2, 4]], [[1, 2], [2, 5]]])
    found = kullback.mutual_information(counts)
    assert found[0] == 0 == reference.mutual_information(counts)[0]
    assert found[1] == pytest.approx(reference.mutual_information(counts)[1], rel=1e-13)

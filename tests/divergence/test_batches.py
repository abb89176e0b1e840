"""The bits of a row depend on the row alone: not on neighbours, batch, position or threads."""

import numpy as np
import pytest

from kullback.divergence import compare
from kullback.divergence.measures import COMPARED

MEASURES = tuple(COMPARED)
FEW = (("kl",), ("js",), ("js_distance",), ("total_variation",), ("hellinger",), ("jeffreys",), ("chi2",))


def make_rows(n_rows, size, dtype, from_logits):
    """Pairs of rows of any spread and offset; some equal, some with masked or subnormal entries."""
    rng = np.random.default_rng(size)
    spread = np.repeat([0.3, 1.0, 1.0, 3.0, 6.0], n_rows // 5)[:, None]
    a, b = spread * rng.standard_normal((2, n_rows, size))
    b[::7] = a[::7]
    b[1::7] = a[1::7] + 1e-4 * rng.standard_normal(b[1::7].shape)
    b[::4] += 30
    a[3, 0] = a[11, 1] = b[11, 1] = -np.inf
    b[17, 2] = b[17].max() - 95  # a probability that float32 cannot hold as a normal number
    if not from_logits:
        a, b = (np.exp(x - x.max(axis=1, keepdims=True)) for x in (a, b))
        a, b = (x / x.sum(axis=1, keepdims=True) for x in (a, b))
    return a.astype(dtype), b.astype(dtype)


def assert_same_bits(actual, expected, index):
    """Compare every measure with the same rows of the whole batch."""
    for name, values in expected.items():
        np.testing.assert_array_equal(actual[name], values[index], err_msg=name)


@pytest.mark.parametrize("size", [4, 9, 33, 100, 1000, 3000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("from_logits", [True, False])
def test_bits_of_a_row_do_not_depend_on_its_batch(at_level, from_logits, dtype, size):
    """All measures, from every slice of one to seven rows, from shuffled rows and on any number of threads."""
    n_rows = 30
    a, b = make_rows(n_rows, size, dtype, from_logits)
    order = np.random.default_rng(0).permutation(n_rows)
    for names in (MEASURES, *FEW):
        options = {"from_logits": from_logits, "n_threads": 1}
        whole = compare(a, b, names, **options)
        for k in (1, 2, 3, 7) if size <= 100 else (1, 7):
            for i in range(0, n_rows - k + 1, 1 if k == 1 or (names == MEASURES and size <= 100) else k):
                rows = slice(i, i + k)
                assert_same_bits(compare(a[rows], b[rows], names, **options), whole, rows)
        assert_same_bits(compare(a[order], b[order], names, **options), whole, order)
        assert_same_bits(compare(a[5], b[5], names, **options), whole, 5)
        for n_threads in (2, 3):
            assert_same_bits(compare(a, b, names, **{**options, "n_threads": n_threads}), whole, slice(None))
            rows = slice(1, 3)
            part = compare(a[rows], b[rows], names, **{**options, "n_threads": n_threads})
            assert_same_bits(part, whole, rows)

"""``RowDivergence`` agrees with its twin, which keeps every value and sums fractions."""

import numpy as np
import pytest

from kullback import reference
from kullback.streaming import RowDivergence

MEASURES = ("kl", "cross_entropy", "entropy_p")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_row_divergence_is_the_reference(dtype):
    """Counts are equal; means and errors agree to the rounding of the rows' own values."""
    rng = np.random.default_rng(0)
    p, q = (rng.dirichlet(np.ones(50), size=40).astype(dtype) for _ in "pq")
    ours, twin, rest = RowDivergence(MEASURES), reference.RowDivergence(MEASURES), reference.RowDivergence(MEASURES)
    ours.update(p[:7], q[:7])
    ours.update(p[7:], q[7:])
    twin.update(p[:20], q[:20])
    rest.update(p[20:], q[20:])
    twin.merge(rest)
    # the kernels' float32 terms are right to 1e-7 each and their sums to 1e-8; float64 is right to a few eps
    rtol = 1e-7 if dtype == np.float32 else 1e-13
    for measure, expected in twin.result().items():
        actual = ours.result()[measure]
        assert actual.n_rows == expected.n_rows == 40
        assert actual.mean == pytest.approx(expected.mean, rel=rtol)
        assert actual.standard_error == pytest.approx(expected.standard_error, rel=10 * rtol)


def test_small_samples_have_no_error():
    """One row has a mean and no standard error, here and in the twin."""
    p, q = np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])
    for accumulator in (RowDivergence(), reference.RowDivergence()):
        accumulator.update(p, q)
        statistics = accumulator.result()["kl"]
        assert statistics.mean == pytest.approx(0.5 * np.log(4 / 3))
        assert np.isnan(statistics.standard_error)

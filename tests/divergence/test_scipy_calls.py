"""The table of docs/compatibility.md: what stands for a call of SciPy gives its value."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import kl_div, rel_entr
from scipy.stats import entropy

import kullback

RNG = np.random.default_rng(0)
P, Q = RNG.gamma(1, size=(5, 40)), RNG.gamma(1, size=(5, 40))
HOLES = np.where(RNG.random(P.shape) < 0.03, np.nan, P)


@pytest.mark.parametrize("axis", [0, 1])
def test_entropy_and_divergence(axis):
    """Rows are divided by their sums, along the axis that is asked for."""
    options = {"axis": axis, "normalize": True}
    np.testing.assert_allclose(kullback.entropy(P, **options, base=2), entropy(P, base=2, axis=axis), rtol=1e-13)
    np.testing.assert_allclose(kullback.kl_divergence(P, Q, **options), entropy(P, Q, axis=axis), rtol=1e-12)
    found = kullback.jensen_shannon_distance(P, Q, **options)
    np.testing.assert_allclose(found, jensenshannon(P, Q, axis=axis), rtol=1e-12)


def test_nan_policy():
    """Each policy of SciPy has its form: NaN for the row, an error, or zeros for what is left out."""
    assert np.isnan(HOLES).any(axis=1).any()
    assert not np.isnan(HOLES).any(axis=1).all()
    np.testing.assert_allclose(kullback.entropy(HOLES, normalize=True), entropy(HOLES, axis=1), rtol=1e-13)
    with pytest.raises(ValueError, match="got a negative or NaN entry"):
        kullback.entropy(HOLES / np.nansum(HOLES, axis=1, keepdims=True))
    filled = np.where(np.isnan(HOLES), 0, HOLES)
    expected = entropy(HOLES, axis=1, nan_policy="omit")
    np.testing.assert_allclose(kullback.entropy(filled, normalize=True), expected, rtol=1e-13)
    other = np.where(np.isnan(HOLES), 0, Q)
    expected = entropy(HOLES, Q, axis=1, nan_policy="omit")
    np.testing.assert_allclose(kullback.kl_divergence(filled, other, normalize=True), expected, rtol=1e-12)


def test_functions_of_elements():
    """Rows of one element give the terms, and rows the sum."""
    found = kullback.kl_divergence(P[..., None], Q[..., None], normalize=False)
    np.testing.assert_allclose(found, kl_div(P, Q), rtol=1e-12, atol=1e-15)
    p, q = (x / x.sum(axis=1, keepdims=True) for x in (P, Q))
    np.testing.assert_allclose(kullback.kl_divergence(p, q), rel_entr(p, q).sum(axis=-1), rtol=1e-12)

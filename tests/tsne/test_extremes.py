"""The gradient and the loss on extreme maps, against sums in extended precision."""

import numpy as np
import pytest

from kullback.tsne import gradient

EXTENDED = np.finfo(np.longdouble)
N = 30

pytestmark = pytest.mark.skipif(EXTENDED.minexp > -16000, reason="there is no wider range than that of float64")


def extreme_maps(n_components):
    """Return maps from the least to the largest scale, and maps of several scales at once."""
    rng = np.random.default_rng(0)
    Y = rng.normal(size=(N, n_components))
    maps = {f"{scale:g} wide": np.clip(Y * scale, -1e37, 1e37) for scale in (5e-324, 1e-310, 1e-160, 1e-44, 1e-38)}
    maps |= {f"{scale:g} wide": np.clip(Y * scale, -1e37, 1e37) for scale in (1e-19, 1e-4, 1, 1e4, 1e8, 1e19, 1e37)}
    maps |= {"equal": np.full_like(Y, 0.1), "equal and far": np.full_like(Y, 9e36), "zero": np.zeros_like(Y)}
    for scale in (1e-30, 1, 1e15):
        maps[f"line {scale:g} long"] = np.outer(np.linspace(0, scale, N), np.arange(1, n_components + 1))
    half = (np.arange(N) < N // 2)[:, None]
    maps |= {f"two clusters {scale:g} wide, 1e15 apart": Y * scale + 1e15 * half for scale in (1e-5, 1, 1e5)}
    for scale in (1e5, 1e15, 1e37):
        for width in (1e-20, 1):
            maps[f"{width:g} wide, and one at {scale:g}"] = np.where(np.arange(N)[:, None] == 3, scale, Y * width)
    maps["of all sizes"] = np.clip(Y * 10.0 ** rng.uniform(-38, 37, size=(N, 1)), -1e37, 1e37)
    maps["far from the origin"] = Y * 1e-3 + 1e6
    return maps


def draw_affinities():
    """Return a sparse joint distribution as a dense array."""
    rng = np.random.default_rng(1)
    P = np.triu(rng.random((N, N)) * (rng.random((N, N)) < 0.3), 1)
    P[0, 1] = 1
    return (P + P.T) / (2 * P.sum())


def sum_pairs(P, Y, dof):
    """Return repulsion and attraction, both with the sums of the magnitudes of their terms, Z and H(P, Q)."""
    Y, P = Y.astype(np.longdouble), P.astype(np.longdouble)
    differences = Y[:, None] - Y
    ratios = np.sum(differences**2, axis=2) / dof
    log_w = -dof * np.log1p(ratios)
    w = np.exp(log_w)
    np.fill_diagonal(w, 0)
    repelled = (w / (1 + ratios))[:, :, None] * differences
    attracted = (P / (1 + ratios))[:, :, None] * differences
    sums = [(terms.sum(axis=1), np.abs(terms).sum(axis=1)) for terms in (repelled, attracted)]
    return *sums, w.sum(), np.log(w.sum()) - np.sum(P * log_w) if w.any() else None


def assert_near(actual, expected, magnitude, relative, least):
    """Check forces beside the magnitude of their terms; below ``least``, numbers of the type have no digits left."""
    assert np.isfinite(actual).all()
    assert (np.abs(actual.astype(np.longdouble) - expected) <= relative * magnitude + least).all()


@pytest.mark.parametrize("dof", [1e-6, 1.0, 30.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_extreme_maps(n_components, dtype, dof):
    """Forces, Z, loss, gradient and the parts of points are right to the rounding of the type, or Z = 0 is refused."""
    P, real = draw_affinities(), np.finfo(dtype)
    # The exponential of a logarithm that is not near 0 has an error in proportion to it.
    relative, least = 64 * float(real.eps) + 1e-12, float(real.tiny)
    for name, positions in extreme_maps(n_components).items():
        Y = positions.astype(dtype)
        (repelled, pushes), (attracted, pulls), sum_q, cross_entropy = sum_pairs(P, Y, dof)
        for method in ("exact", "barnes_hut", "fft"):
            forces, found = gradient.repulsive_forces(Y, method=method, dof=dof, tolerance=0.01)
            assert_near(forces, repelled, pushes, relative, least)
            assert abs(found - sum_q) <= relative * sum_q + 1e-300, name
        assert_near(gradient.attractive_forces(P, Y, dof=dof), attracted, pulls, relative, least)
        if sum_q < 1e-300:
            for function in (gradient.tsne_loss, gradient.tsne_gradient, gradient.point_kl):
                with pytest.raises(ValueError, match="Y must have two points so near each other"):
                    function(P, Y, dof=dof)
            continue
        loss = gradient.tsne_loss(P, Y, dof=dof)
        assert abs(loss.cross_entropy - cross_entropy) <= 1e-6 * (1 + abs(cross_entropy)), name
        parts = gradient.point_kl(P, Y, dof=dof, exact=True)
        assert parts.sum() == pytest.approx(float(cross_entropy) - loss.entropy, rel=1e-6, abs=1e-6)
        slope = gradient.tsne_gradient(P, Y, dof=dof)
        assert slope.dtype == dtype
        assert_near(slope, 4 * (attracted - repelled / sum_q), 4 * (pulls + pushes / sum_q), relative, 8 * least)


@pytest.mark.parametrize("function", [gradient.tsne_loss, gradient.tsne_gradient, gradient.point_kl])
@pytest.mark.parametrize("bad", [np.inf, np.nan, 1.1e37, -1e300])
def test_positions_that_are_out_of_range(function, bad):
    """What is not finite, or so large that sums could overflow in float32, is refused by name."""
    Y = np.zeros((N, 2))
    Y[3, 1] = bad
    with pytest.raises(ValueError, match="Y must be finite and at most 1e37 in magnitude, got"):
        function(draw_affinities(), Y)

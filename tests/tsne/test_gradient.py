"""``kullback.gradient``: the gradient is that of the loss, the reference is right, bad input is named."""

import mpmath
import numpy as np
import pytest
from scipy import sparse

from kullback import reference as ref
from kullback.tsne import gradient


def oracle_loss(P, Y, dof):
    """Return H(P), H(P, Q) and KL in 50 digits, straight from the definitions of p, w, Z and q."""
    with mpmath.workdps(50):
        n = len(Y)
        pairs = [(i, j) for i in range(n) for j in range(n) if i != j]

        def w(i, j):
            squared = sum((mpmath.mpf(a) - mpmath.mpf(b)) ** 2 for a, b in zip(Y[i], Y[j], strict=True))
            return (1 + squared / mpmath.mpf(dof)) ** -mpmath.mpf(dof)

        Z = mpmath.fsum(w(i, j) for i, j in pairs)
        p = {(i, j): mpmath.mpf(P[i, j]) for i, j in pairs if P[i, j] > 0}
        entropy = -mpmath.fsum(v * mpmath.log(v) for v in p.values())
        kl = mpmath.fsum(v * mpmath.log(v / (w(*pair) / Z)) for pair, v in p.items())
        return float(entropy), float(kl + entropy), float(kl)


@pytest.mark.parametrize("dof", [1.0, 0.5, 3.0])
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_reference_loss_is_the_definition(n_components, dof, make_affinities):
    """The NumPy loss agrees with 50-digit arithmetic on the definition."""
    P = make_affinities(7).todense()
    Y = np.random.default_rng(0).normal(size=(7, n_components))
    np.testing.assert_allclose(ref.tsne_loss(P, Y, dof=dof), oracle_loss(P, Y, dof), rtol=1e-14)


@pytest.mark.parametrize("dof", [1.0, 0.5, 3.0])
@pytest.mark.parametrize("n_components", [1, 2, 3])
@pytest.mark.parametrize("module", [ref, gradient], ids=["reference", "kernels"])
def test_gradient_is_the_derivative_of_the_loss(module, n_components, dof, make_affinities):
    """Central differences of the exact loss give the gradient, in every dimension and for every dof.

    With step h the truncation error is O(h^2) ~ 1e-8 and the rounding error eps / h ~ 1e-12.
    """
    P = make_affinities(12)
    Y = np.random.default_rng(1).normal(size=(12, n_components))
    analytic = module.tsne_gradient(P, Y, method="exact", dof=dof)
    h = 1e-4
    for i, k in [(0, 0), (5, n_components - 1), (11, 0)]:
        up, down = Y.copy(), Y.copy()
        up[i, k] += h
        down[i, k] -= h
        numeric = (
            gradient.tsne_loss(P, up, exact=True, dof=dof).kl_divergence
            - gradient.tsne_loss(P, down, exact=True, dof=dof).kl_divergence
        ) / (2 * h)
        assert analytic[i, k] == pytest.approx(numeric, abs=1e-7)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_loss_is_the_reference(at_level, n_threads, dtype, exact, make_affinities):
    """The losses of kernels and NumPy agree, in float32 to the rounding of P and of Z."""
    P = make_affinities(257)
    Y = np.random.default_rng(0).normal(size=(257, 2)).astype(dtype)
    loss = gradient.tsne_loss(P, Y, exact=exact, n_threads=n_threads)
    rtol = 1e-13 if dtype == np.float64 or exact else 8 * np.finfo(np.float32).eps
    np.testing.assert_allclose(loss, ref.tsne_loss(P, Y), rtol=rtol)
    assert loss.kl_divergence == loss.cross_entropy - loss.entropy


def test_exaggeration_scales_attraction_only(make_affinities):
    """The gradient is an affine function of the exaggeration."""
    P, Y = make_affinities(30), np.random.default_rng(0).normal(size=(30, 2))
    one, three = (gradient.tsne_gradient(P, Y, exaggeration=x) for x in (1.0, 3.0))
    np.testing.assert_allclose(three - one, 8 * gradient.attractive_forces(P, Y), atol=1e-15)


def test_two_points_have_a_gradient_of_zero():
    """With two points, P and Q are equal wherever the points are, so KL and its gradient are 0."""
    P, Y = np.array([[0, 0.5], [0.5, 0]]), np.array([[0.0, 0.0], [3.0, 4.0]])
    assert np.abs(gradient.tsne_gradient(P, Y)).max() < 4 * np.finfo(float).eps
    assert gradient.tsne_loss(P, Y).kl_divergence == pytest.approx(0, abs=4 * np.finfo(float).eps)


BAD_POSITIONS = [
    (np.zeros(3), ValueError, r"Y must have shape \(n_points, n_components\), neither 0, got shape \(3,\)"),
    (np.zeros((0, 2)), ValueError, r"got shape \(0, 2\)"),
    (np.array([["a", "b"]]), TypeError, "Y must hold real numbers, got dtype <U1"),
    (np.array([[0.0, np.nan]]), ValueError, "Y must be finite and at most 1e37 in magnitude, got nan"),
    (np.array([[0.0, np.inf]]), ValueError, "Y must be finite and at most 1e37 in magnitude, got inf"),
]


@pytest.mark.parametrize(("Y", "error", "message"), BAD_POSITIONS)
def test_bad_positions_are_named(Y, error, message):
    """The error of each function that takes Y says what came and what is accepted."""
    with pytest.raises(error, match=message):
        gradient.repulsive_forces(Y)


BAD_AFFINITIES = [
    (np.full((2, 2), 0.25), "P must be 0 on its diagonal, got 0.25"),
    (np.array([[0, 1.5], [-0.5, 0]]), "P must hold finite, non-negative probabilities, got -0.5"),
    (np.array([[0, np.nan], [0.5, 0]]), "P must hold finite"),
    (np.array([[0, 1.0], [1.0, 0]]), "P must sum to 1, got 2.0"),
    (np.zeros((3, 3)), r"P must have shape \(2, 2\), got \(3, 3\)"),
]


@pytest.mark.parametrize(("P", "message"), BAD_AFFINITIES)
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.coo_array])
def test_bad_affinities_are_named(form, P, message):
    """A P that is not a joint distribution is refused in every form."""
    with pytest.raises(ValueError, match=message):
        gradient.attractive_forces(form(P), np.zeros((2, 2)))


BAD_OPTIONS = [
    ({"theta": 1.5}, ValueError, r"theta must be in \[0, 1\], got 1.5"),
    ({"theta": "x"}, TypeError, "theta must be a real number, got 'x'"),
    ({"dof": 0}, ValueError, r"dof must be in \[1e-06, 1e\+09\], got 0"),
    ({"method": "fast"}, ValueError, "method must be one of 'auto', 'exact', 'barnes_hut', 'fft', got 'fast'"),
    ({"method": "fft", "theta": 0}, ValueError, 'method="fft" is never exact: theta must be above 0, got 0'),
    ({"tolerance": 0}, ValueError, r"tolerance must be in \(0, 1\], got 0"),
    ({"n_threads": 0}, ValueError, "n_threads must be None, positive, or negative"),
    ({"n_threads": 1.5}, TypeError, "n_threads must be an int or None, got 1.5"),
    ({"angle": 0.5}, TypeError, "angle"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_OPTIONS)
def test_bad_options_are_named(options, error, message):
    """Options out of their range are refused, and so are unknown ones."""
    with pytest.raises(error, match=message):
        gradient.repulsive_forces(np.zeros((5, 2)), **options)


@pytest.mark.parametrize("method", ["barnes_hut", "fft"])
def test_too_many_components_for_a_method(method):
    """Trees and grids are refused above three dimensions."""
    with pytest.raises(ValueError, match=f'method="{method}" needs at most 3 components, got 4'):
        gradient.repulsive_forces(np.zeros((5, 4)), method=method)


@pytest.mark.parametrize("method", ["exact", "barnes_hut", "fft"])
def test_gradient_error_is_the_error(method, make_affinities):
    """The audit on all points equals the error against the reference."""
    P, Y = make_affinities(300), np.random.default_rng(0).normal(size=(300, 2)) * 5
    expected = ref.tsne_gradient(P, Y)
    actual = gradient.tsne_gradient(P, Y, method=method)
    error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
    assert gradient.gradient_error(P, Y, method=method) == pytest.approx(error, rel=1e-6, abs=1e-13)
    assert 0 <= gradient.gradient_error(P, Y, method=method, sample=50) < 0.05


@pytest.mark.parametrize("tolerance", [0.03, 0.01, 0.001])
@pytest.mark.parametrize("n_components", [1, 2, 3])
@pytest.mark.parametrize("method", ["auto", "barnes_hut", "fft"])
def test_tolerance_is_held(method, n_components, tolerance):
    """The error of the repulsion is within the tolerance, for every method."""
    Y = np.random.default_rng(0).normal(size=(4000, n_components)) * {1: 30, 2: 8, 3: 3}[n_components]
    exact, _ = gradient.repulsive_forces(Y, method="exact")
    forces, _ = gradient.repulsive_forces(Y, method=method, tolerance=tolerance)
    assert np.linalg.norm(forces - exact) <= tolerance * np.linalg.norm(exact)


@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_tolerance_is_held_in_a_map_smaller_than_the_kernel(n_components):
    """Barnes-Hut does not open cells that are smaller than the kernel, and its error falls with theta squared."""
    Y = np.random.default_rng(0).normal(size=(4000, n_components)) * 0.1
    exact, _ = gradient.repulsive_forces(Y, method="exact")
    forces, _ = gradient.repulsive_forces(Y, method="barnes_hut", tolerance=0.001)
    assert np.linalg.norm(forces - exact) <= 0.001 * np.linalg.norm(exact)


def test_input_is_not_written_to(make_affinities):
    """P and Y are not changed, whatever their layout."""
    P, Y = make_affinities(50), np.asfortranarray(np.random.default_rng(0).normal(size=(50, 2)))
    before = P.copy(), Y.copy()
    P.data.flags.writeable = Y.flags.writeable = False
    gradient.tsne_gradient(P, Y)
    gradient.tsne_loss(P, Y)
    assert (before[0] != P).nnz == 0
    assert (before[1] == Y).all()


@pytest.mark.parametrize("dof", [1.0, 0.5])
@pytest.mark.parametrize("exact", [True, False])
def test_point_kl_adds_up(exact, dof, make_affinities):
    """Contributions are as defined, and their sum is the loss for the same arguments."""
    P, Y = make_affinities(400), np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32) * 3
    points = gradient.point_kl(P, Y, exact=exact, dof=dof, method="barnes_hut")
    loss = gradient.tsne_loss(P, Y, exact=exact, dof=dof, method="barnes_hut").kl_divergence
    assert points.sum() == pytest.approx(loss, rel=1e-12 if exact else 1e-6)  # P is float32 in the latter
    dense, y = P.toarray(), Y.astype(float)
    w = (1 + ((y[:, None] - y) ** 2).sum(axis=2) / dof) ** -dof
    np.fill_diagonal(w, 0)
    q = w / w.sum()
    terms = np.zeros_like(dense)
    terms[dense > 0] = dense[dense > 0] * np.log(dense[dense > 0] / q[dense > 0])
    # Z of Barnes-Hut has an error below 1 %, of which each point gets a part in proportion to its share of P.
    np.testing.assert_allclose(points, terms.sum(axis=1), atol=1e-14 if exact else 1e-2 * dense.sum(axis=1).max())


def test_point_kl_in_blocks(make_affinities, monkeypatch):
    """Pairs are handled in blocks, and no pair is lost between them."""
    P, Y = make_affinities(100), np.random.default_rng(0).normal(size=(100, 2))
    whole = gradient.point_kl(P, Y)
    monkeypatch.setattr(gradient, "BLOCK_PAIRS", 7)
    assert np.array_equal(gradient.point_kl(P, Y), whole)


@pytest.mark.parametrize("method", ["newton", None, ["fft"], 3])
def test_methods_that_there_are_not(method):
    """Methods that do not exist are named in the error, whatever their type."""
    with pytest.raises(ValueError, match="method must be one of 'auto', 'exact', 'barnes_hut', 'fft', got"):
        gradient.repulsive_forces(np.zeros((5, 2)), method=method)

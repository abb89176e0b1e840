"""``kullback.TSNE``: its contract, the loss that it reports, determinism, and inputs that break others."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.manifold import TSNE as SklearnTSNE
from sklearn.neighbors import KNeighborsClassifier

import kullback
from kullback import gradient
from kullback import reference as ref
from kullback.tsne import Embedding


@pytest.fixture(scope="module")
def digits():
    """Return 500 of scikit-learn's digits."""
    X, y = load_digits(return_X_y=True)
    return X[:500], y[:500]


@pytest.fixture(scope="module")
def fitted(digits):
    """Return an estimator fitted on them."""
    return kullback.TSNE(random_state=0, max_iter=500).fit(digits[0])


def test_digits_keep_their_neighbours(digits, fitted):
    """A map of digits separates them: the accuracy of 1 nearest neighbour in two dimensions is above 90 %."""
    _, y = digits
    assert fitted.embedding_.shape == (500, 2)
    assert fitted.embedding_.dtype == np.float32
    half = KNeighborsClassifier(1).fit(fitted.embedding_[::2], y[::2]).score(fitted.embedding_[1::2], y[1::2])
    assert half > 0.9


def test_kl_is_no_worse_than_scikit_learn(digits, fitted):
    """By the same exact measure on the same P, our map is as good as scikit-learn's, within 3 %."""
    theirs = SklearnTSNE(random_state=0, max_iter=500).fit_transform(digits[0])
    P = fitted.affinities_.P
    ours = gradient.tsne_loss(P, fitted.embedding_, exact=True).kl_divergence
    assert ours <= 1.03 * gradient.tsne_loss(P, theirs, exact=True).kl_divergence


def test_loss_is_the_true_loss_at_the_positions_returned(fitted):
    """The last record is the reference's loss of ``embedding_``, without exaggeration."""
    expected = ref.tsne_loss(fitted.affinities_.P, fitted.embedding_)
    last = fitted.loss_[-1]
    # Z of 500 points is summed exactly, in float32 within tiles.
    assert last.kl_divergence == fitted.kl_divergence_ == pytest.approx(expected.kl_divergence, rel=1e-5)
    assert last.entropy == pytest.approx(expected.entropy, rel=1e-6)
    assert last.cross_entropy == pytest.approx(expected.cross_entropy, rel=1e-6)
    assert last.iteration == fitted.n_iter_


def test_loss_trace(fitted):
    """H(P) is constant, KL = H(P, Q) - H(P), and the loss falls after exaggeration ends."""
    loss = fitted.loss_
    assert list(loss.iteration) == [0, 50, 100, *range(120, fitted.n_iter_, 10), fitted.n_iter_]
    assert len(set(loss.entropy)) == 1
    np.testing.assert_array_equal(loss.kl_divergence, loss.cross_entropy - loss.entropy)
    after = loss.kl_divergence[loss.iteration >= 150]
    assert (np.diff(after) < 1e-3 * after[1:]).all()
    assert (loss.kl_divergence >= 0).all()


@pytest.mark.parametrize("method", ["auto", "exact", "barnes_hut", "fft"])
def test_the_thread_count_changes_no_bit(digits, method):
    """A run gives the same bytes on 1, 2, 3 and 5 threads."""
    options = {"max_iter": 100, "random_state": 0, "method": method}
    runs = [kullback.TSNE(n_jobs=n, **options).fit(digits[0]) for n in (1, 2, 3, 5)]
    assert len({run.embedding_.tobytes() for run in runs}) == 1
    assert len({run.loss_.tobytes() for run in runs}) == 1


def test_a_run_repeats(digits):
    """Equal seeds give equal maps, other seeds other maps."""
    options = {"max_iter": 60, "init": "random"}
    maps = [kullback.TSNE(random_state=seed, **options).fit_transform(digits[0]) for seed in (1, 1, 2)]
    assert (maps[0] == maps[1]).all()
    assert not np.allclose(maps[0], maps[2])


@pytest.mark.parametrize("n_components", [1, 3, 4])
def test_other_dimensions(digits, n_components):
    """Any method gives maps of one and three dimensions, and the exact one gives maps of four."""
    embedding = kullback.TSNE(n_components, max_iter=300, random_state=0).fit_transform(digits[0])
    assert embedding.shape == (500, n_components)
    assert np.isfinite(embedding).all()


def test_precomputed_distances_are_the_same_as_data(digits):
    """A matrix of distances gives the affinities that the rows themselves give."""
    X, _ = digits
    distances = np.sqrt(np.maximum(((X[:, None] - X[None]) ** 2).sum(axis=2), 0))
    by_rows = kullback.TSNE(init="random", random_state=0, max_iter=10).fit(X)
    by_distances = kullback.TSNE(metric="precomputed", init="random", random_state=0, max_iter=10).fit(distances)
    np.testing.assert_allclose(by_distances.embedding_, by_rows.embedding_, atol=1e-6)


def test_early_stops(digits):
    """``min_grad_norm`` and ``n_iter_without_progress`` end the run at a check of the loss."""
    X, _ = digits
    assert kullback.TSNE(min_grad_norm=1e9, max_iter=400).fit(X).n_iter_ < 400
    stalled = kullback.TSNE(n_iter_without_progress=-1, learning_rate=1e-9, max_iter=600).fit(X)
    assert 120 < stalled.n_iter_ < 600
    assert stalled.n_iter_ == stalled.loss_.iteration[-1]


AWKWARD = {
    "duplicated rows": lambda rng: np.repeat(rng.normal(size=(10, 4)), 6, axis=0),
    "constant data": lambda rng: np.ones((40, 3)),
    "one feature": lambda rng: rng.normal(size=(50, 1)),
    "fewer points than 3 x perplexity": lambda rng: rng.normal(size=(40, 4)),
    "huge scale": lambda rng: rng.normal(size=(50, 4)) * 1e30,
    "tiny scale": lambda rng: rng.normal(size=(50, 4)) * 1e-30,
    "offset": lambda rng: rng.normal(size=(50, 4)) + 1e6,
    "outlier": lambda rng: np.vstack([rng.normal(size=(49, 4)), np.full((1, 4), 1e10)]),
    "integers": lambda rng: rng.integers(0, 9, size=(50, 4)),
}


@pytest.mark.parametrize("case", AWKWARD)
@pytest.mark.parametrize("method", ["exact", "barnes_hut", "fft"])
def test_awkward_data_gives_a_finite_map(case, method):
    """Hard inputs give a finite map, and a loss that is finite and not negative."""
    X = AWKWARD[case](np.random.default_rng(0))
    model = kullback.TSNE(perplexity=15, max_iter=300, random_state=0, method=method).fit(X)
    assert np.isfinite(model.embedding_).all()
    assert np.isfinite(model.kl_divergence_)
    assert model.kl_divergence_ >= -1e-6


@pytest.mark.parametrize("n_samples", [2, 3, 4, 5])
def test_few_points(n_samples):
    """The smallest data sets give a map."""
    X = np.random.default_rng(0).normal(size=(n_samples, 3))
    embedding = kullback.TSNE(perplexity=1, max_iter=300).fit_transform(X)
    assert np.isfinite(embedding).all()


def test_sparse_input(digits):
    """Sparse rows give neighbours, P and a map."""
    X, _ = digits
    embedding = kullback.TSNE(init="random", random_state=0, max_iter=60).fit_transform(sparse.csr_matrix(X))
    assert np.isfinite(embedding).all()


@pytest.mark.parametrize("dtype", ["float16", "uint8", "int16", "bool", "float32", "int64", "float64"])
@pytest.mark.parametrize("form", ["array", "sparse", "frame"])
def test_small_types_become_float32(digits, dtype, form):
    """Data whose values float32 holds exactly take no more memory than that, and give the map of float32."""
    X = digits[0][:60].astype(dtype)
    small = dtype not in ("int64", "float64")
    options = {"perplexity": 5, "init": "random", "max_iter": 5, "random_state": 0}
    plain = kullback.TSNE(**options).fit(X.astype(np.float32 if small else np.float64))
    if form == "sparse":
        X = sparse.csr_matrix(X.astype(np.float32) if dtype == "float16" else X)
    elif form == "frame":
        X = pytest.importorskip("pandas").DataFrame(X)
    found = kullback.TSNE(**options).fit(X)
    assert found.affinities_.P.dtype == plain.affinities_.P.dtype == (np.float32 if small else np.float64)
    np.testing.assert_array_equal(found.embedding_, plain.embedding_)


BAD = [
    ({"perplexity": 500}, ValueError, "perplexity must be less than n_samples = 500, got 500"),
    ({"perplexity": -1}, ValueError, r"perplexity must be in \(0, inf\], got -1"),
    ({"max_iter": 0}, ValueError, "max_iter must be at least 1, got 0"),
    ({"n_components": 1.5}, TypeError, "n_components must be an integer, got 1.5"),
    ({"learning_rate": -1}, ValueError, r'learning_rate \(a number or "auto"\) must be in \(0, inf\], got -1'),
    ({"init": "spiral"}, ValueError, "init must be one of 'pca', 'spectral', 'random', got 'spiral'"),
    ({"init": np.zeros((3, 2))}, ValueError, r"init must have shape \(500, 2\), got \(3, 2\)"),
    ({"method": "fast"}, ValueError, "method must be one of"),
    ({"n_components": 4, "method": "barnes_hut"}, ValueError, "needs at most 3 components"),
    ({"angle": 2}, ValueError, r"angle must be in \[0, 1\], got 2"),
    ({"early_exaggeration": 0.5}, ValueError, r"early_exaggeration must be in \[1, inf\], got 0.5"),
    ({"n_jobs": 0}, ValueError, "n_jobs must be None, positive, or negative"),
    ({"dof": 0}, ValueError, r"dof must be in \[1e-06, 1e\+09\], got 0"),
    ({"exaggeration": -1}, ValueError, r"exaggeration must be in \(0, inf\], got -1"),
    ({"momentum": 2}, ValueError, r"momentum must be in \[0, 1\], got 2"),
    (
        {"early_exaggeration_iter": "soon"},
        ValueError,
        "early_exaggeration_iter must be one of 'anneal', 'auto', got 'soon'",
    ),
    (
        {"early_exaggeration_iter": -1},
        ValueError,
        'early_exaggeration_iter .a number, "anneal" or "auto". must be at least 0',
    ),
    ({"tol": 0}, ValueError, r"tol must be in \(0, inf\], got 0"),
    ({"callback_every": 0}, ValueError, "callback_every must be at least 1, got 0"),
    ({"metric": "precomputed", "init": "random"}, ValueError, "square"),
    ({"metric": "sideways"}, ValueError, "sideways"),
]


BEFORE_ANY_WORK = [
    ({"exaggeration": "x", "max_iter": 100}, TypeError, "exaggeration must be a real number, got 'x'"),
    ({"exaggeration": 0, "max_iter": 100}, ValueError, r"exaggeration must be in \(0, inf\], got 0"),
    ({"tol": -1, "max_iter": 100}, ValueError, r"tol must be in \(0, inf\], got -1"),
    ({"learning_rate": "fast"}, TypeError, 'learning_rate .a number or "auto". must be a real number'),
    ({"momentum": -0.1}, ValueError, r"momentum must be in \[0, 1\], got -0.1"),
    ({"max_step": 0}, ValueError, r"max_step must be in \(0, inf\], got 0"),
    ({"min_grad_norm": -1}, ValueError, "min_grad_norm"),
    ({"callback": 5}, TypeError, "callback must be a function or None, got 5"),
    ({"callback_every": 1.5}, TypeError, "callback_every must be an integer, got 1.5"),
    ({"verbose": "yes"}, TypeError, "verbose must be an integer, got 'yes'"),
    ({"random_state": "seed"}, ValueError, "seed"),
    ({"metric": 5}, TypeError, "metric must be a name or a function of two rows, got 5"),
    ({"metric_params": 5}, TypeError, "metric_params must be a dict or None, got 5"),
    ({"init": np.zeros((3, 2))}, ValueError, r"init must have shape \(500, 2\), got \(3, 2\)"),
    ({"init": np.full((500, 2), np.nan)}, ValueError, "init contains NaN"),
    ({"init": "pca", "metric": "precomputed"}, ValueError, 'got "pca"'),
]


@pytest.mark.parametrize(("options", "error", "message"), BEFORE_ANY_WORK)
def test_parameters_are_checked_before_any_work(digits, options, error, message, monkeypatch):
    """No neighbour is searched for, be the parameter used late or not at all in so few iterations."""

    def search(*_, **__):
        raise AssertionError("the search has begun")

    monkeypatch.setattr("kullback.tsne.neighbors.NeighborIndex.graph", search)
    with pytest.raises(error, match=message):
        kullback.TSNE(**options).fit(digits[0])


@pytest.mark.parametrize(("options", "error", "message"), BAD)
def test_bad_parameters_are_named(digits, options, error, message):
    """The error of each parameter says what came and what is accepted."""
    with pytest.raises(error, match=message):
        kullback.TSNE(**options).fit(digits[0])


def test_unknown_parameters_raise():
    """Unknown keywords are refused."""
    with pytest.raises(TypeError, match="n_itr"):
        kullback.TSNE(n_itr=5)


def test_nan_is_refused(digits):
    """NaN in the data is reported by scikit-learn's check."""
    X = digits[0].copy()
    X[3, 5] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        kullback.TSNE().fit(X)


def test_scikit_learn_conventions(digits, fitted):
    """Clones, parameters, feature names and pandas output follow scikit-learn."""
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "embedding_")
    assert list(fitted.get_feature_names_out()) == ["tsne0", "tsne1"]
    assert fitted.n_features_in_ == 64


def test_verbose_shows_progress(digits, capsys):
    """``verbose=1`` draws a bar on standard error and leaves standard output alone."""
    kullback.TSNE(verbose=1, max_iter=60).fit(digits[0])
    captured = capsys.readouterr()
    assert "24/24" in captured.err
    assert "36/36" in captured.err
    assert captured.out == ""


def test_embedding_continues_where_it_stopped(fitted):
    """100 iterations in one call and in two calls of 50 give the same bits."""
    P = fitted.affinities_.P
    init = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32) * 1e-4
    whole = Embedding(P, init, method="barnes_hut").optimize(100).positions
    halves = Embedding(P, init, method="barnes_hut").optimize(50).optimize(50).positions
    assert (whole == halves).all()


def test_embedding_returns_the_order_of_the_user(fitted):
    """The sort along the Z-order curve is undone: permuted input gives a permuted map, to rounding."""
    P = fitted.affinities_.P
    init = np.random.default_rng(0).normal(size=(500, 2)) * 1e-4
    order = np.random.default_rng(1).permutation(500)
    plain = Embedding(P, init, method="barnes_hut").optimize(20).positions
    permuted = Embedding(P[order][:, order], init[order], method="barnes_hut").optimize(20).positions
    # After twenty iterations in float64 from the same start, only the order of sums differs.
    np.testing.assert_allclose(permuted, plain[order], atol=1e-9 * np.abs(plain).max())


def test_masked_rows_are_refused(digits, fitted):
    """A mask would be dropped, and the values under it read, when a map is fitted and when rows are placed in it."""
    X = np.ma.masked_array(digits[0][:60], np.zeros((60, 64), bool))
    X[3, 5] = np.ma.masked
    for method in (kullback.TSNE(perplexity=5, max_iter=50).fit, fitted.transform):
        with pytest.raises(
            ValueError, match=r"X must have no masked elements, got 1; pass X.filled\(...\) with values"
        ):
            method(X)


def test_audits_are_computed_when_asked_for(digits, fitted):
    """The exact KL, the points' shares and the gradient's error are computed once for each fit."""
    P, Y = fitted.affinities_.P, fitted.embedding_
    assert fitted.exact_kl_ == pytest.approx(ref.tsne_loss(P, Y).kl_divergence, rel=1e-12)
    assert fitted.point_kl_.shape == (500,)
    assert fitted.point_kl_.sum() == pytest.approx(fitted.kl_divergence_, rel=1e-6)
    first = fitted.point_kl_
    first /= 100  # what is returned is the caller's own
    assert fitted.point_kl_.sum() == pytest.approx(fitted.kl_divergence_, rel=1e-6)
    kept = fitted._audits["point_kl"]
    np.testing.assert_array_equal(fitted.point_kl_, kept)
    assert fitted._audits["point_kl"] is kept  # it was not computed again
    assert 0 <= fitted.gradient_error_ < 1e-3  # 500 points are summed exactly, but in float32
    rough = kullback.TSNE(method="barnes_hut", angle=0.8, max_iter=300, random_state=0).fit(digits[0])
    expected = gradient.gradient_error(rough.affinities_.P, rough.embedding_, method="barnes_hut", theta=0.8)
    assert rough.gradient_error_ == expected > 1e-3
    first = rough.exact_kl_
    assert rough.set_params(max_iter=100).fit(digits[0]).exact_kl_ != first
    assert not hasattr(kullback.TSNE(), "exact_kl_")


def test_timings(fitted):
    """Each stage has a time above 0."""
    assert list(fitted.timings_) == ["neighbours", "affinities", "initialisation", "optimisation"]
    assert all(seconds > 0 for seconds in fitted.timings_.values())


def test_the_estimator_is_its_parts(digits):
    """All options reach the descent: the map has the bits of an embedding with the same options."""
    X = digits[0][:200]

    def anneal(iteration):
        return 1 + 4 * np.exp(-iteration / 50)

    options = {"momentum": 0.7, "max_step": 2.0, "learning_rate": lambda i: 100 + i}
    estimator = kullback.TSNE(
        perplexity=10, early_exaggeration=6, early_exaggeration_iter=40, exaggeration=anneal, max_iter=100, dof=0.8,
        init="spectral", random_state=0, **options,
    ).fit(X)  # fmt: skip
    P = kullback.affinities.perplexity(X, 10)
    embedding = Embedding(P, kullback.tsne.initialization.spectral(P, random_state=0), dof=0.8)
    embedding.optimize(40, exaggeration=6, **options).optimize(60, exaggeration=anneal, **options)
    assert embedding.positions.tobytes() == estimator.embedding_.tobytes()
    assert estimator.learning_rate_ == 199
    assert estimator.stop_reason_ == "iterations"


def test_a_run_that_is_at_rest_ends(digits):
    """``tol`` ends the run when the map is at rest."""
    estimator = kullback.TSNE(max_iter=5000, tol=0.005, random_state=0).fit(digits[0][:200])
    assert estimator.stop_reason_ == "tol"
    assert estimator.n_iter_ < 3000


def test_spectral_start_of_precomputed_distances(digits):
    """A graph of neighbours can start from its eigenvectors, while principal components need the data."""
    distances = np.sqrt(((digits[0][:, None] - digits[0]) ** 2).sum(axis=2))
    estimator = kullback.TSNE(metric="precomputed", init="spectral", max_iter=100).fit(distances)
    assert np.isfinite(estimator.embedding_).all()
    with pytest.raises(ValueError, match='init must be "spectral", "random" or an array'):
        kullback.TSNE(metric="precomputed").fit(distances)


def test_an_array_starts_at_its_own_scale(digits):
    """An array is taken as it is, but points that coincide are parted. It is not written to."""
    init = np.random.default_rng(0).normal(size=(500, 2)) * 10
    init[3] = init[4]
    before = init.copy()
    estimator = kullback.TSNE(init=init, max_iter=1, early_exaggeration_iter=0, learning_rate=1e-6).fit(digits[0])
    np.testing.assert_allclose(estimator.embedding_, init - init.mean(axis=0), atol=1e-4)
    assert not np.array_equal(estimator.embedding_[3], estimator.embedding_[4])
    assert np.array_equal(init, before)

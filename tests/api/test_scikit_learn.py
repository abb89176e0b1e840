"""``TSNE`` under scikit-learn's own checks, and the ways in which its users call an estimator."""

import inspect
import pickle
import warnings

import numpy as np
import pytest
import sklearn
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.manifold import TSNE as SklearnTSNE
from sklearn.neighbors import KNeighborsTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import kullback

SMALL = {"max_iter": 30, "perplexity": 5, "random_state": 0, "n_jobs": 1}  # threads are tested elsewhere


@pytest.fixture(scope="module")
def iris():
    """Return 150 flowers."""
    return load_iris().data


WEIGHTS = {
    f"check_sample_weight_equivalence_on_{kind}_data": "a weight of zero is refused, and a start parts repeated rows"
    for kind in ("dense", "sparse")
}
"""The checks that cannot pass: tests/tsne/test_masses.py has the law that weights do keep."""


@parametrize_with_checks(
    [
        kullback.TSNE(max_iter=20, perplexity=3, n_jobs=1),
        kullback.TSNE(1, max_iter=20, perplexity=3, init="random", method="exact", n_jobs=1),
        kullback.TSNE(
            max_iter=20,
            perplexity=3,
            init="spectral",
            early_exaggeration_iter="auto",
            tol=0.1,
            dof=0.5,
            exaggeration=2,
            n_jobs=1,
        ),
        kullback.TSNE(max_iter=20, perplexity=3, init="random", metric="precomputed", n_jobs=1),
    ],
    expected_failed_checks=lambda estimator: WEIGHTS,
)
def test_scikit_learns_checks(estimator, check):
    """Every check of scikit-learn passes, but for two of weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some checks warn on purpose, some skip themselves with a warning
        check(estimator)


def test_every_keyword_of_scikit_learn_is_ours():
    """Same names and the same defaults but for the method; an unknown one raises."""
    theirs = inspect.signature(SklearnTSNE).parameters
    ours = inspect.signature(kullback.TSNE).parameters
    theirs = {name: parameter for name, parameter in theirs.items() if name != "n_iter"}  # deprecated until 1.7
    assert set(theirs) <= set(ours)
    different = {name for name in theirs if theirs[name].default != ours[name].default}
    assert different <= {"method", "max_iter"}
    with pytest.raises(TypeError, match="unexpected keyword"):
        kullback.TSNE(perplexty=3)


@pytest.mark.parametrize(
    "form",
    [
        np.asfortranarray,
        lambda X: X.tolist(),
        lambda X: np.repeat(X, 2, axis=1)[:, ::2],
        sparse.csr_matrix,
        sparse.csr_array,
        sparse.csc_matrix,
        sparse.coo_array,
    ],
    ids=["F-order", "list", "strided", "csr_matrix", "csr_array", "csc_matrix", "coo_array"],
)
def test_every_form_of_the_data_gives_the_same_map(iris, form):
    """Layout and container are no part of the data."""
    expected = kullback.TSNE(**SMALL, init="random").fit_transform(iris)
    found = kullback.TSNE(**SMALL, init="random").fit_transform(form(iris))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.uint8, np.int64, bool])
def test_dtypes(iris, dtype):
    """Any real dtype is taken; whole numbers of up to 16 bits as float32, others as float64."""
    X = (iris * 10).astype(dtype)
    found = kullback.TSNE(**SMALL).fit_transform(X)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    if dtype in (np.int8, np.uint8, np.int64):
        same = X.astype(np.float64 if dtype == np.int64 else np.float32)
        np.testing.assert_array_equal(found, kullback.TSNE(**SMALL).fit_transform(same))


def test_read_only_memory_map(iris, tmp_path):
    """A map of a file that may not be written is read, and left as it is."""
    np.save(tmp_path / "x.npy", iris)
    X = np.load(tmp_path / "x.npy", mmap_mode="r")
    found = kullback.TSNE(**SMALL).fit_transform(X)
    np.testing.assert_array_equal(found, kullback.TSNE(**SMALL).fit_transform(iris))
    np.testing.assert_array_equal(X, iris)


def test_data_frames(iris):
    """Names of features are kept, and the output can be a data frame."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(iris, columns=list("abcd"), index=np.arange(150) + 1000)
    estimator = kullback.TSNE(**SMALL).set_output(transform="pandas")
    found = estimator.fit_transform(frame)
    assert list(found.columns) == ["tsne0", "tsne1"]
    assert list(found.index) == list(frame.index)
    assert list(estimator.feature_names_in_) == list("abcd")
    np.testing.assert_array_equal(found.to_numpy(), kullback.TSNE(**SMALL).fit_transform(iris))


@pytest.mark.parametrize(
    ("module", "form"),
    [
        ("polars", lambda polars, X: polars.DataFrame(X, schema=list("abcd"))),
        ("pandas", lambda pandas, X: pandas.DataFrame(X, columns=list("abcd"))),
        ("torch", lambda torch, X: torch.from_numpy(X)),
        ("array_api_strict", lambda xp, X: xp.asarray(X)),
    ],
)
def test_arrays_and_frames_of_other_libraries(iris, module, form):
    """They are read by fit, transform and partial_fit, with the results of NumPy's arrays."""
    library = pytest.importorskip(module)
    new = iris[:9] + 0.25
    expected = kullback.TSNE(**SMALL).fit(iris)
    found = kullback.TSNE(**SMALL).fit(form(library, iris))
    np.testing.assert_array_equal(found.embedding_, expected.embedding_)
    np.testing.assert_array_equal(found.transform(form(library, new)), expected.transform(new))
    found.partial_fit(form(library, new))
    np.testing.assert_array_equal(found.embedding_, expected.partial_fit(new).embedding_)


def test_polars_output(iris):
    """``set_output`` gives polars frames of both methods."""
    polars = pytest.importorskip("polars")
    estimator = kullback.TSNE(**SMALL).set_output(transform="polars")
    for frame in (estimator.fit_transform(iris), estimator.transform(iris + 0.25)):
        assert isinstance(frame, polars.DataFrame)
        assert frame.columns == ["tsne0", "tsne1"]


def test_array_api_dispatch(iris, monkeypatch):
    """With scikit-learn's dispatch on, arrays of other libraries still become NumPy's."""
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # what scikit-learn asks for
    expected = kullback.TSNE(**SMALL).fit(iris)
    with sklearn.config_context(array_api_dispatch=True):
        found = kullback.TSNE(**SMALL).fit(torch.from_numpy(iris))
        np.testing.assert_array_equal(found.transform(torch.from_numpy(iris + 1)), expected.transform(iris + 1))
    np.testing.assert_array_equal(found.embedding_, expected.embedding_)


def test_scanpy_distances(iris):
    """What scanpy leaves in ``obsp["distances"]``: rows of equally many neighbours without the row itself."""
    graph = KNeighborsTransformer(n_neighbors=14, mode="distance").fit_transform(iris).tolil()
    graph.setdiag(0)
    distances = sparse.csr_matrix(graph)
    distances.eliminate_zeros()
    options = {**SMALL, "metric": "precomputed", "init": "random"}
    estimator = kullback.TSNE(**options).fit(distances)
    assert np.isfinite(estimator.embedding_).all()
    placed = estimator.transform(distances[:5])  # new points with these neighbours
    assert np.isfinite(placed).all()


def test_feature_names_out(iris):
    """The names follow scikit-learn's pattern."""
    estimator = kullback.TSNE(3, **SMALL).fit(iris)
    assert list(estimator.get_feature_names_out()) == ["tsne0", "tsne1", "tsne2"]
    assert estimator.n_features_in_ == 4


def test_pipelines(iris):
    """A graph of neighbours from scikit-learn, and a scaler before us."""
    graph = KNeighborsTransformer(n_neighbors=15, mode="distance")
    piped = make_pipeline(graph, kullback.TSNE(**SMALL, metric="precomputed", init="random")).fit_transform(iris)
    direct = kullback.TSNE(**SMALL, init="random").fit_transform(iris)
    assert piped.shape == direct.shape
    # 15 neighbours either way; distances of the two searches differ in rounding and among ties
    assert np.median(np.abs(piped - direct)) < 0.05 * np.abs(direct).max()
    options = {"metric": "precomputed", "init": "random", "max_iter": 20, "n_jobs": 1}
    few = make_pipeline(KNeighborsTransformer(mode="distance"), kullback.TSNE(**options))
    with pytest.warns(UserWarning, match="fewer neighbours than perplexity = 30"):
        assert np.isfinite(few.fit_transform(iris)).all()
    assert make_pipeline(StandardScaler(), kullback.TSNE(**SMALL)).fit_transform(iris).shape == (150, 2)


def test_clone_and_pickle(iris):
    """Both keep the parameters; a pickle keeps the map."""
    estimator = kullback.TSNE(**SMALL).fit(iris)
    assert clone(estimator).get_params() == estimator.get_params()
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.embedding_, estimator.embedding_)
    assert again.kl_divergence_ == estimator.kl_divergence_


@pytest.mark.parametrize("metric", ["cosine", "manhattan", "chebyshev", "hamming", "correlation"])
def test_metrics(iris, metric):
    """Each gives a map, which for Manhattan distances is that of the same distances given."""
    found = kullback.TSNE(**SMALL, metric=metric, init="random").fit_transform(iris)
    assert np.isfinite(found).all()


def test_metric_params(iris):
    """They reach the metric: Minkowski of order 1 is Manhattan."""
    options = {**SMALL, "init": "random"}
    found = kullback.TSNE(**options, metric="minkowski", metric_params={"p": 1}).fit(iris).affinities_.P
    expected = kullback.TSNE(**options, metric="manhattan").fit(iris).affinities_.P
    assert abs(found - expected).max() < 1e-12

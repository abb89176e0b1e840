"""Files of fitted estimators: they go on bit for bit, and what is damaged, foreign or newer is refused.

`tests/api/test_determinism.py` has the models that go on, by files as by pickles.
"""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import kullback
from kullback.tsne import Embedding

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
AFFINITIES = ("P", "neighbors", "bandwidths", "row_perplexity")
FEW = {"perplexity": 5, "max_iter": 20, "early_exaggeration_iter": 10, "n_jobs": 1}


def members(path):
    """Return the arrays of a file."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the path of a file with a small model, and its arrays."""
    path = tmp_path_factory.mktemp("estimator") / "model.npz"
    kullback.TSNE(**FEW, metric="minkowski", metric_params={"p": 3, "w": np.ones(4)}).fit(X).save(path)
    return path, members(path)


def same(first, second):
    """Return whether a value and what was read of it are equal, to the bit where they are arrays, and of one type.

    Numbers of NumPy and lists become Python's numbers and arrays.
    """
    if isinstance(first, np.generic | list):
        first = first.item() if isinstance(first, np.generic) else np.asarray(first)
    if isinstance(first, np.ndarray):
        equal = first.tolist() == second.tolist() if first.dtype == object else first.tobytes() == second.tobytes()
        return first.dtype == second.dtype and first.shape == second.shape and equal
    if sparse.issparse(first):
        return all(same(getattr(first, part), getattr(second, part)) for part in ("data", "indices", "indptr"))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, kullback.affinities.Affinities):
        return all(same(getattr(first, part), getattr(second, part)) for part in AFFINITIES)
    return type(first) is type(second) and first == second


def assert_same_model(model, again):
    """Every parameter and every fitted attribute has the same type and value."""
    assert again.get_params().keys() == model.get_params().keys()
    assert vars(again).keys() == vars(model).keys()
    for name, value in vars(model).items():
        assert name.startswith("_") or same(value, getattr(again, name)), name
    assert again._map.index._seed == model._map.index._seed  # that of the approximate search
    clone(again)


def precomputed(dense):
    """Return distances of all points, or those to some neighbours."""
    distances = np.linalg.norm(X[:, None].astype(float) - X, axis=2)
    return distances if dense else kullback.neighbors.neighbor_graph(X, 20)


def test_masses_and_recall_are_kept(tmp_path):
    """New rows settle among as many rows as before, and the recall of the search is known."""
    masses = RNG.integers(1, 4, 60)
    model = kullback.TSNE(perplexity=15, max_iter=20, recall=0.9, random_state=0).fit(X, sample_weight=masses)
    model.save(tmp_path / "m.npz")
    again = kullback.TSNE.load(tmp_path / "m.npz")
    assert_same_model(model, again)
    assert again.recall_ == (1, 0)
    assert again._map.index._recall == 0.9
    np.testing.assert_array_equal(again._map.masses, masses)
    np.testing.assert_array_equal(again.transform(X[:5] + 0.1), model.transform(X[:5] + 0.1))
    assert again.exact_kl_ == model.exact_kl_


@pytest.mark.parametrize("kind", ["frame", "start", "precomputed", "graph", "wide", "cosine", "mahalanobis", "1", "4"])
def test_every_kind_of_model_is_kept(kind, tmp_path):
    """Names of features, starts, distances, sparse data, parameters of metrics, and maps of other dimensions."""
    data, new, options = X, X[:7] + 0.25, {"random_state": np.int64(3)}
    if kind == "frame":
        pandas = pytest.importorskip("pandas")
        data, new = (pandas.DataFrame(rows, columns=list("äbcd")) for rows in (data, new))
    elif kind == "start":
        options = {"init": RNG.normal(size=(60, 2)).tolist(), "tol": 0.01, "exaggeration": np.float32(1.5)}
    elif kind == "precomputed":
        data, options = precomputed(True), {"metric": "precomputed", "init": "random"}
        new = data[:7] + 0.1
    elif kind == "graph":
        graph = precomputed(False)
        data = sparse.csr_array((graph.distances, graph.columns, graph.row_starts), shape=(60, 60))
        new, options = data[:7], {"metric": "precomputed", "init": "spectral"}
    elif kind == "wide":  # so wide that it stays sparse
        places = np.repeat(np.arange(60), 5), RNG.integers(2**21, size=300)
        data = sparse.csr_array((RNG.random(300), places), shape=(60, 2**21))
        new, options = data[:7] * 1.5, {"init": "random"}
    elif kind == "mahalanobis":
        options = {"metric": kind, "metric_params": {"V": np.diag([1.0, 2, 3, 4])}}
    elif kind == "cosine":
        options = {"metric": kind, "angle": np.float64(0.4)}
    else:
        options = {"n_components": int(kind), "dof": 0.8, "early_exaggeration_iter": "auto"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = kullback.TSNE(**{**FEW, **options}).fit(data)
    if kind == "frame":
        model.set_output(transform="pandas")
    model.save(str(tmp_path / "model.npz"))
    again = kullback.TSNE.load(str(tmp_path / "model.npz"))
    assert_same_model(model, again)
    assert np.asarray(again.transform(new)).tobytes() == np.asarray(model.transform(new)).tobytes()
    assert type(again.transform(new)) is type(model.transform(new))
    again.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "model.npz").read_bytes()


def test_a_model_with_other_parameters_than_its_map(tmp_path):
    """Parameters that were set since, and a map that the user changed, are kept apart from the map itself."""
    model = kullback.TSNE(**FEW, dof=0.7, random_state=0).fit(X)
    model.set_params(dof=1.0, perplexity=8, method="fft")
    model.embedding_ *= 2
    model.save(tmp_path / "model.npz")
    again = kullback.TSNE.load(tmp_path / "model.npz")
    assert_same_model(model, again)
    assert again.transform(X[:9] + 0.1).tobytes() == model.transform(X[:9] + 0.1).tobytes()
    assert again.partial_fit(X[:9] + 0.1).embedding_.tobytes() == model.partial_fit(X[:9] + 0.1).embedding_.tobytes()


@pytest.mark.parametrize(
    "name, value",
    [
        ("callback", lambda state: None), ("exaggeration", lambda i: 1.0), ("learning_rate", lambda i: 10.0),
        ("momentum", lambda i: 0.5), ("metric", lambda a, b: abs(a - b).sum()),
        ("random_state", np.random.RandomState(0)),
    ],
)  # fmt: skip
def test_what_a_file_cannot_hold_is_refused_by_name(name, value, tmp_path):
    """The old file stays as it was, and no other one is there."""
    (tmp_path / "model.npz").write_bytes(b"old")
    model = kullback.TSNE(**FEW, **{name: value}).fit(X)
    with pytest.raises(TypeError, match=rf"^{name} must be a number, a name or an array"):
        model.save(tmp_path / "model.npz")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
    if name not in ("metric", "random_state"):
        model.set_params(**{name: clone(kullback.TSNE()).get_params()[name]}).save(tmp_path / "model.npz")


def test_other_refusals(tmp_path):
    """A model without a map, parameters that were set to what they cannot be, and paths that cannot be written to."""
    with pytest.raises(NotFittedError):
        kullback.TSNE().save(tmp_path / "model.npz")
    model = kullback.TSNE(**FEW).fit(X)
    with pytest.raises(OSError, match="nowhere"):
        model.save(tmp_path / "nowhere" / "model.npz")
    with pytest.raises(ValueError, match="dof"):
        model.set_params(dof=-1).save(tmp_path / "model.npz")
    model.set_params(dof=1).embedding_ = model.embedding_[:9]
    with pytest.raises(ValueError, match=r"embedding_ must have shape \(60, 2\) to be saved, got \(9, 2\)"):
        model.save(tmp_path / "model.npz")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        kullback.TSNE.load(tmp_path / "model.npz")


def write(path, arrays, **header):
    """Write a file with another header, or other arrays."""
    known = json.loads(str(arrays["header"]))
    np.savez(path, **{**arrays, "header": np.array(json.dumps({**known, **header}))})


def test_foreign_and_newer_files_are_refused(saved, tmp_path):
    """One line names the file and says what it is."""
    path, (_, arrays) = tmp_path / "bad.npz", saved
    write(path, arrays, version=2, surplus=1)
    with pytest.raises(ValueError, match=r"cannot load .*bad.npz.*of version 2, and this kullback reads version 1$"):
        kullback.TSNE.load(path)
    kullback.streaming.RowDivergence().save(path)
    with pytest.raises(ValueError, match=r"cannot load .*bad.npz.*does not hold a kullback.TSNE$"):
        kullback.TSNE.load(path)
    Embedding(kullback.affinities.perplexity(X, 5), X[:, :2]).save(path)
    with pytest.raises(ValueError, match="does not hold"):
        kullback.TSNE.load(path)
    np.savez(path, **(arrays | {"embedding": np.array([print], object)}))
    with pytest.raises(ValueError, match=r"cannot load .*bad.npz"):
        kullback.TSNE.load(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot load .*bad.npz"):
        kullback.TSNE.load(path)


def damages(arrays):
    """Yield the arrays of files, each of which is wrong in one way."""
    header = json.loads(str(arrays["header"]))
    for name, array in arrays.items():
        yield {key: value for key, value in arrays.items() if key != name}
        if name == "header":
            continue
        if array.size == 0:  # masses that are none
            yield arrays | {name: np.ones(3)}
            continue
        if array.ndim:
            yield arrays | {name: array[:-1]}
            yield arrays | {name: np.concatenate([array, array])}
        yield arrays | {name: array.astype(np.int8)}
        if array.dtype.kind == "f" and not name.startswith(("parameters", "index")):
            yield arrays | {name: array * np.float32("nan")}
        if array.dtype.kind == "i":
            yield arrays | {name: np.full_like(array, 2**30)}
            yield arrays | {name: array - 2**20}
    yield arrays | {"surplus": np.zeros(3)}
    yield arrays | {"P_data": arrays["P_data"] * 2}
    yield arrays | {"P_data": np.arange(len(arrays["P_data"]), dtype="f4") / arrays["P_data"].size ** 2 * 2}
    yield arrays | {"neighbors_data": arrays["neighbors_data"][::-1].copy()}
    yield arrays | {"embedding": arrays["embedding"] * np.float32("inf")}
    changes = {"parameters": {"perplexity": "x", "dof": [], "metric": 3, "n_jobs": 0, "max_iter": {}, "init": "pcb"},
               "index": {"seed": -1, "metric": "no_metric", "method": "fast", "shape": [60], "metric_params": []},
               "reference": {"dof": -1, "method": 0, "theta": 2, "perplexity": 0},
               "fitted": {"n_iter": -3, "stop_reason": "why", "learning_rate": None, "timings": 3}}  # fmt: skip
    for part, values in changes.items():
        for name, value in values.items():
            yield arrays | {"header": np.array(json.dumps(header | {part: header[part] | {name: value}}))}
        yield arrays | {"header": np.array(json.dumps(header | {part: header[part] | {"surplus": 1}}))}
        yield arrays | {"header": np.array(json.dumps(header | {part: {}}))}
        yield arrays | {"header": np.array(json.dumps(header | {part: []}))}
    for text in ("", "[]", "3", json.dumps(header | {"output": "paper"})):
        yield arrays | {"header": np.array(text)}


def test_damaged_arrays_are_refused(saved, tmp_path):
    """Each of about a hundred wrong files raises a ValueError that names it, and the right one is read."""
    count = 0
    for damaged in damages(saved[1]):
        np.savez(tmp_path / "bad.npz", **damaged)
        changed = {key for key in {*damaged, *saved[1]} if damaged.get(key) is not saved[1].get(key)}
        if changed <= {"parameters.metric_params.w", "index.metric_params.w"}:
            continue  # which may be anything: the metric itself refuses it when it is used
        with pytest.raises(ValueError, match=r"^cannot load .*bad.npz"):
            kullback.TSNE.load(tmp_path / "bad.npz")
        count += 1
    assert count > 90
    assert kullback.TSNE.load(saved[0]).n_iter_ == 20


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_flipped_and_missing_bytes_are_refused(saved, tmp_path_factory, data):
    """Whatever is done to the bytes of a file, it is refused, or it is read as what was written."""
    content, path = bytearray(saved[0].read_bytes()), tmp_path_factory.getbasetemp() / "bytes.npz"
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[place : place + data.draw(st.integers(1, 5000))]
    path.write_bytes(content)
    try:
        again = kullback.TSNE.load(path)
    except ValueError as error:
        assert "cannot load" in str(error) and "\n" not in str(error)
        return
    assert_same_model(kullback.TSNE.load(saved[0]), again)

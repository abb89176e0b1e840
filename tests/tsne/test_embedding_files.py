"""Files, pickles and copies of embeddings: they resume the descent bit for bit, and damaged ones are refused."""

import copy
import io
import json
import pickle
import zipfile

import numpy as np
import pytest

import kullback
from kullback import affinities
from kullback.tsne import Embedding


@pytest.mark.parametrize("stop", [0, 50, 73, 130])
@pytest.mark.parametrize("method", ["auto", "exact", "barnes_hut", "fft"])
def test_a_file_resumes_bit_for_bit(sorted_points, method, stop, tmp_path):
    """A file resumes the descent before, at and between sorts of the points. To save it changes nothing."""
    whole = Embedding(*sorted_points, n_threads=1, method=method).optimize(160, exaggeration=4)
    first = Embedding(*sorted_points, n_threads=1, method=method).optimize(stop, exaggeration=4)
    first.save(tmp_path / "map.npz")
    again = Embedding.load(tmp_path / "map.npz", n_threads=3 if stop == 73 else 1)
    assert again.positions.tobytes() == first.positions.tobytes()
    assert (again.n_iter, again.stop_reason) == (stop, "iterations")
    for embedding in (first, again):
        embedding.optimize(160 - stop, exaggeration=4)
        assert embedding.positions.tobytes() == whole.positions.tobytes()
        # The end of a call adds a record. The other records have the same bits.
        common = np.isin(embedding.loss["iteration"], whole.loss["iteration"])
        assert embedding.loss[common].tobytes() == whole.loss.tobytes()


def test_the_grid_that_is_kept_is_in_the_file(sorted_points, tmp_path):
    """A map that shrank keeps its wider FFT grid, whose rounding a fresh grid would not repeat."""
    P, init = sorted_points
    embedding = Embedding(P, init * 3e5, method="fft", n_threads=1)
    embedding.optimize(20, exaggeration=30)
    fresh = Embedding(P, embedding.positions, method="fft", n_threads=1).optimize(0)
    assert fresh._repulsion.n_nodes != embedding._repulsion.n_nodes  # otherwise this tests nothing
    embedding.save(tmp_path / "map.npz")
    again = Embedding.load(tmp_path / "map.npz", n_threads=1).optimize(20)
    assert again.positions.tobytes() == embedding.optimize(20).positions.tobytes()


@pytest.mark.parametrize("n_components", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_kind_of_map_is_kept(few_digits, n_components, dtype, tmp_path):
    """The dimensions, the precision, the options and the momentum are restored."""
    init = np.random.default_rng(0).normal(size=(300, n_components)).astype(dtype)
    embedding = Embedding(few_digits[0], init, dof=0.7, theta=0.3).optimize(30)
    embedding.save(str(tmp_path / "map.npz"))
    again = Embedding.load(str(tmp_path / "map.npz"))
    assert again.positions.dtype == dtype
    assert again.optimize(10).positions.tobytes() == embedding.optimize(10).positions.tobytes()


def test_copies_and_pickles_go_on_alike(sorted_points):
    """A copy and a pickle go on as the embedding does, and are independent of it."""
    embedding = Embedding(*sorted_points, n_threads=1).optimize(60, exaggeration=4)
    twins = copy.deepcopy(embedding), pickle.loads(pickle.dumps(embedding))
    embedding.optimize(20)
    for twin in twins:
        assert twin.n_iter == 60
        assert twin.optimize(20).positions.tobytes() == embedding.positions.tobytes()


def members(path):
    """Return the arrays of a file."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the path of a file with a small map, and its arrays."""
    rng = np.random.default_rng(0)
    P = affinities.perplexity(rng.normal(size=(20, 3)), 4)
    path = tmp_path_factory.mktemp("embedding") / "map.npz"
    Embedding(P, rng.normal(size=(20, 2)).astype(np.float32), method="fft").optimize(7).save(path)
    return path, members(path)


def damages(arrays):
    """Yield the arrays of files, each of which is wrong in one way."""
    header = json.loads(str(arrays["header"]))
    for name in arrays:
        yield {key: value for key, value in arrays.items() if key != name}
        if name == "header":
            continue
        yield arrays | {name: arrays[name][:-1]}
        yield arrays | {name: arrays[name].astype(np.int8)}
        yield arrays | {name: np.full(arrays[name].shape, 2**30, arrays[name].dtype)}
        yield arrays | {name: arrays[name] - np.asarray(2**20).astype(arrays[name].dtype)}
        if arrays[name].dtype.kind == "f":
            yield arrays | {name: arrays[name] * np.float32("nan")}
            yield arrays | {name: arrays[name] + np.float32("inf")}
    yield arrays | {"surplus": np.zeros(3)}
    yield arrays | {"order": np.zeros_like(arrays["order"])}
    yield arrays | {"columns": arrays["columns"] + 1}
    yield arrays | {"row_starts": arrays["row_starts"][::-1].copy()}
    yield arrays | {"grid": np.array([1.0, 0.0, 2.0**40, 2.0**40])}
    yield arrays | {"grid": np.array([1.0, 0.0, 30.5, 30])}
    yield arrays | {"grid": np.ones(1)}
    for change in (
        {"version": 2}, {"version": "1"}, {"format": "kullback.tsne.Nothing"}, {"surplus": 1}, {"options": None},
        {"options": {}, "n_iter": 3.5}, {"n_iter": -1}, {"n_iter": 2**70}, {"n_iter": 3}, {"stop_reason": 7},
        {"options": header["options"] | {"theta": "x"}}, {"options": header["options"] | {"theta": 7}},
        {"options": header["options"] | {"surplus": 1}}, {"options": header["options"] | {"method": "fast"}},
        {"options": header["options"] | {"n_threads": 1}}, {"options": header["options"] | {"dof": float("nan")}},
        {"options": header["options"] | {"method": "exact"}},
    ):  # fmt: skip
        yield arrays | {"header": np.array(json.dumps(header | change))}
    for text in ("", "[]", "3", "[" * 100_000):
        yield arrays | {"header": np.array(text)}


def test_damaged_arrays_are_refused(saved, tmp_path):
    """Each of about a hundred wrong files raises a ValueError, and the right one is read."""
    path, arrays = saved
    count = 0
    for damaged in damages(arrays):
        np.savez(tmp_path / "bad.npz", **damaged)
        harmless = {"rates", "gains", "velocity", "loss", "centre"}  # which may be any finite numbers
        changed = {key for key in damaged if damaged[key] is not arrays.get(key)}
        shapes = all(damaged[key].shape == arrays[key].shape for key in changed & set(arrays))
        if changed and changed <= harmless and shapes and all(
            damaged[key].dtype == arrays[key].dtype and np.isfinite(damaged[key]).all() for key in changed
        ):  # fmt: skip
            continue
        if changed == {"positions"} and np.isfinite(damaged["positions"]).all() and shapes:
            continue
        with pytest.raises(ValueError, match="cannot load"):
            Embedding.load(tmp_path / "bad.npz")
        count += 1
    assert count > 80
    assert Embedding.load(path).n_iter == 7


def test_damaged_files_are_refused(saved, tmp_path):
    """Every truncation and every flipped bit raises a ValueError or leaves the arrays as they were."""
    path, arrays = saved
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for cut in [0, 1, *rng.integers(2, len(content), 25)]:
        (tmp_path / "bad.npz").write_bytes(content[:cut])
        with pytest.raises(ValueError, match="cannot load"):
            Embedding.load(tmp_path / "bad.npz")
    for place in rng.integers(0, len(content), 120):
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.integers(8)
        (tmp_path / "bad.npz").write_bytes(flipped)
        try:
            Embedding.load(tmp_path / "bad.npz").save(tmp_path / "again.npz")
        except ValueError as error:
            assert "cannot load" in str(error)
            continue
        again = members(tmp_path / "again.npz")
        assert all(again[name].tobytes() == arrays[name].tobytes() for name in arrays)


def test_hostile_files(saved, tmp_path):
    """Pickles are never opened, and neither are arrays that claim to be larger than they are."""
    _, arrays = saved
    path = tmp_path / "bad.npz"
    np.savez(path, **(arrays | {"positions": np.array([print, open], object)}))
    with pytest.raises(ValueError, match="cannot load"):
        Embedding.load(path)
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(huge, {"descr": "<f4", "fortran_order": False, "shape": (2**40, 2)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("positions.npy", huge.getvalue())
    with pytest.raises(ValueError, match="its header speaks of"):
        Embedding.load(path)
    kullback.streaming.RowDivergence().save(path)
    with pytest.raises(ValueError, match="its header must have the keys"):
        Embedding.load(path)
    with pytest.raises(FileNotFoundError):
        Embedding.load(tmp_path / "nothing.npz")

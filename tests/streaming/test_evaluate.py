"""Evaluations over real files of every format."""

import json
import os
import struct
import subprocess
import sys
import textwrap
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest

import kullback
from kullback import evaluate
from kullback.readers import open_source
from kullback.streaming import RowDivergence

N, V = 203, 37
"""Rows and columns of the fixture ``data``."""


def run(p, q, **options):
    """Evaluate quietly."""
    return evaluate(p, q, quantiles=(0.5,), progress=False, **options)


def make_npy(folder, array, name):
    """Write and name an npy file."""
    np.save(folder / f"{name}.npy", array)
    return folder / f"{name}.npy"


def make_zarr(folder, array, name):
    """Write and name a zarr array in a group."""
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(folder / f"{name}.zarr"), mode="w")
    stored = group.create_array("rows", shape=array.shape, chunks=(16, V), dtype=array.dtype)
    stored[:] = array
    return f"{folder / name}.zarr:rows"


def make_hdf5(folder, array, name):
    """Write and name an HDF5 dataset."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file.create_dataset("a/b", data=array, chunks=(10, V), compression="gzip")
    return f"{folder / name}.h5:a/b"


def make_safetensors(folder, array, name):
    """Write and name a safetensors tensor."""
    library = pytest.importorskip("safetensors.numpy")
    library.save_file({"x": array, "y": array[:2]}, folder / f"{name}.safetensors")
    return f"{folder / name}.safetensors:x"


def make_parquet(folder, array, name):
    """Write and name a Parquet column of fixed-size lists in several row groups."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    lists = arrow.FixedSizeListArray.from_arrays(arrow.array(array.reshape(-1)), V)
    parquet.write_table(arrow.table({"rows": lists}), folder / f"{name}.parquet", row_group_size=50)
    return f"{folder / name}.parquet:rows"


MAKERS = [make_npy, make_zarr, make_hdf5, make_safetensors, make_parquet]


@pytest.mark.parametrize("batch_rows", ["auto", 1, 7, 203])
@pytest.mark.parametrize("make", MAKERS)
def test_every_format_gives_the_bits_of_memory(tmp_path, data, expected, make, batch_rows, n_threads):
    """Every format, block size and thread count gives the same bits."""
    p, q = (make(tmp_path, array, name) for array, name in zip(data, "pq", strict=True))
    assert run(p, q, batch_rows=batch_rows, n_threads=n_threads) == expected


def test_formats_can_be_mixed(tmp_path, data, expected):
    """The two sides may be of different kinds: files, arrays, iterables, and objects of the libraries."""
    zarr, h5py = pytest.importorskip("zarr"), pytest.importorskip("h5py")
    path = make_npy(tmp_path, data[0], "p")
    assert run(str(path), data[1]) == expected
    assert run((data[0][i : i + 10] for i in range(0, N, 10)), make_parquet(tmp_path, data[1], "q")) == expected
    array = zarr.array(data[1], chunks=(20, V))
    make_hdf5(tmp_path, data[0], "p")
    with h5py.File(tmp_path / "p.h5") as file:
        assert run(file["a/b"], array, batch_rows=9) == expected
        assert file["a/b"][0, 0] == data[0][0, 0]  # what the caller opened stays open
    blocks = (iter(np.array_split(side, k)) for side, k in zip(data, (7, 31), strict=True))
    assert run(*blocks, batch_rows=8) == expected
    assert run(iter(data[0]), data[1]) == expected
    assert run(np.lib.format.open_memmap(path), data[1]) == expected


def test_parquet_pages_of_fewer_rows_than_the_file_promises(tmp_path, data, monkeypatch):
    """Some versions of pyarrow read a damaged page as one of fewer rows; it is no shorter file."""
    source = open_source(make_parquet(tmp_path, data[0], "p"))
    with closing(source._file) as whole:
        batches = list(whole.iter_batches(50))
        cut = SimpleNamespace(
            metadata=whole.metadata, num_row_groups=5, iter_batches=lambda *_, **__: iter(batches[:4])
        )
        monkeypatch.setattr(source, "_file", cut)
        with pytest.raises(ValueError, match="is damaged or cannot be read: its last 3 rows are missing"):
            source.read(0, N)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("make", MAKERS)
def test_other_dtypes(tmp_path, data, make, dtype):
    """Every format keeps the dtype of its numbers."""
    p, q = ((array.astype(np.float64) / 1).astype(dtype) for array in data)
    expected = RowDivergence(normalize=True, quantiles=(0.5,)).update(p, q).result()
    assert run(make(tmp_path, p, "p"), q, normalize=True) == expected


def test_bfloat16_in_safetensors(tmp_path, data):
    """Rows of bfloat16, which NumPy itself lacks, are read from safetensors."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    p, q = (array.astype(ml_dtypes.bfloat16) for array in data)
    expected = RowDivergence(normalize=True, quantiles=(0.5,)).update(p, q).result()
    path = make_safetensors(tmp_path, p, "p")
    assert run(path, q, normalize=True) == expected
    code = f"import kullback; print(kullback.evaluate({path!r}, {path!r}, normalize=True, progress=False).kl.n_rows)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert found.stdout == f"{N}\n", found.stderr  # although nobody but the reader imports ml_dtypes


def test_dtypes_of_safetensors_that_are_refused(tmp_path):
    """A dtype that the kernels cannot read is refused by the name that it has in the file."""
    pytest.importorskip("safetensors")
    tensor = {"dtype": "F8_E4M3", "shape": [2, 4], "data_offsets": [0, 8]}
    header = json.dumps({"x": tensor}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(TypeError, match=r"must have a dtype of F16, .*, got F8_E4M3"):
        run(f"{path}:x", np.ones((2, 4)))


def test_columns_reach_their_rows(data):
    """Weights and groups follow their rows through the blocks."""
    weights, group = np.arange(N) % 5, np.arange(N) // 50
    found = evaluate(*data, weights=weights, group=group, batch_rows=3, progress=False)
    assert found == RowDivergence(groups=True).update(*data, weights=weights, group=group).result()
    with pytest.raises(ValueError, match="weights must have one value per row"):
        evaluate(*data, weights=weights[1:], progress=False)
    with pytest.raises(ValueError, match="weights must"):
        evaluate(iter(data[0]), iter(data[1]), weights=np.ones(N + 1), progress=False)


def test_empty_sources(tmp_path):
    """Arrays, files and iterables without rows give a result of no rows."""
    nothing = np.empty((0, 4), np.float32)
    files = [make(tmp_path, nothing, "p") for make in (make_npy, make_safetensors)]
    for p in (nothing, *files, iter(())):
        assert run(p, nothing).kl.n_rows == 0


@pytest.mark.parametrize("cut", [-1, 1, -V * 4])
def test_npy_size_is_checked(tmp_path, data, cut):
    """A truncated or padded file is refused before anything is read."""
    path = make_npy(tmp_path, data[0], "p")
    content = path.read_bytes()
    path.write_bytes(content[:cut] if cut < 0 else content + b"\0")
    with pytest.raises(ValueError, match="its header speaks of"):
        run(path, data[1])


def test_npy_hostile_headers(tmp_path, data):
    """Pickles, foreign files and Fortran order are refused."""
    np.save(tmp_path / "objects.npy", np.array([[object()]]), allow_pickle=True)
    with pytest.raises(ValueError, match="objects"):
        run(tmp_path / "objects.npy", data[1])
    (tmp_path / "text.npy").write_text("hello")
    with pytest.raises(ValueError, match="no npy file"):
        run(tmp_path / "text.npy", data[1])
    np.save(tmp_path / "fortran.npy", np.asfortranarray(data[0]))
    with pytest.raises(ValueError, match="Fortran"):
        run(tmp_path / "fortran.npy", data[1])


def write_npy(path, shape, content, padding=0):
    """Write a header of any shape, longer by some padding, before some content."""
    header = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode() + b" " * padding + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content)
    return path


def test_npy_headers_that_other_writers_make(tmp_path, data, expected):
    """Headers of any length, which leave numbers unaligned, and rows of more than one axis are read."""
    for padding in range(5):
        path = write_npy(tmp_path / "p.npy", (N // 7, 7, V), data[0].tobytes(), padding)
        assert run(path, data[1]) == expected
    nothing = write_npy(tmp_path / "p.npy", (5, 0), b"")
    with pytest.raises(ValueError, match=r"p must|same number of columns"):
        run(nothing, np.ones((5, 3)))
    with pytest.raises(ValueError, match="negative"):
        run(write_npy(tmp_path / "p.npy", (-3, -5), bytes(60)), data[1])


def test_memory_is_bounded_whatever_the_file(tmp_path, memory_limits):
    """A gigabyte of rows passes through much less resident memory; pages are let go once they are read."""
    if not os.path.exists("/proc/self/status"):
        pytest.skip("reads the peak of resident memory from /proc")
    n_rows = 4000
    path = write_npy(tmp_path / "zeros.npy", (n_rows, 32000), b"")
    os.truncate(path, path.stat().st_size + n_rows * 128000)  # the file is a hole, which takes no disk space
    code = f"""
        import re, kullback
        peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1e3
        import tqdm
        before = peak()
        found = kullback.evaluate({str(path)!r}, {str(path)!r}, from_logits=True, progress=False, n_threads=2)
        assert found.kl.n_rows == {n_rows} and found.kl.max == 0, found
        assert peak() - before < 200, (before, peak())
    """
    environment = os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(kullback.__file__))}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=environment)


def test_npy_that_shrinks_is_an_error(tmp_path, data):
    """A file that is cut between two blocks raises, where reading on would kill the process."""
    path = make_npy(tmp_path, data[0], "p")
    source = open_source(path)
    os.truncate(path, 1000)
    with pytest.raises(OSError, match="ended early"):
        source.read(0, N)
    source.close()


@pytest.mark.parametrize(
    ("p", "q", "message"),
    [
        (np.ones((3, 4)), np.ones((4, 4)), "same number of rows, got 3 and 4"),
        (np.ones((3, 4)), np.ones((3, 5)), "same number of columns"),
        ([np.ones((3, 4))], [np.ones((4, 4))], "one of them ends"),
        ([np.ones((3, 4))], np.ones((4, 4)), "must have 4 rows, one of them has 3"),
        ([np.ones((3, 4)), np.ones((3, 5))], np.ones((6, 4)), "blocks must have shape"),
        ("x.csv", np.ones((3, 4)), "must end in"),
    ],
)
def test_sources_that_do_not_fit(p, q, message):
    """Shapes are compared before or while reading."""
    with pytest.raises(ValueError, match=message):
        run(p, q, normalize=True)


def test_files_that_do_not_exist(tmp_path, data):
    """A missing file, dataset or column is named."""
    with pytest.raises(FileNotFoundError, match=r"nothing\.npy"):
        run(tmp_path / "nothing.npy", data[1])
    for make, name in ((make_hdf5, "dataset"), (make_safetensors, "tensor"), (make_parquet, "column")):
        path = make(tmp_path, data[0], "p").rpartition(":")[0]
        with pytest.raises(ValueError, match=f"no {name} 'nothing'"):
            run(f"{path}:nothing", data[1])
    with pytest.raises(ValueError, match="is a group"):
        run(make_zarr(tmp_path, data[0], "p").rpartition(":")[0], data[1])
    with pytest.raises(TypeError, match="cannot read rows from int"):
        run(3, data[1])


def test_memory_is_planned(data):
    """Blocks that cannot fit into the memory allowed are refused."""
    with pytest.raises(ValueError, match="max_memory must be at least 592"):
        run(*data, max_memory=591)
    with pytest.raises(ValueError, match="batch_rows must be at most"):
        run(*data, max_memory=10000, batch_rows=100)
    assert run(*data, max_memory=592).kl.n_rows == N


def test_an_error_in_a_block_stops_everything(data):
    """The error of a thread is raised, with its own message."""
    bad = data[0].copy()
    bad[100, 3] = -1
    with pytest.raises(ValueError, match="negative or NaN"):
        run(bad, data[1], batch_rows=5)


@pytest.mark.parametrize("batch_rows", ["auto", 1, 7, N])
def test_a_bad_row_is_named_by_its_place_in_the_data(data, batch_rows):
    """The row of the message is counted from the first row of the data, whatever the blocks are."""
    for value, options, message in (
        (-1, {}, "negative or NaN entry in row 100$"),
        (3, {}, r"q must sum to 1 within .* in row 100; pass normalize=True"),
        (np.nan, {"from_logits": True}, "NaN or \\+inf entry in row 100$"),
    ):
        bad = data[1].copy()
        bad[100, 3] = value
        with pytest.raises(ValueError, match=message):
            run(data[0], bad, batch_rows=batch_rows, **options)
    bad[100, 3] = -1
    with pytest.raises(ValueError, match=r"negative or NaN entry in row 100$"):
        run(data[0], bad, batch_rows=batch_rows, measures=("log_loss",), labels=np.zeros(N, int))


def test_import_stays_light():
    """Importing the package imports neither the libraries of the readers nor tqdm."""
    code = """
        import sys, kullback, kullback.streaming, kullback.readers, kullback.evaluation
        heavy = {"zarr", "h5py", "pyarrow", "safetensors", "dask", "tqdm"} & set(sys.modules)
        assert not heavy, heavy
    """
    environment = os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(kullback.__file__))}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=environment)


def test_rows_of_several_chunks(tmp_path, data, expected):
    """Chunks that cut rows across, and chunks that are no multiple of a block, give the same bits."""
    zarr = pytest.importorskip("zarr")
    for chunks in ((16, 5), (7, 36), (N, 1)):
        array = zarr.array(data[0], chunks=chunks)
        assert run(array, data[1]) == expected
        assert run(array, data[1], batch_rows=3) == expected


def test_blocks_of_two_dtypes_are_refused(data):
    """Blocks of two dtypes, which would be joined in the wider one, would make the result depend on the blocks."""
    with pytest.raises(ValueError, match="one dtype, got float32 and then float64"):
        run([data[0][:100], data[0][100:].astype(float)], data[1])

"""Files that are cut, written to or replaced while they are read, and files that claim what they do not hold."""

import json
import os
import struct

import numpy as np
import pytest

from kullback import evaluate
from kullback.readers import open_source

ROWS = np.random.default_rng(0).dirichlet(np.ones(50), 2000)


def write_npy(path, rows):
    """Write and name rows."""
    np.save(path.with_suffix(".npy"), rows)
    return str(path.with_suffix(".npy"))


def safetensors(header, data=b"", length=None):
    """Return a file with a header of one's own."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def write_safetensors(path, rows):
    """Write and name rows."""
    tensor = {"dtype": "F64", "shape": rows.shape, "data_offsets": [0, rows.nbytes]}
    path.with_suffix(".safetensors").write_bytes(safetensors({"rows": tensor}, rows.tobytes()))
    return f"{path.with_suffix('.safetensors')}:rows"


def write_logits(path, rows):
    """Write and name rows as llama.cpp does; their values do not matter here."""
    records = np.zeros((len(rows), 54), "<u2")  # scale and minimum take 4 of these, and codes 50
    tokens = np.zeros(len(rows) // 4 * 10, "<i4")  # of 10 tokens, 4 are scored
    path.with_suffix(".kld").write_bytes(
        b"_logits_" + struct.pack("<iii", 10, 50, len(rows) // 4) + tokens.tobytes() + records.tobytes()
    )
    return str(path.with_suffix(".kld"))


WRITERS = (write_npy, write_safetensors, write_logits)


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_that_is_cut_is_an_error(tmp_path, write):
    """The block after the cut raises an OSError that names the file, and the process lives."""
    name = write(tmp_path / "p", ROWS)
    path = name.removesuffix(":rows")
    source = open_source(name)
    source.read(0, 10)
    os.truncate(path, 5000)
    for start in (10, 1500):
        with pytest.raises(OSError, match="ended early: it was cut") as caught:
            source.read(start, start + 300)
        assert path in str(caught.value)
    source.close()


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_that_is_written_to_is_an_error(tmp_path, write):
    """Rows of two files are not mixed."""
    name = write(tmp_path / "p", ROWS)
    path = name.removesuffix(":rows")
    source = open_source(name)
    source.read(0, 10)
    source.release(0, 10)
    with open(path, "r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(bytes(8))
    os.utime(path, ns=(1, 1))  # clocks of files are coarse
    with pytest.raises(OSError, match="was written to while it was read"):
        source.read(10, 20)
    source.close()


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_that_is_replaced_is_read_on(tmp_path, write):
    """A reader that has opened a file reads that file to the end, whatever takes its name."""
    name = write(tmp_path / "p", ROWS)
    path = name.removesuffix(":rows")
    source = open_source(name)
    first = source.read(0, 2000).copy()
    os.replace(write(tmp_path / "new", ROWS[::-2]).removesuffix(":rows"), path)
    assert np.array_equal(source.read(0, 2000), first)
    source.close()


def test_a_cut_during_an_evaluation(tmp_path):
    """The error of a reader arrives; rows are read by copies here, as a map would end the process."""
    name = write_safetensors(tmp_path / "p", ROWS)

    def blocks():
        for start in range(0, 2000, 100):
            if start == 1000:
                os.truncate(name.removesuffix(":rows"), 5000)
            yield ROWS[start : start + 100]

    with pytest.raises(OSError, match="ended early"):
        evaluate(name, blocks(), batch_rows=100, progress=False)


TENSOR = {"dtype": "F64", "shape": [2, 3], "data_offsets": [0, 48]}
LATER = TENSOR | {"data_offsets": [48, 96]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (safetensors({"x": TENSOR}, bytes(48), length=10**15), "header claims 1000000000000000 bytes of"),
        (safetensors({"x": TENSOR}, bytes(49)), "bytes, but its header speaks of"),
        (safetensors({"x": TENSOR}, bytes(47)), "bytes, but its header speaks of"),
        (safetensors({"x": TENSOR, "y": TENSOR}, bytes(48)), "have gaps or overlap"),
        (safetensors({"x": LATER}, bytes(96)), "have gaps or overlap"),
        (safetensors({"x": TENSOR | {"shape": [10**8, 10**8]}}, bytes(48)), "cannot have the offsets"),
        (safetensors({"x": TENSOR | {"shape": [-2, -3]}}, bytes(48)), "no whole numbers"),
        (safetensors({"x": TENSOR | {"shape": [2, True]}}, bytes(48)), "no whole numbers"),
        (safetensors({"x": TENSOR | {"data_offsets": [48, 0]}}, bytes(48)), "cannot have the offsets"),
        (safetensors({"x": TENSOR | {"data_offsets": [0]}}, bytes(48)), "no whole numbers"),
        (safetensors({"x": {"dtype": "F64"}}), "must have dtype, shape and data_offsets"),
        (safetensors(b'{"x": 1, "x": 2}'), "a name comes twice"),
        (safetensors(b"[" * 100_000), "nested too deeply"),
        (safetensors([]), "no dictionary"),
        (safetensors(b"\xff"), "no safetensors file"),
        (b"\0\0", "no safetensors file"),
    ],
)
def test_headers_of_safetensors_that_are_refused(tmp_path, content, message):
    """Tensors must fill the file without gaps and overlaps, and their shapes must fit their bytes."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        open_source(f"{path}:x")
    assert str(path) in str(caught.value)


def test_safetensors_are_read_as_the_library_writes_them(tmp_path):
    """Any number of tensors, with or without rows and metadata, whatever lies before them."""
    library = pytest.importorskip("safetensors.numpy")
    tensors = {"a": ROWS[:7], "b": ROWS[:0], "c": np.arange(3, dtype=np.int8), "d": ROWS[:5].astype(np.float16)}
    library.save_file(tensors, tmp_path / "x.safetensors", metadata={"a": "b"})
    for name in "abd":
        source = open_source(f"{tmp_path / 'x.safetensors'}:{name}")
        found = source.read(0, 100)
        assert found.dtype == tensors[name].dtype
        assert np.array_equal(found, tensors[name])
        assert np.array_equal(source.read(2, 4, np.empty((9, 50), found.dtype)), tensors[name][2:4])
        source.close()


def test_chunks_larger_than_the_file_allows(tmp_path):
    """A chunk that unpacks to far more than its file is refused before it is read."""
    zarr, h5py = pytest.importorskip("zarr"), pytest.importorskip("h5py")
    zarr.create_array(str(tmp_path / "x.zarr"), shape=(10**9, 3), chunks=(10**8, 3), dtype="f8")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", shape=(10**8, 3), chunks=(10**7, 3), dtype="f8")
    for name in (tmp_path / "x.zarr", f"{tmp_path / 'x.h5'}:x"):
        with pytest.raises(ValueError, match="claims chunks of"):
            open_source(name)

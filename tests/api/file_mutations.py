"""Valid files of every format, ways to damage them, and what a reader may make of the damage.

The test `test_file_fuzz.py` tries a few mutations of each format, and `devel/fuzz_readers.py` tries many.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from kullback import TSNE, affinities, cli, evaluate
from kullback.readers import open_source
from kullback.streaming import HistogramDivergence, RowDivergence
from kullback.tsne import Embedding

RNG = np.random.default_rng(0)
P, Q = RNG.dirichlet(np.ones(6), (2, 40))
L = RNG.normal(size=(10, 33))
MARKER = "EXECUTED"
"""A file that appears in the working folder where a pickle was opened."""


class Evil:
    """An object whose pickle makes the marker when it is opened."""

    def __reduce__(self):
        return open, (MARKER, "w")


@dataclass(frozen=True)
class Format:
    """How a valid file is made and read.

    ``is_checked`` says whether all of its content has checksums, so that a damaged file that is read must give what the
    good one gives.
    """

    suffix: str
    make: Callable[[Path], None]
    read: Callable[[str], Any]
    is_checked: bool = False
    damage: Callable[[bytes, np.random.Generator], bytes] | None = None


# ---- Making --------------------------------------------------------------------------------------


def make_hdf5(path, rows=P):
    """Write rows with all checksums that the format has."""
    import h5py

    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("rows", data=rows, chunks=(10, rows.shape[1]), compression="gzip", fletcher32=True)


def make_zarr(path):
    """Write rows in chunks with checksums."""
    import zarr

    zarr.create_array(
        str(path), data=P, chunks=(10, 6), compressors=[zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()]
    )


def make_lists(path):
    """Write rows as lists of fixed size."""
    import pyarrow
    from pyarrow import parquet

    lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(P.reshape(-1)), 6)
    parquet.write_table(pyarrow.table({"rows": lists}), path, row_group_size=15, write_page_checksum=True)


def make_parquet(path):
    """Write a table."""
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({f"c{i}": column for i, column in enumerate(P.T)})
    parquet.write_table(table, path, write_page_checksum=True)


def make_safetensors(path, rows=P):
    """Write two tensors."""
    from safetensors.numpy import save_file

    save_file({"rows": rows, "other": P[:3].astype(np.float32)}, path)


def make_llama(path):
    """Write base logits of llama.cpp: two chunks of 12 tokens, of which 5 are scored."""
    rng = np.random.default_rng(2)
    records = [struct.pack("<ff", 2e-4, -14.0) + codes.tobytes() for codes in rng.integers(0, 60000, (10, 34), "<u2")]
    path.write_bytes(b"_logits_" + struct.pack("<iii", 12, 33, 2) + rng.integers(0, 33, 24, "<i4").tobytes()
                     + b"".join(records))  # fmt: skip


def make_embedding(path):
    """Write a small map."""
    X = np.random.default_rng(1).normal(size=(20, 3))
    Embedding(affinities.perplexity(X, 4), X[:, :2].astype(np.float32), n_threads=1).optimize(3).save(path)


def make_model(path):
    """Write a fitted estimator."""
    X = np.random.default_rng(1).normal(size=(20, 3))
    options = {"metric": "minkowski", "metric_params": {"p": 3.0}, "n_jobs": 1}
    TSNE(perplexity=4, max_iter=3, early_exaggeration_iter=1, **options).fit(X).save(path)


def make_sparse(path):
    """Write a sparse matrix."""
    sparse.save_npz(path, sparse.csr_array(P))


def make_state(path):
    """Write statistics of rows."""
    RowDivergence(quantiles=(0.5,), groups=True).update(P, Q, group=np.arange(40) % 3).save(path)


def make_histogram(path):
    """Write histograms."""
    HistogramDivergence(edges=[0.1, 0.3], n_features=6).update(P, Q).save(path)


def make_checkpoint(path):
    """Write a checkpoint."""
    path.unlink(missing_ok=True)
    evaluate(P, Q, checkpoint=path, progress=False, n_threads=1)


# ---- Reading -------------------------------------------------------------------------------------


class Refused(Exception):
    """A file was refused as it should be."""


def on_command_line(*arguments: str) -> Callable[[str], str]:
    """Return a reader that runs the command line, whose output is what was read."""

    def read(path: str) -> str:
        output, errors = io.StringIO(), io.StringIO()
        with redirect_stdout(output), redirect_stderr(errors):
            status = cli.main([argument.replace("FILE", path) for argument in arguments])
        text = errors.getvalue()
        if status == 0:
            assert text == "", text
            return output.getvalue()
        assert status == 2, status
        assert text.startswith("kullback: error: "), text
        assert text.count("\n") == 1, text
        assert text[:-1].isprintable(), text
        assert "fit into memory" not in text, text
        raise Refused(text)

    return read


def in_python(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a reader whose only errors name the file: ValueError, OSError, and MemoryError for a false size."""

    def guarded(path: str) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return read(path)
        except (ValueError, OSError, TypeError, MemoryError) as error:
            assert Path(path).name.partition(":")[0] in str(error), repr(error)
            raise Refused(str(error)) from None

    return guarded


def read_rows(path):
    """Return the first rows of a source; a damaged shape may be a legal other one of many rows."""
    source = open_source(path)
    try:
        stop = min(source.n_rows, 200)
        if source.row_bytes > 1 << 20:
            raise ValueError(f"{path}: max_memory must be more for these rows")
        blocks = [source.read(start, min(start + 30, stop)) for start in range(0, stop, 30)]
        return source.n_rows, str(source.dtype), [block.tobytes() for block in blocks]
    finally:
        source.close()


def read_state(path):
    """Return statistics of rows."""
    return repr(RowDivergence.load(path).result().to_dict())


def read_histogram(path):
    """Return divergences of histograms."""
    return repr(HistogramDivergence.load(path).result())


def resume(path):
    """Return the result of an evaluation that goes on from a checkpoint."""
    return repr(evaluate(P, Q, checkpoint=path, progress=False, n_threads=1).to_dict())


def read_embedding(path):
    """Return the positions after one more step."""
    return Embedding.load(path, n_threads=1).optimize(1).positions.tobytes()


def read_model(path):
    """Return the positions of new rows; where data may be anything, so may be what is wrong with them."""
    model = TSNE.load(path)
    try:
        return model.transform(np.ones((2, 3))).tobytes()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


NUMBERS = [-1, 0, 1, 7, 10**9, 10**15, 2**31 - 1, -(2**31), 2**62, 2**63 - 1, -(2**63), 1e30, 1e300, np.nan, np.inf]
NAMES = ["header", "counts", "surplus", "positions", "grid", "labels"]


def rewrite(good: bytes, rng: np.random.Generator) -> bytes:
    """Return a whole npz file, with right checksums, in which one array or the header is another."""
    with np.load(io.BytesIO(good)) as file:
        arrays = {name: file[name] for name in file.files}
    name = str(rng.choice(list(arrays)))
    array = arrays[name]
    kind = int(rng.integers(12))
    if name == "header" or (kind < 3 and "header" in arrays):
        header = json.loads(str(arrays["header"]))
        replace_value(header, rng)
        arrays["header"] = np.array(json.dumps(header))
    elif kind == 0:
        del arrays[name]
    elif kind == 1:
        arrays[NAMES[int(rng.integers(len(NAMES)))]] = array
    elif kind == 2 and array.dtype.kind in "iuf":
        arrays[name] = array.astype(str(rng.choice(["i1", "i4", "i8", "u8", "f4", "f8", "c16", "U3", ">f8"])))
    elif kind == 3 and array.ndim:
        arrays[name] = array[: len(array) // 2] if rng.random() < 0.5 else np.concatenate([array, array])
    elif kind == 4:
        arrays[name] = array[..., ::-1].copy() if array.ndim else array[None]
    elif array.size and array.dtype.kind in "iuf":
        array = array.copy()
        places = rng.integers(array.size, size=1 if rng.random() < 0.8 else array.size)
        with np.errstate(all="ignore"):
            array.reshape(-1)[places] = np.float64(NUMBERS[int(rng.integers(len(NUMBERS)))]).astype(array.dtype)
        arrays[name] = array
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def replace_value(header: Any, rng: np.random.Generator) -> None:
    """Put another value, or another name, somewhere into the header."""
    inside = header
    while True:
        keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        key = keys[int(rng.integers(len(keys)))]
        if not isinstance(inside[key], dict | list) or not inside[key] or rng.random() < 0.1:
            break
        inside = inside[key]
    if isinstance(inside, dict) and rng.random() < 0.1:
        inside[str(rng.choice(["surplus", "measures", "n_features", "base"]))] = inside.pop(key)
    else:
        others: list[Any] = [None, True, "", "kl", [], {}, [[]], [1e300], "x" * 1000, *NUMBERS]
        inside[key] = others[int(rng.integers(len(others)))]


CLI = on_command_line("divergence", "FILE", "q.npy", "--n-jobs", "1")
LOGITS = on_command_line("divergence", "base.kld", "FILE")

FORMATS = {
    "npy": Format(".npy", lambda path: np.save(path, P), in_python(read_rows)),
    "npy on the command line": Format(".npy", lambda path: np.save(path, P), CLI),
    "npz": Format(".npz", lambda path: np.savez_compressed(path, x=P), CLI, is_checked=True),
    "npz, stored": Format(".npz", lambda path: np.savez(path, x=P), CLI, is_checked=True),
    "npz of a sparse matrix": Format(".npz", make_sparse, CLI, is_checked=True),
    "csv": Format(".csv", lambda path: np.savetxt(path, P, delimiter=",", header="a,b,c,d,e,f", comments=""), CLI),
    "csv.gz": Format(".csv.gz", lambda path: np.savetxt(path, P, delimiter=","), CLI, is_checked=True),
    "parquet on the command line": Format(".parquet", make_parquet, CLI),
    "parquet": Format(".parquet:rows", make_lists, in_python(read_rows)),
    "hdf5": Format(".h5:rows", make_hdf5, in_python(read_rows)),
    "zarr": Format(".zarr", make_zarr, in_python(read_rows)),
    "safetensors": Format(".safetensors:rows", make_safetensors, in_python(read_rows)),
    "llama.cpp": Format(".kld", make_llama, in_python(read_rows)),
    "llama.cpp on the command line": Format(".kld", make_llama, LOGITS),
    "safetensors on the command line": Format(".safetensors:rows", lambda path: make_safetensors(path, L), LOGITS),
    "hdf5 on the command line": Format(".h5:rows", lambda path: make_hdf5(path, L), LOGITS),
    "state": Format(".npz", make_state, in_python(read_state), is_checked=True),
    "embedding": Format(".npz", make_embedding, in_python(read_embedding), is_checked=True),
    "model": Format(".npz", make_model, in_python(read_model), is_checked=True),
    "checkpoint": Format(".npz", make_checkpoint, in_python(resume), is_checked=True),
    "sparse matrix, rewritten": Format(".npz", make_sparse, CLI, damage=rewrite),
    "histogram, rewritten": Format(".npz", make_histogram, in_python(read_histogram), damage=rewrite),
    "state, rewritten": Format(".npz", make_state, in_python(read_state), damage=rewrite),
    "embedding, rewritten": Format(".npz", make_embedding, in_python(read_embedding), damage=rewrite),
    "model, rewritten": Format(".npz", make_model, in_python(read_model), damage=rewrite),
    "checkpoint, rewritten": Format(".npz", make_checkpoint, in_python(resume), damage=rewrite),
}  # fmt: skip


# ---- Damaging ------------------------------------------------------------------------------------

ABSURD = [0, 1, 2, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 10**15, 2**63 - 1, 2**63, 2**64 - 1]
PICKLE = pickle.dumps(Evil())


def mutate(good: bytes, rng: np.random.Generator) -> bytes:
    """Return a damaged copy."""
    content = bytearray(good)
    n = len(content)
    near = [int(rng.integers(n)), min(n - 1, int(rng.exponential(30))), max(0, n - 1 - int(rng.exponential(40)))]
    place = near[int(rng.integers(3))]  # headers stand at the beginning, directories at the end
    kind = int(rng.integers(10))
    if kind <= 1:
        content[place] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        for _ in range(int(rng.integers(2, 20))):
            content[int(rng.integers(n))] = int(rng.integers(256))
    elif kind == 3:
        del content[place:]
    elif kind == 4:
        width = int(rng.choice([1, 2, 4, 8]))
        value = int(ABSURD[int(rng.integers(len(ABSURD)))]) % (1 << 8 * width)
        content[place : place + width] = value.to_bytes(width, rng.choice(["little", "big"]))
    elif kind == 5:
        numbers = list(re.finditer(rb"-?\d+", good[: 1 << 14]))
        if numbers:
            number = numbers[int(rng.integers(len(numbers)))]
            text = str(rng.choice([-1, 0, 1, 7, 10**9, 10**15, 2**62])).encode()
            content[number.start() : number.end()] = text
    elif kind == 6:
        content[place:place] = bytes(rng.integers(0, 256, int(rng.integers(1, 40)), np.uint8))
    elif kind == 7:
        del content[place : place + int(rng.integers(1, 40))]
    elif kind == 8:
        source = int(rng.integers(n))
        part = content[source : source + int(rng.integers(1, 60))]
        content[place : place + len(part)] = part
    elif rng.random() < 0.5:
        content[place : place + len(PICKLE)] = PICKLE
    else:
        content += bytes(rng.integers(0, 256, int(rng.integers(1, 40)), np.uint8))
    return bytes(content)


class Fuzz:
    """A valid file of one format in the working folder, and mutations of it."""

    def __init__(self, name: str) -> None:
        self.format = FORMATS[name]
        make_llama(Path("base.kld"))
        np.save("q.npy", Q)
        suffix, _, part = self.format.suffix.partition(":")
        self.path = Path(f"damaged{suffix}")
        self.name = f"{self.path}:{part}" if part else str(self.path)
        self.format.make(self.path)
        inside = self.path.rglob("*") if self.path.is_dir() else [self.path]
        self.files = {path: path.read_bytes() for path in sorted(inside) if path.is_file()}
        self.expected = self.format.read(self.name)

    def write(self, seed: int) -> None:
        """Write the mutation of a seed."""
        rng = np.random.default_rng(seed)
        for path, content in self.files.items():
            path.write_bytes(content)
        path = list(self.files)[int(rng.integers(len(self.files)))]
        path.write_bytes((self.format.damage or mutate)(self.files[path], rng))

    def check(self) -> bool:
        """Read the file, and return whether it was accepted; raise an AssertionError where that was wrong."""
        try:
            found = self.format.read(self.name)
        except Refused:
            return False
        finally:
            assert not os.path.exists(MARKER), "a pickle was opened"
        assert not self.format.is_checked or found == self.expected, "what was accepted differs from what was written"
        return True

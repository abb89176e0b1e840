"""Files of the command line: the matrices, labels and logits that it reads, and the results that it writes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from ._cli_tables import Layout, Table, is_csv, read_csv, read_parquet, to_labels
from ._npy import read_array
from ._npz import Archive, is_sparse_archive, read_sparse
from ._outputs import find_target, is_stream, name_path

if TYPE_CHECKING:
    from .readers import Source

INPUT_HELP = (
    "a file .npy, .npz:key, .csv, .tsv, .csv.gz, .parquet, or .npz of scipy.sparse; - for standard input; or the "
    "name 'digits'"
)


def one_line(error: BaseException) -> str:
    """Return the message of an error without line breaks and without what a terminal would obey."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    else:
        text = " ".join(str(error).split()) or type(error).__name__
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


# ---- Input ---------------------------------------------------------------------------------------


@dataclass
class Data:
    """A matrix, its labels and index where it has some, and the names of its columns and of those left out."""

    X: Any
    labels: npt.NDArray[Any] | None = None
    index: tuple[str, Sequence[Any]] | None = None
    names: list[str] | None = None
    left_out: list[str] = field(default_factory=list)


def read_data(name: str, layout: Layout) -> Data:
    """Return a matrix, which may be sparse, and its labels where the data set has some."""
    if name != "digits":
        return _read_matrix(name, layout)
    from sklearn.datasets import load_digits

    layout.check_absent(name)
    digits = load_digits()
    return Data(digits.data, digits.target)


def read_matrix(name: str, layout: Layout | None = None) -> npt.NDArray[Any]:
    """Return a dense matrix of finite numbers; a vector is taken as its only row."""
    matrix = read_rows(name, layout).X
    if sparse.issparse(matrix):
        raise ValueError(f"{name}: must be dense, got a sparse matrix")
    return matrix  # type: ignore[no-any-return]


def read_rows(name: str, layout: Layout | None = None) -> Data:
    """Return a matrix of finite numbers with the names of its columns; a vector is taken as its only row."""
    return _read_matrix(name, layout or Layout(), vectors=True)


def _read_matrix(name: str, layout: Layout, *, vectors: bool = False) -> Data:
    """Return a matrix of finite numbers; with ``vectors``, a vector is taken as its only row."""
    found = _read(name, layout)
    data = _from_table(found) if isinstance(found, Table) else Data(found)
    array = data.X
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: must hold real numbers, got dtype {array.dtype}")
    if array.ndim == 1 and vectors:
        array = data.X = array[None, :]
    if array.ndim != 2:
        raise ValueError(f"{name}: must have two dimensions, rows and columns, got shape {array.shape}")
    if 0 in array.shape:
        raise ValueError(f"{name}: is empty, shape {array.shape}")
    values = array.data if sparse.issparse(array) else array
    if array.dtype.kind == "f" and not np.isfinite(values).all():
        is_bad = ~np.isfinite(values)
        row = int(array.tocoo().row[is_bad].min()) if sparse.issparse(array) else int(np.argmax(is_bad.any(axis=1)))
        raise ValueError(f"{name}: must be finite, got NaN or infinity in row {row}")
    return data


def _from_table(table: Table) -> Data:
    X, places, text = table.numbers()
    labels = None if table.labels is None else table.column_of_labels(table.labels)
    index = None
    if table.index is not None:
        index = (table.names[table.index] if table.names else "", table.cells[table.index])
    names = [table.names[place] for place in places] if table.names else None
    return Data(X, labels, index, names, [table.title(column) for column in text])


def is_llama(name: str) -> bool:
    """Return whether the name is that of a file of llama.cpp's base logits."""
    from .readers.llama import is_llama_logits

    return os.path.isfile(name) and is_llama_logits(name)


def open_logits(name: str) -> Source:
    """Return rows of logits that are read in blocks; files .npz and .csv are read at once."""
    from .readers import LlamaLogits, open_source

    if is_llama(name):
        return LlamaLogits(name)
    path = name if os.path.exists(name) else name.rpartition(":")[0] or name
    os.stat(path)  # this raises where there is no such file
    if Path(path).suffix.lower() == ".npz" or _table_kind(path) == "csv":
        return open_source(read_matrix(name))
    try:
        source = open_source(name)
    except (OSError, ValueError) as error:
        text = one_line(error)  # not every library names the file
        raise ValueError(text if path in text else f"{name}: {text}") from None
    if source.dtype is not None and source.dtype.kind not in "fiubV":  # V is the kind of bfloat16
        raise ValueError(f"{name}: must hold real numbers, got dtype {source.dtype}")
    return source


def read_labels(name: str, n_rows: int, layout: Layout) -> npt.NDArray[Any]:
    """Return one label, a finite number or a string, for each row; None where a table has none."""
    found = _read(name, layout)
    array = _labels_of_table(found, n_rows) if isinstance(found, Table) else found
    if sparse.issparse(array) or array.size != n_rows:
        raise ValueError(f"{name}: must hold one label for each of {n_rows} rows, got shape {array.shape}")
    array = array.reshape(-1)
    if array.dtype.kind not in "fiubUO" or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        raise ValueError(f"{name}: labels must be finite numbers or strings, got dtype {array.dtype}")
    return array


def _labels_of_table(table: Table, n_rows: int) -> npt.NDArray[Any]:
    """Return the chosen or the only column. Its first cell is a label, or its name where there is one cell too many."""
    if table.labels is not None:
        return table.column_of_labels(table.labels)
    columns = [column for column in range(len(table.cells)) if column != table.index]
    if len(table.lines) == 1 and len(columns) == n_rows > 1:
        return to_labels([table.cells[column][0].strip() for column in columns])
    if len(columns) != 1:
        raise ValueError(f"{table.source}: has {len(columns)} columns, choose the labels by --labels-column")
    cells = [str(cell).strip() for cell in table.cells[columns[0]]]
    if table.names and len(cells) == n_rows - 1:
        cells = [table.names[columns[0]], *cells]  # a first line of text need not be a name
    elif not table.names and len(cells) == n_rows + 1:
        cells = cells[1:]
    return to_labels(cells)


def _part_name(name: str) -> tuple[str, str]:
    """Return the path of a file and the key of an array in it, which is empty where none is named."""
    if ".npz:" in name and not Path(name).exists():
        path, _, key = name.rpartition(":")
        return path, key
    return name, ""


def _table_kind(path: str) -> str:
    """Return "csv" for separated values, "parquet", or an empty string, by the end of the name."""
    return "csv" if is_csv(path) else "parquet" if path.lower().endswith(".parquet") else ""


def _read(name: str, layout: Layout) -> Any:
    """Return the array, sparse or not, or the table that a file or standard input holds."""
    path, key = _part_name(name)
    try:
        if name != "-":
            suffix, kind = Path(path).suffix.lower(), _table_kind(path)
            if suffix not in (".npy", ".npz") and not kind:
                raise ValueError(f"{name}: must be {INPUT_HELP}")
            with open(path, "rb") as file:
                content = io.BytesIO(file.read()) if is_stream(path) else file
                return _read_file(name, path, key, content, suffix, layout)
        data = sys.stdin.buffer.read()
    except OSError as error:
        raise name_path(error, path) from None
    except MemoryError as error:
        raise MemoryError(f"{name}: does not fit into memory: {one_line(error)}") from None
    heads = ((b"\x93NUMPY", ".npy"), (b"PK", ".npz"), (b"PAR1", ".parquet"))
    suffix = next((kind for head, kind in heads if data.startswith(head)), ".csv")
    return _read_file("standard input", suffix, key, io.BytesIO(data), suffix, layout)


def _read_file(name: str, path: str, key: str, content: Any, suffix: str, layout: Layout) -> Any:
    """Return what an open file of a known kind holds."""
    n_bytes = content.seek(0, os.SEEK_END)
    content.seek(0)
    if not n_bytes:
        raise ValueError(f"{name}: is empty")
    kind = _table_kind(path)
    if kind == "csv":
        return read_csv(name, content, "\t" if ".tsv" in path.lower()[-7:] else ",", layout)
    if kind == "parquet":
        return read_parquet(name, content, layout)
    layout.check_absent(name)
    try:
        return read_array(content, n_bytes) if suffix == ".npy" else _read_archive(name, path, key, content, n_bytes)
    except KeyError as error:
        raise ValueError(error.args[0]) from None
    except ValueError as error:
        raise ValueError(f"{name}: not a readable {suffix} file: {one_line(error)}") from None


def _read_archive(name: str, path: str, key: str, content: Any, n_bytes: int) -> Any:
    """Return one array of a file .npz, or all of them as the sparse matrix that they make."""
    archive = Archive(content)
    if not key and is_sparse_archive(archive):
        return read_sparse(archive, n_bytes)
    if not key and len(archive.names) == 1:
        key = archive.names[0]
    if key not in archive.names:
        path = "FILE.npz" if path == ".npz" else path
        raise KeyError(f"{name}: name one of its arrays as {path}:KEY, from {', '.join(archive.names)[:200]}")
    return archive.read(key)


# ---- Output --------------------------------------------------------------------------------------


def check_targets(output: Path, plot: Path | None, inputs: Sequence[str]) -> None:
    """Raise where the results could not be written or would replace an input, before any work is done."""
    paths = [output] if plot is None else [output, plot]
    if plot is not None and os.path.realpath(output) == os.path.realpath(plot):
        raise ValueError(f"{output}: -o and --plot must be different files")
    for path in paths:
        if not is_stream(path):
            find_target(path)
        option = "-o" if path is output else "--plot"
        for name in inputs:
            if path.is_file() and _is_file_of(name, path):
                raise ValueError(f"{path}: {option} must be another file than the input {name}, which it would replace")
    if plot is not None and output.is_file() and plot.is_file() and output.samefile(plot):
        raise ValueError(f"{output}: -o and --plot must be different files")


def _is_file_of(name: str, path: Path) -> bool:
    """Return whether an input is read from the regular file, under whatever name."""
    if name == "-":
        try:
            return os.path.samestat(os.fstat(sys.stdin.fileno()), path.stat())
        except (OSError, ValueError, AttributeError):  # it is closed, or no file
            return False
    source = _part_name(name)[0]
    return os.path.isfile(source) and path.samefile(source)


def check_plot(plot: Path, n_components: int) -> None:
    """Raise where the picture could not be drawn, before any work is done."""
    if n_components != 2:
        raise ValueError(f"{plot}: only 2 components can be drawn, got {n_components}")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('--plot needs matplotlib: pip install "kullback[plot]"') from None
    kinds = Figure().canvas.get_supported_filetypes()
    if plot.suffix[1:].lower() not in kinds:
        raise ValueError(f"{plot}: its name must end in one of .{', .'.join(sorted(kinds))}")

"""Files of the command line: the matrices, labels and logits that it reads, and the results that it writes."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._outputs import is_stream

if TYPE_CHECKING:
    from .readers import Source

INPUT_HELP = "a file .npy, .npz:key or .csv, or the name 'digits'"


def one_line(error: BaseException) -> str:
    """Return the message of an error without line breaks."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


# ---- Input ---------------------------------------------------------------------------------------


def read_data(name: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Return a matrix, and its labels where the data set has some."""
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        return digits.data, digits.target
    return read_matrix(name, vectors=False), None


def read_matrix(name: str, *, vectors: bool = True) -> npt.NDArray[Any]:
    """Return a matrix of finite numbers; with ``vectors``, a vector is taken as its only row."""
    array = _read_array(name)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: must hold real numbers, got dtype {array.dtype}")
    if array.ndim == 1 and vectors:
        array = array[None, :]
    if array.ndim != 2:
        raise ValueError(f"{name}: must have two dimensions, rows and columns, got shape {array.shape}")
    if 0 in array.shape:
        raise ValueError(f"{name}: is empty, shape {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.argmin(np.isfinite(array).all(axis=1)))
        raise ValueError(f"{name}: must be finite, got NaN or infinity in row {row}")
    return array


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
    if Path(path).suffix.lower() in (".npz", ".csv"):
        return open_source(read_matrix(name))
    try:
        source = open_source(name)
    except (OSError, ValueError) as error:
        text = one_line(error)  # not every library names the file
        raise ValueError(text if path in text else f"{name}: {text}") from None
    if source.dtype is not None and source.dtype.kind not in "fiubV":  # V is the kind of bfloat16
        raise ValueError(f"{name}: must hold real numbers, got dtype {source.dtype}")
    return source


def read_labels(name: str, n_rows: int) -> npt.NDArray[Any]:
    """Return one label, a finite number or a string, for each row."""
    array = _read_array(name, text=True)
    if array.size != n_rows:
        raise ValueError(f"{name}: must hold one label for each of {n_rows} rows, got shape {array.shape}")
    array = array.reshape(-1)
    if array.dtype.kind not in "fiubU" or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        raise ValueError(f"{name}: labels must be finite numbers or strings, got dtype {array.dtype}")
    return array


def _read_array(name: str, *, text: bool = False) -> npt.NDArray[Any]:
    """Return the array of a file .npy, .npz:key or .csv; ``text`` allows one string a line in a .csv."""
    path, key = _part_name(name)
    suffix = Path(path).suffix.lower()
    if suffix not in (".npy", ".npz", ".csv"):
        raise ValueError(f"{name}: must be {INPUT_HELP}")
    if Path(path).stat().st_size == 0:
        raise ValueError(f"{name}: is empty")
    if suffix == ".csv":
        return _read_csv(path, text)
    try:
        loaded = np.load(path, allow_pickle=False)
        if suffix == ".npy":
            return np.asarray(loaded)
        with loaded:
            if not key and len(loaded.files) == 1:
                key = loaded.files[0]
            if key not in loaded.files:
                raise KeyError(f"{name}: name one of its arrays as {path}:KEY, from {', '.join(loaded.files)}")
            return np.asarray(loaded[key])
    except KeyError as error:
        raise ValueError(error.args[0]) from None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{name}: not a readable {suffix} file: {one_line(error)}") from None


def _part_name(name: str) -> tuple[str, str]:
    """Return the path of a file and the key of an array in it, which is empty where none is named."""
    if ".npz:" in name and not Path(name).exists():
        path, _, key = name.rpartition(":")
        return path, key
    return name, ""


def _read_csv(path: str, text: bool) -> npt.NDArray[Any]:
    """Return numbers that are separated by commas; the first line may hold the names of the columns.

    With ``text``, a file of one column is a list of labels.
    """
    import csv

    rows: list[list[float]] = []
    with open(path, newline="", encoding="utf-8-sig") as file:
        try:
            lines = [(number, row) for number, row in enumerate(csv.reader(file), 1) if any(map(str.strip, row))]
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}: not a readable .csv file: {error}") from None
    if text and lines and all(len(row) == 1 for _, row in lines):
        return _numbers_or_text([row[0].strip() for _, row in lines])
    for position, (number, row) in enumerate(lines):
        values = [_float(cell) for cell in row]
        if position == 0 and all(value is None for value in values):
            continue  # the line holds the names of the columns
        for column, (value, cell) in enumerate(zip(values, row, strict=True), 1):
            if value is None:
                raise ValueError(f"{path}: line {number}, column {column}: not a number: {cell.strip()[:40]!r}")
        if rows and len(values) != len(rows[0]):
            raise ValueError(f"{path}: line {number} has {len(values)} columns, the lines before {len(rows[0])}")
        rows.append([value for value in values if value is not None])
    if not rows:
        raise ValueError(f"{path}: holds no numbers")
    return np.array(rows)


def _float(cell: str) -> float | None:
    """Return a number, or None where the cell is not one."""
    try:
        return float(cell)
    except ValueError:
        return None


def _numbers_or_text(cells: list[str]) -> npt.NDArray[Any]:
    """Return numbers where all cells are numbers, and strings otherwise."""
    values = [_float(cell) for cell in cells]
    return np.array(cells if None in values else values)


# ---- Output --------------------------------------------------------------------------------------


def check_targets(output: Path, plot: Path | None, inputs: Sequence[str]) -> None:
    """Raise where the results could not be written or would replace an input, before any work is done."""
    paths = [output] if plot is None else [output, plot]
    if plot is not None and os.path.realpath(output) == os.path.realpath(plot):
        raise ValueError(f"{output}: -o and --plot must be different files")
    for path in paths:
        if path.is_dir():
            raise ValueError(f"{path}: is a directory")
        if not is_stream(path):
            folder = Path(os.path.realpath(path)).parent
            if not folder.is_dir():
                raise ValueError(f"{path}: its directory does not exist")
            if not os.access(folder, os.W_OK):
                raise ValueError(f"{path}: its directory cannot be written to")
        option = "-o" if path is output else "--plot"
        for name in inputs:
            if path.is_file() and _is_file_of(name, path):
                raise ValueError(f"{path}: {option} must be another file than the input {name}, which it would replace")
    if plot is not None and output.is_file() and plot.is_file() and output.samefile(plot):
        raise ValueError(f"{output}: -o and --plot must be different files")


def _is_file_of(name: str, path: Path) -> bool:
    """Return whether an input is read from the regular file, under whatever name."""
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

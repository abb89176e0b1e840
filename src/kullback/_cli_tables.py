"""Tables of the command line: CSV as NumPy, pandas and R write it, and Parquet; their numbers, labels and index."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ._npy import MOST_PACKED

MISSING = ("", "NA", "NaN", "nan", "<NA>", "None")
"""Cells that hold no label: what R and pandas write where a value is missing."""


_MOST_PACKED_TEXT = 100
"""How many bytes of text one byte of a gzip file may stand for; numbers take a tenth or more of their text."""

_FREE_BYTES = 1 << 26
"""How much any table may unpack to, however well it is packed."""


@dataclass(frozen=True)
class Layout:
    """What the options say about the columns of a table."""

    separator: str | None = None
    columns: str | None = None
    index_column: str | None = None
    labels_column: str | None = None

    def __post_init__(self) -> None:
        if self.separator is not None and (len(self.separator) != 1 or self.separator in '"\r\n'):
            raise ValueError(f"--separator must be one character or the word tab, got {self.separator!r}")

    def check_absent(self, name: str) -> None:
        """Raise where an option is given, as the input is no table."""
        for option, value in vars(self).items():
            if value is not None:
                raise ValueError(f"--{option.replace('_', '-')} needs a table, such as a .csv; {name} is none")


@dataclass
class Table:
    """Columns of cells, with the names of the columns where the file has them, and what the layout says of them."""

    source: str
    names: list[str] | None
    cells: list[Sequence[Any]]
    lines: Sequence[int]
    layout: Layout

    def __post_init__(self) -> None:
        self.index = self.labels = None
        if self.layout.index_column is not None:
            self.index = self._find(self.layout.index_column, "--index-column")
        elif self.names and len(self.names) > 1 and self.names[0] in ("", "Unnamed: 0", "__index_level_0__"):
            self.index = 0  # pandas and R leave the name of the index empty
        if self.layout.labels_column is not None:
            self.labels = self._find(self.layout.labels_column, "--labels-column")

    def _find(self, key: str, option: str) -> int:
        """Return the place of a column that is named, or counted from 1."""
        if self.names and self.names.count(key) == 1:
            return self.names.index(key)
        if key.isdecimal() and 1 <= int(key) <= len(self.cells):
            return int(key) - 1
        known = f"its columns are {', '.join(self.names)[:200]}" if self.names else "its columns have no names"
        raise ValueError(f"{option}: {self.source} has no column {key!r}; {known}, or 1 to {len(self.cells)}")

    def title(self, column: int) -> str:
        """Return the name of a column, or its number from 1."""
        return repr(self.names[column]) if self.names and self.names[column] else str(column + 1)

    def numbers(self) -> tuple[npt.NDArray[Any], list[int], list[int]]:
        """Return the matrix of numbers, the places of its columns, and those of text that were left out."""
        chosen = [column for column in range(len(self.cells)) if column not in (self.index, self.labels)]
        if self.layout.columns is not None:
            keys = next(csv.reader([self.layout.columns]), [])
            chosen = [self._find(key.strip(), "--columns") for key in keys]
        values = [self._values(column) for column in chosen]
        text = []
        if self.layout.columns is None:
            text = [column for column, found in zip(chosen, values, strict=True) if all(v is None for v in found)]
        kept = [(column, found) for column, found in zip(chosen, values, strict=True) if column not in text]
        if not kept or not self.lines:
            raise ValueError(f"{self.source}: holds no numbers")
        bad = [(found.index(None), column) for column, found in kept if None in found]
        if bad:
            row, column = min(bad)
            cell = str(self.cells[column][row]).strip()[:40]
            raise ValueError(f"{self.source}: line {self.lines[row]}, column {column + 1}: not a number: {cell!r}")
        return np.array([found for _, found in kept], dtype=float).T.copy(), [column for column, _ in kept], text

    def _values(self, column: int) -> list[float | None]:
        return [to_float(cell) for cell in self.cells[column]]

    def column_of_labels(self, column: int) -> npt.NDArray[Any]:
        """Return labels as numbers where all are, as strings otherwise, and with None where one is missing."""
        cells = [cell.strip() if isinstance(cell, str) else cell for cell in self.cells[column]]
        return to_labels(cells)


def to_labels(cells: Sequence[Any]) -> npt.NDArray[Any]:
    """Return labels as numbers where all are, as strings otherwise, and as objects with None where one is missing."""
    missing = [cell is None or str(cell) in MISSING for cell in cells]
    values = [None if gap else to_float(cell) for cell, gap in zip(cells, missing, strict=True)]
    if all(gap or value is not None for gap, value in zip(missing, values, strict=True)):
        found: list[Any] = list(values)
    else:
        found = [None if gap else str(cell) for cell, gap in zip(cells, missing, strict=True)]
    return np.array(found, dtype=object if any(missing) else None)


def to_float(cell: Any) -> float | None:
    """Return a number, or None where the cell is not one."""
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


# ---- Reading -------------------------------------------------------------------------------------


def read_csv(source: str, content: IO[bytes], separator: str, layout: Layout) -> Table:
    """Return the table of a file of separated values, whose first line may hold the names of the columns."""
    try:
        lines = _split(content, layout.separator or separator)
    except (ValueError, csv.Error, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{source}: not a readable .csv file: {error}") from None
    rows = [row for _, row in lines]
    names = None
    if len(rows) > 1 and len(rows[1]) == len(rows[0]) + 1 and _holds_names(rows):
        rows[0] = ["", *rows[0]]  # R's write.table gives its row names no name
    if _holds_names(rows):
        names = [cell.strip() for cell in rows[0]]
        lines, rows = lines[1:], rows[1:]
    width = len(names) if names else len(rows[0]) if rows else 0
    for (number, _), row in zip(lines, rows, strict=True):
        if len(row) != width:
            raise ValueError(f"{source}: line {number} has {len(row)} columns, the lines before {width}")
    return Table(source, names, list(zip(*rows, strict=True)), [number for number, _ in lines], layout)


def _split(content: IO[bytes], separator: str) -> list[tuple[int, list[str]]]:
    """Return the lines that are not blank, with their numbers; the content may be packed by gzip."""
    is_packed = content.read(2) == b"\x1f\x8b"
    content.seek(0)
    plain = _unpack(content) if is_packed else content
    text = io.TextIOWrapper(plain, encoding="utf-8-sig", newline="")
    try:
        reader = csv.reader(text, delimiter=separator)
        return [(number, row) for number, row in enumerate(reader, 1) if any(map(str.strip, row))]
    finally:
        text.detach()


def _unpack(content: IO[bytes]) -> io.BytesIO:
    """Return text that gzip packed, unless it is too long for its packed size to be a table."""
    most = _FREE_BYTES + _MOST_PACKED_TEXT * content.seek(0, io.SEEK_END)
    content.seek(0)
    text = io.BytesIO()
    with gzip.GzipFile(fileobj=content) as packed:
        while piece := packed.read(1 << 20):
            text.write(piece)
            if text.tell() > most:
                raise ValueError(f"it unpacks to more than {most} bytes; unpack it by gunzip if that is meant")
    text.seek(0)
    return text


def _holds_names(rows: list[list[str]]) -> bool:
    """Return whether the first line holds names of columns.

    Names are no numbers, but for columns that are counted, as pandas does: 0, 1, 2, ... Few of them may be a row of
    the matrix. They are names where there are three, after an empty cell, or after a word that has a number below.
    """
    if not rows:
        return False
    cells = [cell.strip() for cell in rows[0]]
    counted = [cell for cell in cells if to_float(cell) is not None]
    if not counted:
        return True
    begins = [first for first in (0, 1) if counted == list(map(str, range(first, first + len(counted))))]
    if not begins:
        return False
    if begins == [0] and (cells[0] == "" or len(counted) >= 3):
        return True
    return to_float(cells[0]) is None and cells[0] != "" and _is_number_below(rows)


def _is_number_below(rows: list[list[str]]) -> bool:
    return len(rows) > 1 and bool(rows[1]) and to_float(rows[1][0]) is not None


def read_parquet(source: str, content: IO[bytes], layout: Layout) -> Table:
    """Return the columns of a Parquet file."""
    from .readers._formats import import_library

    arrow = import_library("pyarrow", "parquet")
    parquet = import_library("pyarrow.parquet", "parquet")
    try:
        with parquet.ParquetFile(content, page_checksum_verification=True) as file:
            _check_size(file.metadata, content.seek(0, io.SEEK_END))
            fields, n_rows = list(file.schema_arrow), file.metadata.num_rows
            nested = [arrow.types.is_nested(field.type) for field in fields]
            flat = [field.name for field, is_nested in zip(fields, nested, strict=True) if not is_nested]
            found = file.read(columns=flat) if any(nested) else file.read()
        found.validate(full=True)
        names, columns = [field.name for field in fields], iter(found.columns)
        cells: list[Sequence[Any]] = [  # lists and the like may unpack to any size; their type says what they are
            [str(field.type)] * n_rows if is_nested else next(columns).to_pylist()
            for field, is_nested in zip(fields, nested, strict=True)
        ]
    except MemoryError as error:
        raise MemoryError(f"{source}: damaged, or more than fits into memory: {error}") from None
    except Exception as error:  # the library raises ValueError, OSError, KeyError and others for what is damaged
        raise ValueError(f"{source}: not a readable .parquet file: {error}") from None
    if "__index_level_0__" in names:  # pandas puts its index last
        place = names.index("__index_level_0__")
        names.insert(0, names.pop(place))
        cells.insert(0, cells.pop(place))
    return Table(source, names, cells, range(1, found.num_rows + 1), layout)


def _check_size(metadata: Any, n_bytes: int) -> None:
    """Raise where columns unpack to too much for the size of the file to be a table.

    What the file says of a single column is not looked at, because pyarrow 26 ends the process where that is damaged.
    """
    n_bytes_of_groups = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    claimed = max(8 * metadata.num_rows * metadata.num_columns, n_bytes_of_groups)
    most = _FREE_BYTES + MOST_PACKED * n_bytes
    if claimed > most:
        raise ValueError(f"it claims to unpack to {claimed} bytes, at most {most} are read")


# ---- Writing -------------------------------------------------------------------------------------


def is_csv(name: str) -> bool:
    """Return whether a name is that of separated values, which may be packed by gzip."""
    return name.lower().removesuffix(".gz").endswith((".csv", ".tsv"))


def format_csv(name: str, embedding: npt.NDArray[Any], index: tuple[str, Sequence[Any]] | None) -> bytes:
    """Return positions with the fewest digits that are read back alike, beside the index of the input if it has one.

    The name of the file says what separates the cells, and whether all is packed by gzip.
    """
    suffixes = name.lower().split(".")
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter="\t" if "tsv" in suffixes[-2:] else ",", lineterminator="\n")
    head = [f"tsne_{axis}" for axis in range(1, embedding.shape[1] + 1)]
    writer.writerow(head if index is None else [index[0], *head])
    for row, cells in enumerate(embedding.astype(str).tolist()):
        writer.writerow(cells if index is None else [index[1][row], *cells])
    content = text.getvalue().encode()
    return gzip.compress(content, mtime=0) if suffixes[-1] == "gz" else content

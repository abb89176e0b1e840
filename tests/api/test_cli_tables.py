"""Tables of the command line as NumPy, pandas and R write them, Parquet, sparse matrices and standard input."""

import gzip
import io
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from scipy import sparse

from kullback import cli
from kullback._cli_files import read_data, read_labels
from kullback._cli_tables import Layout

SMALL = ("--perplexity", "5", "--max-iter", "60")
X = np.random.default_rng(0).normal(size=(40, 3)).round(3)
SPECIES = ["setosa", "virginica"] * 20


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def frame():
    """Return a frame of pandas with three columns of numbers and one of names."""
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=["a", "b", "c"])
    table["species"] = SPECIES
    return table


def numbers(text, **layout):
    """Return the matrix of a text."""
    with open("t.csv", "w", encoding="utf-8") as file:
        file.write(text)
    return read_data("t.csv", Layout(**layout)).X.tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0,1,2\n5,6,7\n", [[5, 6, 7]]),  # pandas counts columns without names
        (",0\n0,5\n1,6\n", [[5], [6]]),  # and writes its index without a name
        (",a,b\n0,5,6\n", [[5, 6]]),
        ("Unnamed: 0,a\n0,5\n", [[5]]),
        ('"","a","b"\n"r1",5,6\n"r2",7,8\n', [[5, 6], [7, 8]]),  # R's write.csv
        ('"a","b"\n"r1",5,6\n"r2",7,8\n', [[5, 6], [7, 8]]),  # R's write.table
        ("id,1,2\n7,5,6\n", [[7, 5, 6]]),
        ("0,1\n1,0\n", [[0, 1], [1, 0]]),  # these are distributions
        ("1,2,3\n4,5,6\n", [[1, 2, 3], [4, 5, 6]]),
        ("a,1,2\nb,3,4\n", [[1, 2], [3, 4]]),  # the names of the rows
        ("a,b\n1,x\n2,y\n", [[1], [2]]),
    ],
)
def test_names_and_index_are_no_data(folder, text, expected):
    """The names of columns and rows are told from numbers, and no row of numbers is taken for names."""
    assert numbers(text) == expected


def test_options_choose_columns(folder):
    """Columns go by name, or by number from 1, and the separator may be any character."""
    text = "id;a;b;kind\n9;1;2;x\n8;3;4;y\n"
    assert numbers(text, separator=";", index_column="id") == [[1, 2], [3, 4]]
    assert numbers(text, separator=";", columns="b,2") == [[2, 1], [4, 3]]
    data = read_data("t.csv", Layout(";", None, "id", "4"))
    assert (data.index, data.labels.tolist(), data.names) == (("id", ("9", "8")), ["x", "y"], ["a", "b"])
    for layout, message in (
        ({"columns": "none"}, "--columns: t.csv has no column 'none'; its columns are id, a, b, kind, or 1 to 4"),
        ({"labels_column": "5"}, "--labels-column: t.csv has no column '5'"),
        ({"columns": "kind"}, "t.csv: line 2, column 4: not a number: 'x'"),
        ({"separator": "::"}, "--separator must be one character or the word tab, got '::'"),
    ):
        with pytest.raises(ValueError) as error:
            numbers(text, **{"separator": ";", **layout})
        assert message in str(error.value)
    np.save("x.npy", X)
    with pytest.raises(ValueError, match=r"--columns needs a table, such as a .csv; x.npy is none"):
        read_data("x.npy", Layout(columns="1"))


def test_every_form_of_a_frame(folder, frame):
    """All forms that pandas writes hold the same numbers, and the column of text is named as left out."""
    frame.to_csv("index.csv")
    frame.to_csv("plain.csv", index=False)
    frame.to_csv("x.tsv", sep="\t")
    frame.to_csv("x.csv.gz")
    names = ["index.csv", "plain.csv", "x.tsv", "x.csv.gz"]
    if find_spec("pyarrow"):
        frame.to_parquet("x.parquet")
        frame.set_index(np.arange(40) * 2).to_parquet("indexed.parquet")
        names += ["x.parquet", "indexed.parquet"]
    for name in names:
        data = read_data(name, Layout(labels_column="species"))
        assert (data.X.tolist(), data.names, data.left_out) == (X.tolist(), ["a", "b", "c"], [])
        assert data.labels.tolist() == SPECIES
        assert read_data(name, Layout()).left_out == ["'species'"]


def test_nested_columns_of_parquet(folder, frame):
    """Lists are left out like text, and an error names their type where they are asked for."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"a": frame["a"], "lists": [[1.0, 2.0]] * len(frame), "b": frame["b"], "c": frame["c"]})
    parquet.write_table(table, "nested.parquet")
    data = read_data("nested.parquet", Layout())
    assert (data.X.tolist(), data.names, data.left_out) == (X.tolist(), ["a", "b", "c"], ["'lists'"])
    with pytest.raises(ValueError, match=r"nested.parquet: line 1, column 2: not a number: 'list<"):
        read_data("nested.parquet", Layout(columns="a,lists"))


@pytest.mark.parametrize("text", ["{}", "species\n{}", "0\n{}"])
@pytest.mark.parametrize("labels", [SPECIES, ["3", "4"] * 20])
def test_labels_with_and_without_a_name(folder, text, labels):
    """A first line that is one too many is the name of the labels."""
    (folder / "l.csv").write_text(text.format("\n".join(labels)))
    assert [str(label).removesuffix(".0") for label in read_labels("l.csv", 40, Layout())] == labels


def test_labels_of_a_series(folder, frame):
    """The index of a series is no label, a missing one is None, and one of several columns must be chosen."""
    frame.loc[3, "species"] = None
    frame["species"].to_csv("l.csv")
    found = read_labels("l.csv", 40, Layout())
    assert found.tolist() == [*SPECIES[:3], None, *SPECIES[4:]]
    frame.to_csv("x.csv")
    with pytest.raises(ValueError, match=r"x.csv: has 4 columns, choose the labels by --labels-column"):
        read_labels("x.csv", 40, Layout())
    assert read_labels("x.csv", 40, Layout(labels_column="species")).tolist() == found.tolist()
    with pytest.raises(ValueError, match="must hold one label for each of 38 rows"):
        read_labels("l.csv", 38, Layout())


def test_sparse_matrices(folder):
    """What scipy.sparse.save_npz writes is read as it is, and must be finite."""
    S = sparse.random(40, 6, 0.3, format="coo", random_state=0)
    sparse.save_npz("s.npz", S)
    found = read_data("s.npz", Layout()).X
    assert sparse.issparse(found)
    np.testing.assert_array_equal(found.toarray(), S.toarray())
    S.data[0] = np.nan
    sparse.save_npz("s.npz", S)
    with pytest.raises(ValueError, match=f"got NaN or infinity in row {S.row[0]}"):
        read_data("s.npz", Layout())


def test_standard_input(folder, monkeypatch):
    """Its first bytes tell the format."""
    array, packed, matrix = io.BytesIO(), gzip.compress(b"a,b\n1,2\n"), io.BytesIO()
    np.save(array, X)
    sparse.save_npz(matrix, sparse.eye(3, format="csr"))
    for content, expected in (
        (array.getvalue(), X.tolist()),
        (packed, [[1, 2]]),
        (b"1,2\n3,4\n", [[1, 2], [3, 4]]),
        (matrix.getvalue(), np.eye(3).tolist()),
    ):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        found = read_data("-", Layout()).X
        assert (found.toarray() if sparse.issparse(found) else found).tolist() == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(ValueError, match="standard input: is empty"):
        read_data("-", Layout())


@pytest.mark.parametrize("name", ["m.csv", "m.tsv", "m.csv.gz"])
def test_the_map_as_a_table(folder, frame, capsys, name):
    """It has the index of the input, and its numbers are those of the array to the last bit."""
    frame.index = [f"row {i}" for i in range(40)]
    frame.to_csv("x.csv")
    assert cli.main(["embed", "x.csv", "-o", name, *SMALL]) == 0
    assert capsys.readouterr().err == "kullback: x.csv: left out columns of text: 'species'\n"
    assert cli.main(["embed", "x.csv", "-o", "m.npy", "--quiet", *SMALL]) == 0
    assert capsys.readouterr().err == ""
    opened = gzip.open if name.endswith("gz") else open
    with opened(name, "rt") as file:
        rows = [line.rstrip("\n").split("\t" if "tsv" in name else ",") for line in file]
    assert rows[0] == ["", "tsne_1", "tsne_2"]
    assert [row[0] for row in rows[1:]] == list(frame.index)
    again = np.array([row[1:] for row in rows[1:]], dtype=np.load("m.npy").dtype)
    assert np.array_equal(again, np.load("m.npy"))
    assert np.array_equal(read_data(name, Layout()).X.astype(again.dtype), again)


def test_divergence_of_tables(folder, capsys):
    """The index is no probability."""
    (folder / "p.csv").write_text(",a,b\n0,0.5,0.5\n1,0.25,0.75\n")
    (folder / "q.csv").write_text("x;a;b\n0;0.5;0.5\n")
    assert cli.main(["divergence", "p.csv", "p.csv"]) == 0
    assert capsys.readouterr().out.startswith("2 rows of 2")
    assert cli.main(["divergence", "q.csv", "q.csv", "--separator", ";", "--columns", "a,b"]) == 0
    assert capsys.readouterr().out.startswith("1 row of 2")


def test_divergence_compares_columns_of_one_name(folder, capsys):
    """Columns are put into one order by their names, and names that differ are refused."""
    (folder / "p.csv").write_text("a,b\n0.5,0.5\n0.25,0.75\n")
    (folder / "q.csv").write_text("b,a\n0.5,0.5\n0.75,0.25\n")
    (folder / "r.csv").write_text("b,c\n0.5,0.5\n0.75,0.25\n")
    (folder / "s.csv").write_text("0.5,0.5\n0.25,0.75\n")
    for name in ("q.csv", "s.csv"):
        assert cli.main(["divergence", "p.csv", name]) == 0
        assert "KL(p || q)  0 +- 0 nats" in capsys.readouterr().out
    assert cli.main(["divergence", "p.csv", "r.csv"]) == 2
    assert "r.csv: must have the columns of p.csv, only one has a, c" in capsys.readouterr().err

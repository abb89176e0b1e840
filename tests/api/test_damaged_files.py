"""Damaged and hostile files: refused in one line that names them, without more memory than the file has a right to."""

import gzip
import io
import os
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from scipy import sparse

from kullback import _cli_tables, cli
from kullback.streaming import RowDivergence

P = np.random.default_rng(0).dirichlet(np.ones(5), 30)


def npy(shape="(30, 5)", dtype="'<f8'", data=None, version=b"\1\0"):
    """Return an npy file with a header of one's own."""
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    length = struct.pack("<H" if version == b"\1\0" else "<I", len(header))
    return b"\x93NUMPY" + version + length + header + (P.tobytes() if data is None else data)


def archive(method=zipfile.ZIP_DEFLATED, **members):
    """Return a zip file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as packed, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name may come twice
        for name, data in members.items():
            packed.writestr(name.rstrip("_") + ".npy", data)
    return file.getvalue()


def sparse_archive(kind="csr", shape=(3, 4), **arrays):
    """Return a matrix as SciPy saves it, with arrays of one's own."""
    usual = {"indices": np.array([0, 1, 3], "i4"), "indptr": np.arange(4, dtype="i4"), "data": np.ones(3)}
    file = io.BytesIO()
    np.savez(file, format=np.array(kind.encode()), shape=np.array(shape), **(usual | arrays))
    return file.getvalue()


def patched(content, old, new, *, last=False):
    """Return the content with the first, or the last, appearance of some bytes replaced."""
    place = content.rindex(old) if last else content.index(old)
    return content[:place] + new + content[place + len(old) :]


def claimed(size):
    """Return an archive one of whose members claims to unpack to so many bytes."""
    good = archive(x=npy())
    info = zipfile.ZipFile(io.BytesIO(good)).infolist()[0]
    return patched(good, struct.pack("<II", info.compress_size, info.file_size),
                   struct.pack("<II", info.compress_size, size), last=True)  # fmt: skip


def encrypted(content):
    """Return an archive that says of its member that it is encrypted."""
    at = content.rindex(b"PK\1\2") + 8
    return content[:at] + bytes([content[at] | 1]) + content[at + 1 :]


GOOD = archive(x=npy())
FLIPPED = bytearray(GOOD)
FLIPPED[200] ^= 16

HOSTILE = {
    "shape.npy": (npy("(1000000, 1000000000)"), "header speaks of 8000000000000128"),
    "objects.npy": (npy(dtype="'|O'"), "holds Python objects"),
    "records.npy": (npy(dtype="[('a', '|O')]"), "holds Python objects"),
    "nothing.npy": (npy("(1000000000000000, 5)", "'<U0'", b""), "header speaks of"),
    "many.npy": (npy("(" + "1, " * 70 + ")", data=b"\0" * 8), "not a readable .npy file"),
    "negative.npy": (npy("(-30, -5)"), "is negative"),
    "long.npy": (npy() + b"\0", "has 1329 bytes, but its header speaks of 1328"),
    "short.npy": (npy()[:-1], "has 1327 bytes, but its header speaks of 1328"),
    "header.npy": (b"\x93NUMPY\2\0\xff\xff\xff\xff{", "header must have at most 10000 bytes, got 4294967295"),
    "nested.npy": (npy("(" * 50), "it is no npy data"),
    "token.npy": (npy("(30L, 5\\")[:100], "it is no npy data"),
    "magic.npy": (npy(version=b"\7\7"), "npy version (7, 7) is unknown"),
    "flipped.npz": (bytes(FLIPPED), "is damaged"),
    "encrypted.npz": (encrypted(GOOD), "'x.npy' is encrypted"),
    "method.npz": (archive(zipfile.ZIP_BZIP2, x=npy()), "packed in an unknown way, 12"),
    "unknown.npz": (patched(GOOD, b"\x08\0", b"\x63\0", last=True), "flipped|unknown way, 99"),
    "bomb.npz": (claimed(2**31), "claims to unpack to 2147483648 bytes"),
    "twice.npz": (archive(x=npy(), x_=npy()), "holds 'x.npy' twice"),
    "nested.npz": (archive(x=GOOD), "damaged or no array"),
    "objects.npz": (archive(x=npy(dtype="'|O'")), "holds Python objects"),
    "behind.npz": (GOOD + b"surplus", "bytes before or after"),
    "before.npz": (b"surplus" + GOOD, "bytes before or after"),
    "cut.npz": (GOOD[:-30], "damaged or no npz file"),
    "indices.npz": (sparse_archive(indices=np.array([0, 1, 10**8], "i4")), "not a readable .npz file"),
    "below.npz": (sparse_archive(indices=np.array([0, -9, 1], "i4")), "not a readable .npz file"),
    "rows.npz": (sparse_archive(indptr=np.array([0, 3, 2, 10**8], "i4")), "not a readable .npz file"),
    "empty.npz": (sparse_archive(indptr=np.array([0, 3, 9, 0], "i4")), "must have an indptr of 4 numbers that grow"),
    "complex.npz": (sparse_archive(indices=np.array([0, 1, 3j])), "its indices must be whole numbers"),
    "wide.npz": (sparse_archive("csc", (3, 10**15)), "is too large for its"),
    "high.npz": (sparse_archive("coo", (10**15, 4), row=np.zeros(3, int), col=np.zeros(3, int)), "is too large"),
    "coo.npz": (sparse_archive("coo", row=np.full(3, 9), col=np.zeros(3, int)), "not a readable .npz file"),
    "dia.npz": (sparse_archive("dia", offsets=np.array([10**15])), "must lie within its shape"),
    "lil.npz": (sparse_archive("lil"), "of an unknown format, 'lil'"),
    "shape.npz": (sparse_archive(shape=(3.5, 4)), "must be two whole numbers"),
    "flat.npz": (sparse_archive(data=np.ones((3, 3))), "not a readable .npz file"),
    "bomb.csv.gz": (gzip.compress(b"0,1\n" * (1 << 20)), "unpacks to more than"),
    "flipped.csv.gz": (gzip.compress(b"0.25,0.75\n")[:12] + b"\xff" * 30, "not a readable .csv file"),
    "cut.csv.gz": (gzip.compress(b"0.25,0.75\n" * 40)[:-9], "not a readable .csv file"),
    "behind.csv.gz": (gzip.compress(b"0.25,0.75\n" * 40) + b"surplus", "not a readable .csv file"),
    "field.csv": (b"1," + b"2" * 200_000, "field larger than field limit"),
    "escape.csv": (b"a\x1b]0;evil\x07\n1\n\x1b[2J\n", "not a number: '\\x1b[2J'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_the_command_line_refuses_in_one_line(tmp_path, monkeypatch, capsys, name):
    """The line names the file, and no more than 8 MB are allocated."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_cli_tables, "_FREE_BYTES", 1 << 20)
    content, message = HOSTILE[name]
    (tmp_path / name).write_bytes(content)
    np.save("p.npy", P)
    for command in (["divergence", name, "p.npy"], ["embed", name, "-o", "map.npy"]):
        tracemalloc.start()
        status = cli.main(command)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        output = capsys.readouterr()
        assert (status, output.out) == (2, "")
        assert output.err.startswith(f"kullback: error: {name}: ")
        assert any(part in output.err for part in message.split("|")), output.err
        assert output.err.count("\n") == 1
        assert output.err[:-1].isprintable()
        assert peak < 8 << 20
    assert {*os.listdir()} == {name, "p.npy"}


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia"])
def test_sparse_files_of_every_format_are_read(tmp_path, monkeypatch, capsys, kind):
    """What SciPy saves is read, and its divergence is that of the dense rows, beside sparse or dense ones."""
    monkeypatch.chdir(tmp_path)
    dense = np.where(P > 0.1, P, 0)
    dense /= dense.sum(1, keepdims=True)
    np.save("dense.npy", dense)
    np.save("fortran.npy", np.asfortranarray(P))
    sparse.save_npz("sparse.npz", sparse.coo_matrix(dense).asformat(kind))
    printed = []
    for p, q in (("dense.npy", "fortran.npy"), ("sparse.npz", "fortran.npy"), ("sparse.npz", "sparse.npz")):
        assert cli.main(["divergence", p, q]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert "KL(p || q) " in printed[2]


def test_archives_whose_members_overlap(tmp_path):
    """Members that share bytes could unpack to more than the file has a right to."""
    good = archive(a=npy(data=b"\0" * 1200), b=npy(data=b"\0" * 1200))
    members = zipfile.ZipFile(io.BytesIO(good)).infolist()
    path = tmp_path / "x.npz"
    at = good.index(b"PK\1\2")
    path.write_bytes(good[:at] + good[at:].replace(struct.pack("<I", members[1].header_offset), b"\0\0\0\0"))
    with pytest.raises(ValueError, match="cannot load"):
        RowDivergence.load(path)

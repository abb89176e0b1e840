"""Files that are written: whole or not at all, by every function that saves, on disks that are full or read-only."""

import errno
import os
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from kullback import affinities, cli, evaluate
from kullback._outputs import write_file
from kullback.streaming import HistogramDivergence, PairedDivergence, RowDivergence, RowValues, SupportDivergence
from kullback.tsne import Embedding

resource = pytest.importorskip("resource", reason="limits of files are of POSIX")

RNG = np.random.default_rng(0)
ROWS = RNG.dirichlet(np.ones(40), 400)


@pytest.fixture(scope="module")
def embedding():
    """Return a small map."""
    return Embedding(affinities.perplexity(RNG.normal(size=(200, 3)), 4), RNG.normal(size=(200, 2))).optimize(3)


def save_embedding(path, embedding):
    """Write a map; the other functions of this shape write other things."""
    embedding.save(path)


def save_rows(path, _):
    """Write statistics of rows."""
    RowDivergence(quantiles=(0.5,)).update(ROWS, ROWS[::-1]).save(path)


def save_values(path, _):
    """Write statistics of values."""
    RowValues(("a",), quantiles=(0.5,)).update(ROWS[:1]).save(path)


def save_histogram(path, _):
    """Write histograms."""
    HistogramDivergence(edges=np.linspace(0, 1, 80), n_features=40).update(ROWS, ROWS).save(path)


def save_support(path, _):
    """Write one pair of distributions."""
    SupportDivergence().update(ROWS[0], ROWS[1]).save(path)


def save_pairs(path, _):
    """Write paired statistics."""
    PairedDivergence(clusters=True).update(ROWS, ROWS, ROWS[::-1], cluster=np.arange(400) // 7).save(path)


def save_checkpoint(path, _):
    """Write a checkpoint, which an old file is not in the way of."""
    os.unlink(path)  # an evaluation would resume from it
    try:
        evaluate(ROWS, ROWS, quantiles=(0.5,), checkpoint=path, progress=False)
    finally:
        assert not os.path.exists(path)
        with open(path, "wb") as file:
            file.write(b"old")


SAVERS = (save_embedding, save_rows, save_values, save_histogram, save_support, save_pairs, save_checkpoint)


@contextmanager
def files_of_at_most(n_bytes):
    """Let the disk be full after so many bytes of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("save", SAVERS, ids=lambda save: save.__name__)
@pytest.mark.parametrize("n_bytes", [10, 300])
def test_a_full_disk_leaves_the_old_file(tmp_path, embedding, save, n_bytes):
    """The error names the file and the reason; the old file is as it was, and no partial file is left."""
    path = tmp_path / "state.npz"
    path.write_bytes(b"old")
    with files_of_at_most(n_bytes), pytest.raises(OSError) as caught:
        save(path, embedding)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state.npz"]


@pytest.mark.parametrize("name", ["m.npy", "m.csv", "m.csv.gz", "m.png", "m.svg", "m.pdf"])
def test_the_command_line_on_a_full_disk(tmp_path, monkeypatch, capsys, name):
    """It says in one line which file could not be written and why, and leaves the old one."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", ROWS[:60])
    (tmp_path / name).write_bytes(b"old")
    is_picture = name.endswith(("png", "svg", "pdf"))
    output = ("-o", "map.npy", "--plot", name) if is_picture else ("-o", name)
    with files_of_at_most(650 if is_picture else 500):  # the map has 608 bytes
        status = cli.main(["embed", "x.npy", *output, "--perplexity", "5", "--max-iter", "60"])
    lines = capsys.readouterr().err.splitlines()
    assert (status, len(lines)) == (2, 1)
    assert lines[0].startswith(f"kullback: error: {name}: File too large")
    assert (tmp_path / name).read_bytes() == b"old"
    assert {*os.listdir()} == {"x.npy", name, *(["map.npy"] if is_picture else [])}


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ZeroDivisionError])
def test_an_interrupted_write_leaves_the_old_file(tmp_path, error):
    """Whatever is raised while a file is written arrives as it is."""
    path = tmp_path / "x"
    write_file(path, lambda file: file.write(b"old"))

    def write(file):
        file.write(b"new")
        raise error

    with pytest.raises(error):
        write_file(path, write)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("save", SAVERS[:-1], ids=lambda save: save.__name__)
def test_paths_that_cannot_be_written(tmp_path, embedding, save):
    """The error is an OSError of the path that was given, before anything is written."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "loop").symlink_to("loop")
    for name, number in (
        ("no/x", errno.ENOENT), ("folder", errno.EISDIR), ("file/x", errno.ENOTDIR), ("loop", errno.ELOOP),
        ("x" * 300, errno.ENAMETOOLONG),
    ):  # fmt: skip
        with pytest.raises(OSError) as caught:
            save(tmp_path / name, embedding)
        assert (caught.value.errno, caught.value.filename) == (number, str(tmp_path / name))
    assert (tmp_path / "file").read_bytes() == b"old"
    assert {*os.listdir(tmp_path)} == {"folder", "file", "loop"}
    long_name = tmp_path / ("\u4e2d" * 84)  # 252 bytes, as many as a name may have, but for three
    save(long_name, embedding)
    assert long_name.stat().st_size


READ_ONLY = """
import os, sys
from kullback import cli, evaluate
from kullback.streaming import RowDivergence
cli._make_parser()  # which imports what another user may not be able to read
if os.getuid() == 0:
    os.setuid(65534)
if os.access("locked", os.W_OK):
    sys.exit("not read-only here")
for path in ("old.npz", "locked/new.npz"):
    for save in (RowDivergence().save, lambda path: evaluate([[1.0]], [[1.0]], progress=False, checkpoint=path)):
        try:
            save(path)
        except PermissionError as error:
            print(error.filename, error.strerror)
    print(cli.main(["embed", "missing.npy", "-o", path]))
"""


def test_read_only_targets(tmp_path):
    """A file or a folder that must not be written to is refused before any work, also where a rename would do."""
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:2]:  # so that another user comes to it
        parent.chmod(0o755)
    (tmp_path / "old.npz").write_bytes(b"old")
    (tmp_path / "old.npz").chmod(0o444)
    (tmp_path / "locked").mkdir(0o555)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    if "not read-only here" in done.stderr:
        pytest.skip("this user may write to read-only files, and no other can be had")
    assert done.stdout.splitlines() == [
        *["old.npz cannot be written to"] * 2, "2", *["locked/new.npz its directory cannot be written to"] * 2, "2",
    ], done.stderr  # fmt: skip
    assert done.stderr.splitlines() == [
        "kullback: error: old.npz: cannot be written to",
        "kullback: error: locked/new.npz: its directory cannot be written to",
    ]
    assert (tmp_path / "old.npz").read_bytes() == b"old"


def test_modes_and_hard_links(tmp_path):
    """A private file is private at each moment, a new one follows the umask, and other hard links stay as they were."""
    path, modes = tmp_path / "x", []

    def write(file):
        modes.extend(entry.stat().st_mode & 0o777 for entry in os.scandir(tmp_path) if "partial" in entry.name)
        file.write(b"new")

    path.write_bytes(b"old")
    path.chmod(0o600)
    (tmp_path / "other").hardlink_to(path)
    usual = os.umask(0o027)
    try:
        write_file(path, write)
        write_file(tmp_path / "fresh", write)
    finally:
        os.umask(usual)
    assert modes == [0o600, 0o640]
    assert [path.stat().st_mode & 0o777, (tmp_path / "fresh").stat().st_mode & 0o777] == modes
    assert (path.read_bytes(), (tmp_path / "other").read_bytes()) == (b"new", b"old")


def test_threads_that_save_to_one_path(tmp_path):
    """A reader sees one of the files that were written, and never another."""
    path = tmp_path / "rows.npz"
    states = [RowDivergence(quantiles=(0.5,)).update(ROWS[: 50 * n], ROWS[::-1][: 50 * n]) for n in range(1, 5)]
    states[0].save(path)

    def save(state):
        for _ in range(10):
            state.save(path)

    threads = [threading.Thread(target=save, args=(state,)) for state in states]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert RowDivergence.load(path) in states
    for thread in threads:
        thread.join()
    assert os.listdir(tmp_path) == ["rows.npz"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is of Linux")
def test_standard_output_that_is_full_or_closed(tmp_path):
    """A report that does not arrive is an error, unless nobody listens any more."""
    np.save(tmp_path / "p.npy", ROWS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("PYTHONUNBUFFERED", None)
    command = [sys.executable, "-m", "kullback.cli", "divergence", "p.npy", "p.npy"]
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full", "wb") as full, os.fdopen(writer, "wb") as closed:
        for output, status, message in (
            (full, 2, "kullback: error: standard output: No space left on device\n"),
            (closed, 0, ""),
        ):
            done = subprocess.run(
                command, cwd=tmp_path, env=environment, stdout=output, stderr=subprocess.PIPE, text=True, check=False
            )
            assert (done.returncode, done.stderr) == (status, message)

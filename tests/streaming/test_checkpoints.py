"""Evaluations that are stopped and resumed: Ctrl-C, errors and checkpoints."""

import json
import os
import signal
import threading
import time

import numpy as np
import pytest

from kullback import EvaluationInterrupted, evaluate
from kullback.streaming import RowDivergence

N = 203
"""Rows of the fixture ``data``."""


def run(p, q, **options):
    """Evaluate quietly."""
    return evaluate(p, q, quantiles=(0.5,), progress=False, **options)


class Stopping:
    """Rows that press Ctrl-C when they reach a row."""

    def __init__(self, array, row):
        self.array, self.row = array, row
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, rows):
        if rows.start <= self.row < rows.stop:
            os.kill(os.getpid(), signal.SIGINT)
        return self.array[rows]


def test_interrupt_keeps_a_partial_result_and_resumes(tmp_path, data, expected, n_threads):
    """Ctrl-C ends an evaluation at a block; the result is that of the rows before, and resuming completes it."""
    path = tmp_path / "checkpoint.npz"
    with pytest.raises(EvaluationInterrupted) as caught:
        run(Stopping(data[0], 60), data[1], batch_rows=1, checkpoint=path, n_threads=n_threads)
    n = caught.value.n_rows
    assert 60 < n <= N
    part = RowDivergence(quantiles=(0.5,)).update(data[0][:n], data[1][:n])
    assert caught.value.accumulator == part
    assert caught.value.result == part.result()
    again = Stopping(data[0], -1)
    assert run(again, data[1], checkpoint=path, n_threads=n_threads) == expected
    assert run(again, data[1], checkpoint=path) == expected  # it is complete, so nothing is left to read
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    for options, message in (({"base": 2}, "other options"), ({}, "other data")):
        with pytest.raises(ValueError, match=message):
            run(Stopping(data[0][:-1], -1) if not options else again, data[1][: N - (not options)],
                checkpoint=path, **options)  # fmt: skip
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="cannot resume"):
        run(again, data[1], checkpoint=path)


def test_sequential_sources_resume(tmp_path, data, expected):
    """A resumed evaluation begins at its row in a Parquet file, and reads an iterable up to its row."""
    path = tmp_path / "checkpoint.npz"
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    lists = arrow.FixedSizeListArray.from_arrays(arrow.array(data[1].reshape(-1)), data[1].shape[1])
    parquet.write_table(arrow.table({"rows": lists}), tmp_path / "q.parquet", row_group_size=50)
    q = f"{tmp_path / 'q.parquet'}:rows"
    with pytest.raises(EvaluationInterrupted):
        run(Stopping(data[0], 120), q, batch_rows=7, checkpoint=path)
    assert run(Stopping(data[0], -1), q, checkpoint=path) == expected


def test_checkpoints_on_the_way(tmp_path, data, expected):
    """Rounds that end at once change nothing but the number of files written."""
    assert run(*data, batch_rows=20, checkpoint=tmp_path / "c.npz", checkpoint_every=0) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz"]


def test_works_outside_the_main_thread(data, expected):
    """Outside of the main thread, where signals cannot be handled, an evaluation works all the same."""
    found = []
    thread = threading.Thread(target=lambda: found.append(run(*data)))
    thread.start()
    thread.join()
    assert found == [expected]


def test_a_reader_that_raises(tmp_path, data, expected, n_threads):
    """The error of a reader arrives as it is, no thread goes on, and the checkpoint before it is good."""
    path = tmp_path / "c.npz"

    def blocks(end):
        """Yield rows in pieces of 10, and fail in the end."""
        for start in range(0, end, 10):
            yield data[0][start : start + 10]
        if end < N:
            raise OSError("the disk is gone")

    run(*data)  # which starts the thread that tqdm keeps
    threads = threading.active_count()
    for end in (0, 100):
        with pytest.raises(OSError, match="the disk is gone"):
            run(blocks(end), data[1], batch_rows=1, checkpoint=path, checkpoint_every=0, n_threads=n_threads)
        assert threading.active_count() == threads
    assert run(blocks(210), data[1], checkpoint=path, n_threads=n_threads) == expected


class Hammering(Stopping):
    """Rows that press Ctrl-C twice, and take their time."""

    reads = 0

    def __getitem__(self, rows):
        self.reads += 1
        for _ in range(2 if rows.start == self.row else 0):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.25)  # longer than the main thread sleeps
        time.sleep(0.002)
        return self.array[rows]


def test_a_second_interrupt_stops_at_once(data):
    """A second Ctrl-C is a plain KeyboardInterrupt, after which no thread reads on."""
    source = Hammering(data[0], 20)
    with pytest.raises(KeyboardInterrupt) as caught:
        run(source, data[1], batch_rows=1, n_threads=2)
    assert caught.type is KeyboardInterrupt
    time.sleep(0.05)
    assert source.reads < 25


def test_an_ignored_interrupt_stays_ignored(data, expected):
    """A process that does not listen to Ctrl-C, such as a job in the background, goes on."""
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run(Stopping(data[0], 60), data[1], batch_rows=1) == expected
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, usual)


def test_checkpoints_are_of_the_same_columns(tmp_path, data):
    """Other weights, labels and groups are refused as other data are; so is a count that does not fit."""
    path = tmp_path / "c.npz"
    weights, group = np.arange(N) % 5, np.array(["a", "b"])[np.arange(N) % 2]
    found = run(*data, weights=weights, group=group, checkpoint=path)
    assert run(*data, weights=weights, group=group, checkpoint=path) == found
    for change in ({"weights": weights + 1}, {"weights": None}, {"group": np.roll(group, 1)}, {"labels": weights}):
        with pytest.raises(ValueError, match="other data"):
            run(*data, **({"weights": weights, "group": group} | change), checkpoint=path)
    state = dict(np.load(path))
    header = json.loads(str(state["header"]))
    for n_rows in (3, N + 1, True, -1, 1.0, None):
        np.savez(path, **state | {"header": np.array(json.dumps(header | {"n_rows": n_rows}))})
        with pytest.raises(ValueError, match="number of rows"):
            run(*data, weights=weights, group=group, checkpoint=path)
    for nowhere in (tmp_path / "no" / "c.npz", tmp_path):
        with pytest.raises(ValueError, match="checkpoint must name a file"):
            run(*data, checkpoint=nowhere)

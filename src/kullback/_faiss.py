"""Indexes of faiss: how they are built and searched, with the same bits for any number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from ._distances import Found, find_in_blocks, row_blocks
from ._recall import count_lists
from ._threads import SPARE_BYTES, ProcessLock, check_memory, serial_blas, startable_threads

SERIAL_WORK = 1e7
"""Below so many differences of coordinates, which take 1 ms, one thread serves as well, and a busy machine better."""

POINTS_PER_LIST = 64
"""How many rows per list k-means sees; 256 made the recall 0.002 higher and training four times as long."""

BLOCK_WORK = 2**30
"""Differences of coordinates in one call of faiss, which nothing interrupts: 0.1 s, and 0.5 s of one slow core where
the points do not fit into its cache. A call has at least a row for each thread."""

PRODUCT_ROWS = 256
"""Rows whose distances to all points are one task of matrix products. The number is fixed, so that a product has the
same shape, and thus the same bits, on any number of threads."""

_faiss_lock = ProcessLock()


def build_flat(rows: npt.NDArray[np.float32]) -> Any:
    """Return the index of faiss that compares with all rows."""
    with faiss_settings(1) as faiss:
        flat = faiss.IndexFlatL2(rows.shape[1])
        flat.add(rows)
    return flat


def build_lists(rows: npt.NDArray[np.float32], seed: int, n_threads: int) -> Any:
    """Return the index of faiss that holds the rows in lists, each about a centre of its own."""
    n_points, n_features = rows.shape
    if n_points**2 * n_features < SERIAL_WORK:
        n_threads = 1
    with faiss_settings(n_threads) as faiss:
        lists = faiss.IndexIVFFlat(faiss.IndexFlatL2(n_features), n_features, count_lists(n_points))
        lists.cp.seed = seed
        lists.cp.min_points_per_centroid = 1
        lists.cp.max_points_per_centroid = POINTS_PER_LIST
        lists.train(rows)
        step = rows_of_call(n_threads, lists.nlist * n_features)
        for start in range(0, n_points, step):
            lists.add(rows[start : start + step])
    return lists


def rows_of_call(n_threads: int, work_of_row: float) -> int:
    """Return how many rows one call of faiss takes, so that Ctrl-C is soon noticed: as many for each thread."""
    return n_threads * max(1, int(BLOCK_WORK / max(1.0, work_of_row)) // n_threads)


@contextmanager
def faiss_settings(n_threads: int, blas_threshold: int = 2**31 - 1) -> Iterator[Any]:
    """Give faiss so many threads and keep it off its BLAS; restore both at the end, as they belong to the process.

    BLAS is used for searches of so many rows as the threshold.
    """
    import faiss

    check_memory(SPARE_BYTES)
    with _faiss_lock:
        threads, threshold = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold
        faiss.omp_set_num_threads(startable_threads(n_threads, SPARE_BYTES))
        faiss.cvar.distance_compute_blas_threshold = blas_threshold
        try:
            yield faiss
        finally:
            faiss.omp_set_num_threads(threads)
            faiss.cvar.distance_compute_blas_threshold = threshold


def ask_flat(flat: Any, rows: npt.NDArray[np.float32], k: int, n_threads: int) -> Found:
    """Return the k nearest rows of an index that compares with all, and their squared distances."""
    with faiss_settings(n_threads):
        squared, indices = flat.search(rows, k)
    return indices, squared


def ask_lists(lists: Any, rows: npt.NDArray[np.float32], k: int, n_probes: int, n_threads: int) -> Found:
    """Return the k nearest rows in so many lists, and their squared distances: in all lists, those of `ask_flat`."""
    with faiss_settings(n_threads):
        lists.nprobe = n_probes
        squared, indices = lists.search(rows, k)
        incomplete = np.flatnonzero(indices[:, -1] < 0)
        if len(incomplete):  # the lists that were probed hold fewer than k rows together
            lists.nprobe = lists.nlist
            squared[incomplete], indices[incomplete] = lists.search(rows[incomplete], k)
    return indices, squared


def ask_by_products(flat: Any, rows: npt.NDArray[np.float32], k: int, n_threads: int) -> Found:
    """Return what `ask_flat` does, to the rounding of |x|^2 - 2 x.y + |y|^2 in float32, from products of matrices.

    It takes a fifth of the time. A row's bits depend on the rows around it, so the same rows are to come in the same
    order. Each task is a search of faiss on one thread of BLAS.
    """
    with faiss_settings(1, PRODUCT_ROWS // 8) as faiss, serial_blas():

        def find(block: slice) -> Found:
            faiss.omp_set_num_threads(1)  # a setting of each thread
            squared, indices = flat.search(rows[block], k)
            return indices, squared

        return find_in_blocks(find, len(rows), k, row_blocks(len(rows), PRODUCT_ROWS, 1), n_threads)

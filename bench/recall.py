"""Recall and CPU time of searches for 90 neighbours, at the least effort and at a recall of 0.95 (devel/neighbours.md).

    python bench/recall.py [--data mnist63k.npz] [--kinds gaussian50 mnist ...] [--points 12000 40000] [--recall 0.95]

The recall is that of 400 rows on which the effort was not chosen. Times are CPU seconds, which other jobs change less
than the time on the clock.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from mnist import principal_components

from kullback.neighbors import Graph, NeighborIndex

K, CHECKED = 90, 400


def unit_rows(n_points: int) -> np.ndarray:
    """Return rows like embeddings of sentences: 200 topics in 384 dimensions whose variances fall, of length 1."""
    rng = np.random.default_rng(2)
    deviations = np.arange(1, 385) ** -0.5
    topics = 0.7 * rng.normal(size=(200, 384)) * deviations
    rows = topics[rng.integers(200, size=n_points)] + rng.normal(size=(n_points, 384)) * deviations
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


KINDS: dict[str, Callable[[int], np.ndarray]] = {
    "gaussian50": lambda n: np.random.default_rng(0).normal(size=(n, 50)),
    "gaussian20": lambda n: np.random.default_rng(0).normal(size=(n, 20)),
    "uniform50": lambda n: np.random.default_rng(1).random((n, 50)),
    "unit384": unit_rows,
    "topics100": lambda n: np.random.default_rng(3).dirichlet(np.full(100, 0.1), n),
}


def deform(images: np.ndarray, n_points: int) -> np.ndarray:
    """Return images of digits that are turned, stretched and moved a little, each anew."""
    from scipy.ndimage import affine_transform

    rng = np.random.default_rng(4)
    middle = np.full(2, 13.5)
    deformed = np.empty((n_points, 784), np.float32)
    for i, image in enumerate(images[rng.integers(len(images), size=n_points)].reshape(-1, 28, 28)):
        matrix = np.eye(2) + 0.1 * rng.normal(size=(2, 2))
        offset = middle - matrix @ middle + 0.7 * rng.normal(size=2)
        deformed[i] = affine_transform(image.astype(np.float32), matrix, offset, order=1).reshape(-1)
    _, vectors = np.linalg.eigh(np.cov(deformed[:20_000].T))
    return deformed @ vectors[:, :-51:-1]


def check_recall(X: np.ndarray, graph: Graph) -> float:
    """Return the share of the true neighbours that a graph holds, in rows of another sample."""
    rows = np.random.default_rng(99).choice(len(X), CHECKED, replace=False)
    true = NeighborIndex(X, method="exact", copy=False).search(X[rows], K + 1)
    limits = true.distances.reshape(-1, K + 1)[:, K:]  # a row is the first of its own neighbours
    return float(np.mean(graph.distances.reshape(-1, K)[rows] <= limits * (1 + 1e-6)))


def main() -> None:
    """Print a row of the table for each kind and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="mnist63k.npz: images and labels, for the kinds mnist and deformed")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--points", nargs="+", type=int, default=[12_000])
    parser.add_argument("--recall", type=float, default=0.95)
    arguments = parser.parse_args()
    kinds = dict(KINDS)
    if arguments.data:
        kinds["mnist"] = lambda n: principal_components(arguments.data, n)
        kinds["deformed"] = lambda n: deform(np.load(arguments.data)["images"], n)
    print("| data | rows | recall at least effort | CPU s | recall at this effort | reported | lists | CPU s |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for kind in arguments.kinds:
        for n_points in arguments.points:
            X = np.ascontiguousarray(kinds[kind](n_points), np.float32)
            cells = []
            for recall in (1e-9, arguments.recall):
                index = NeighborIndex(X, recall=recall, copy=False)
                start = time.process_time()
                graph = index.graph(K)
                seconds = time.process_time() - start
                cells += [f"{check_recall(X, graph):.3f}", f"{seconds:.1f}"]
            search = index._search.search
            n_probes, _ = search.choose_effort(K, 1)
            lists = f"{n_probes} of {search.lists.nlist}" if n_probes else "all"
            print(f"| {kind} | {n_points:,} | {' | '.join(cells[:3])} | {graph.recall} | {lists} | {cells[3]} |")


if __name__ == "__main__":
    main()

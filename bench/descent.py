"""Compare the annealed descent of ``TSNE`` with the classic one of 750 iterations, on data of many kinds.

    python bench/descent.py [--sets digits,swiss,...] [--starts pca,random,spectral] [--seeds 0,1]
        [--data mnist63k.npz] [--n-jobs 2]

Both descend from one start on one P. Printed are the exact KL of the classic descent, that of the annealed one divided
by it, the number of iterations at which that one is at rest, and its share of the time of the descent. ``--data`` adds
the rows of a file, cut to 8,000 and whole, by their first 50 principal components.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.decomposition import PCA

from kullback import affinities, gradient
from kullback.tsne import TSNE, Embedding, initialization
from kullback.tsne.schedules import descent_phases

Array = np.ndarray[Any, Any]


# ---- Data -----------------------------------------------------------------------------------------


def branching_paths(rng: np.random.Generator, n_points: int = 2000, n_branches: int = 12) -> Array:
    """Return noisy points along paths in 50 dimensions, each of which begins at the end or middle of another."""
    nodes, parts = [np.zeros(50)], []
    for sizes in np.array_split(np.arange(n_points), n_branches):
        direction = rng.normal(size=50)
        steps = np.full((len(sizes), 1), 30 / len(sizes)) * direction / np.linalg.norm(direction)
        path = nodes[rng.integers(len(nodes))] + np.cumsum(steps + 0.02 * rng.normal(size=(len(sizes), 50)), axis=0)
        parts.append(path + 0.15 * rng.normal(size=path.shape))
        nodes += [path[-1], path[len(path) // 2]]
    return np.vstack(parts)


def topics(rng: np.random.Generator) -> Array:
    """Return square roots of the shares of 500 words in 2,000 documents, which mix 20 topics."""
    words = rng.dirichlet(np.full(500, 0.05), 20)
    mixtures = rng.dirichlet(np.full(20, 0.1), 2000)
    return np.sqrt(np.array([rng.multinomial(200, share) for share in mixtures @ words]) / 200)


def unit_rows(rng: np.random.Generator) -> Array:
    """Return unit rows of 384 dimensions in clusters of clusters, like embeddings of sentences."""
    outer = rng.normal(size=(8, 1, 384))
    inner = (outer + 0.7 * rng.normal(size=(8, 6, 384))).reshape(-1, 384)
    rows = inner[rng.integers(48, size=2500)] + rng.normal(size=(2500, 384))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def ring(rng: np.random.Generator) -> Array:
    """Return 600 noisy points of a circle."""
    angles = 2 * np.pi * rng.random(600)
    return np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1) + 0.03 * rng.normal(size=(600, 3))


def sphere(rng: np.random.Generator) -> Array:
    """Return 1,500 points of a sphere."""
    rows = rng.normal(size=(1500, 3))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def unequal_clusters(rng: np.random.Generator) -> Array:
    """Return clusters of 1,000 points down to 5."""
    sizes = (1000, 500, 250, 120, 60, 30, 20, 10, 5, 5)
    return np.vstack([rng.normal(size=(size, 20)) + 3 * rng.normal(size=20) for size in sizes])


SETS = {
    "digits": lambda rng: datasets.load_digits().data,
    "iris": lambda rng: datasets.load_iris().data + 0.01 * rng.normal(size=(150, 4)),
    "breast cancer": lambda rng: datasets.load_breast_cancer().data / datasets.load_breast_cancer().data.std(axis=0),
    "ten clusters": lambda rng: datasets.make_blobs(1500, 20, centers=10, cluster_std=2.5, random_state=0)[0],
    "unequal clusters": unequal_clusters,
    "unit rows": unit_rows,
    "topics": topics,
    "branching paths": branching_paths,
    "swiss roll": lambda rng: datasets.make_swiss_roll(1500, noise=0.05, random_state=0)[0],
    "sphere": sphere,
    "ring": ring,
    "Gaussian 10": lambda rng: rng.normal(size=(1500, 10)),
    "Gaussian 50": lambda rng: rng.normal(size=(2000, 50)),
    "uniform 5": lambda rng: rng.random((1000, 5)),
    "heavy tails": lambda rng: rng.standard_t(2, size=(1500, 20)),
}


def read_rows(path: str) -> Iterator[tuple[str, Array]]:
    """Return 8,000 rows of a file, and all of them, by their first 50 principal components."""
    with np.load(path) as file:
        rows = file[file.files[0]].astype(np.float32)
    for n_rows in (8000, len(rows)):
        some = rows[np.random.default_rng(0).permutation(len(rows))[:n_rows]]
        yield f"{n_rows} rows", PCA(50, random_state=0).fit_transform(some) if some.shape[1] > 50 else some


# ---- Descents -------------------------------------------------------------------------------------


def descend(P: Any, start: Array, n_jobs: int, **parameters: Any) -> tuple[float, int, float]:
    """Return the exact KL at the end, the number of iterations, and the seconds that they took."""
    embedding = Embedding(P, start, n_threads=n_jobs)
    begin = time.perf_counter()
    for end, options in descent_phases(TSNE(**parameters), embedding.n_points):
        embedding.optimize(end - embedding.n_iter, **options)
    seconds = time.perf_counter() - begin
    loss = gradient.tsne_loss(P.P, embedding.positions, exact=True, n_threads=n_jobs)
    return float(loss.kl_divergence), embedding.n_iter, seconds


def compare(X: Array, start_name: str, seed: int, n_jobs: int) -> tuple[float, ...]:
    """Return KL of the classic descent, the ratios of KL at 300 iterations and at rest, iterations, share of time."""
    P = affinities.perplexity(X, min(30, (len(X) - 1) / 3), n_threads=n_jobs)
    if start_name == "pca":
        start = initialization.pca(X, random_state=seed)
    elif start_name == "spectral":
        start = initialization.spectral(P, random_state=seed)
    else:
        start = initialization.random(len(X), random_state=seed)
    kl, _, seconds = descend(P, start, n_jobs, early_exaggeration_iter=250, max_iter=750)
    at_300, _, _ = descend(P, start, n_jobs, max_iter=300, tol=None)
    at_rest, n_iter, seconds_to_rest = descend(P, start, n_jobs)
    return kl, at_300 / kl, at_rest / kl, n_iter, seconds_to_rest / seconds


def main() -> None:
    """Print a line for each set, start and seed, and the medians and largest of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--starts", default="pca,random")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--data")
    parser.add_argument("--n-jobs", type=int, default=2)
    arguments = parser.parse_args()
    print("| data | start | seed | KL, 750 classic | at 300 | at rest | iterations | time |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for seed in map(int, arguments.seeds.split(",")):
        found = [(name, SETS[name](np.random.default_rng(seed))) for name in arguments.sets.split(",") if name]
        for name, X in found + list(read_rows(arguments.data) if arguments.data else ()):
            for start in arguments.starts.split(","):
                kl, *others = compare(X, start, seed, arguments.n_jobs)
                rows.append(others)
                at_300, at_rest, n_iter, share = others
                cells = f"{kl:.3f} | {at_300:.3f} | {at_rest:.3f} | {n_iter} | {share:.2f}"
                print(f"| {name} | {start} | {seed} | {cells} |", flush=True)
    print("median", np.median(rows, axis=0).round(3), "largest", np.max(rows, axis=0).round(3))


if __name__ == "__main__":
    main()

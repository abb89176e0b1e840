"""Place 3,000 held-out MNIST digits in the map of 60,000 others, with us and with openTSNE.

    python bench/new_points.py --data mnist63k.npz [--maps maps.npz] [--points 60000] [--new 3000]

Both systems place points in the same map, which is ours, on the same 50 principal components. The report has the
seconds of the search for neighbours and of everything else, and how often the nearest point of the map has the label
of the new point. It compares this with a map in which all points were embedded together. ``--maps`` keeps the two maps
in a file.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

import kullback
from kullback.neighbors import NeighborIndex
from kullback.tsne import placement


def principal_components(images: np.ndarray, n_components: int = 50) -> np.ndarray:
    """Return the first principal components of the images, in float32."""
    rows = images.reshape(len(images), -1).astype(np.float32)
    rows -= rows.mean(axis=0)
    values = np.linalg.eigh(rows.T @ rows)[1][:, : -n_components - 1 : -1]
    return np.ascontiguousarray(rows @ values)


def make_maps(X: np.ndarray, n_old: int, path: str | None, n_jobs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the map of the old points and that of all points, from the file if it exists."""
    if path and Path(path).exists():
        with np.load(path) as maps:
            return maps["old"], maps["all"]
    options = {"random_state": 0, "max_iter": 750, "n_jobs": n_jobs}
    old = kullback.TSNE(**options).fit_transform(X[:n_old])
    together = kullback.TSNE(**options).fit_transform(X)
    if path:
        np.savez(path, old=old, all=together)
    return old, together


def accuracy(old: np.ndarray, labels: np.ndarray, new: np.ndarray, new_labels: np.ndarray) -> float:
    """Return the share of new points whose nearest point of the map has their label."""
    from scipy.spatial import cKDTree

    return float((labels[cKDTree(old).query(new)[1]] == new_labels).mean())


def run_kullback(X: np.ndarray, positions: np.ndarray, X_new: np.ndarray, n_jobs: int) -> tuple[Any, dict[str, float]]:
    """Take the steps of our ``TSNE.transform``. What fit makes is not timed."""
    index = NeighborIndex(X, random_state=0)
    joint = kullback.affinities.perplexity(index, 30, n_threads=n_jobs)
    reference = placement.ReferenceMap(index, joint.neighbors, positions, perplexity=30)
    start = time.perf_counter()
    index.search(X_new, reference.n_neighbors, n_threads=n_jobs)
    middle = time.perf_counter()
    placed, _ = reference.place(X_new, n_threads=n_jobs)
    end = time.perf_counter()
    return placed, {"neighbours": middle - start, "placement": (end - middle) - (middle - start)}


def run_openTSNE(X: np.ndarray, positions: np.ndarray, X_new: np.ndarray, n_jobs: int) -> tuple[Any, dict[str, float]]:
    """Take the steps of openTSNE's ``transform`` at its default settings, in our map."""
    import openTSNE

    known = openTSNE.affinity.PerplexityBasedNN(X, perplexity=30, n_jobs=n_jobs, random_state=0)
    embedding = openTSNE.TSNEEmbedding(positions.astype(np.float64), known, n_jobs=n_jobs, random_state=0)
    embedding.prepare_interpolation_grid()  # not timed, while ours is made in the timed call
    start = time.perf_counter()
    partial = embedding.prepare_partial(X_new, initialization="median", k=25, perplexity=5)
    middle = time.perf_counter()
    partial.optimize(250, exaggeration=1.5, learning_rate=0.1, momentum=0.8, max_grad_norm=0.25, inplace=True)
    end = time.perf_counter()
    return np.asarray(partial), {"neighbours": middle - start, "placement": end - middle}


SYSTEMS = {"kullback": run_kullback, "openTSNE": run_openTSNE}


def main() -> None:
    """Run both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="mnist63k.npz: images and labels")
    parser.add_argument("--maps", help="keep the maps here")
    parser.add_argument("--points", type=int, default=60_000)
    parser.add_argument("--new", type=int, default=3_000)
    parser.add_argument("--systems", nargs="*", choices=SYSTEMS, default=[*SYSTEMS])
    parser.add_argument("--n-jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    n_old, n_all = arguments.points, arguments.points + arguments.new

    kullback.show_config()
    with np.load(arguments.data) as data:
        order = np.random.default_rng(0).permutation(len(data["labels"]))[:n_all]
        X, labels = principal_components(data["images"][order]), data["labels"][order]
    old, together = make_maps(X, n_old, arguments.maps, arguments.n_jobs)
    X, X_new = X[:n_old], X[n_old:]
    print(f"\n{'system':<12} {'neighbours, s':>13} {'placement, s':>13} {'accuracy':>9}")
    for name in arguments.systems:
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed: left out")
            continue
        placed, seconds = SYSTEMS[name](X, old, X_new, arguments.n_jobs)
        score = accuracy(old, labels[:n_old], placed, labels[n_old:])
        print(f"{name:<12} {seconds['neighbours']:13.2f} {seconds['placement']:13.2f} {score:9.4f}", flush=True)
    score = accuracy(together[:n_old], labels[:n_old], together[n_old:], labels[n_old:])
    print(f"{'all together':<12} {'':>13} {'':>13} {score:9.4f}")


if __name__ == "__main__":
    main()

"""Embed digits with us and with every peer that is installed, and measure all of them alike.

    python bench/mnist.py --data mnist63k.npz [--systems kullback openTSNE sklearnex sklearn] [--points 63000]
    python bench/mnist.py --data digits

Each system runs in a process of its own on the same 50 principal components: "kullback" with its defaults, "classic"
with the descent of the peers, "uniform" with 15 neighbours that are drawn alike, and peers with theirs. The report has
the times of stages; the peak memory, less what the process had when data and modules were loaded; the exact KL in
float64, with Z over all pairs and the same P from exact neighbours for all; the recall of 10 neighbours; and the share
of points whose class is that of most of their 10 neighbours in the map. scikit-learn takes many minutes for MNIST, and
runs only if it is named.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import mode
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

MODULES = {
    "kullback": "kullback",
    "classic": "kullback",
    "uniform": "kullback",
    "openTSNE": "openTSNE",
    "sklearnex": "sklearnex",
    "sklearn": "sklearn",
}
DEFAULT = ("kullback", "classic", "uniform", "sklearnex", "openTSNE")


def load(path: str, n_points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images as rows of float32, and their labels."""
    if path == "digits":
        images, labels = load_digits(return_X_y=True)
    else:
        with np.load(path) as file:
            images, labels = file["images"], file["labels"]
    images, labels = images[:n_points], labels[:n_points]
    return images.reshape(len(images), -1).astype(np.float32), labels


def principal_components(images: np.ndarray, n_components: int = 50) -> np.ndarray:
    """Return the first principal components of the images, in float32."""
    images = images - images.mean(axis=0)
    values = np.linalg.eigh(images.T @ images)[1][:, : -n_components - 1 : -1]
    return np.ascontiguousarray(images @ values)


# ---- Systems: each returns the embedding and the seconds of its stages -----------------------------


def run_kullback(X: np.ndarray, n_iter: int, n_jobs: int) -> tuple[np.ndarray, dict[str, float]]:
    """Run our estimator with its defaults, which end when the map is at rest."""
    return fit_kullback(X, n_jobs=n_jobs)


def run_classic(X: np.ndarray, n_iter: int, n_jobs: int) -> tuple[np.ndarray, dict[str, float]]:
    """Run our estimator with the descent that the others have."""
    return fit_kullback(X, n_jobs=n_jobs, early_exaggeration_iter=250, max_iter=n_iter, n_iter_without_progress=n_iter)


def run_uniform(X: np.ndarray, n_iter: int, n_jobs: int) -> tuple[np.ndarray, dict[str, float]]:
    """Run our estimator with 15 neighbours that are drawn alike."""
    return fit_kullback(X, n_jobs=n_jobs, n_neighbors=15)


def fit_kullback(X: np.ndarray, **options: Any) -> tuple[np.ndarray, dict[str, float]]:
    """Run our estimator."""
    from kullback import TSNE

    estimator = TSNE(random_state=0, **options)
    embedding = estimator.fit_transform(X)
    return embedding, {**estimator.timings_, "iterations": estimator.n_iter_}


def run_openTSNE(X: np.ndarray, n_iter: int, n_jobs: int) -> tuple[np.ndarray, dict[str, float]]:
    """Take the steps that openTSNE recommends. At this size it interpolates by FFT."""
    import openTSNE

    clock = [time.perf_counter()]
    affinities = openTSNE.affinity.PerplexityBasedNN(X, perplexity=30, n_jobs=n_jobs, random_state=0)
    clock.append(time.perf_counter())
    init = openTSNE.initialization.pca(X, random_state=0)
    embedding = openTSNE.TSNEEmbedding(init, affinities, n_jobs=n_jobs, random_state=0)
    embedding.optimize(250, exaggeration=12, momentum=0.8, inplace=True)
    embedding.optimize(n_iter - 250, momentum=0.8, inplace=True)
    clock.append(time.perf_counter())
    return np.asarray(embedding), {"P": clock[1] - clock[0], "descent": clock[2] - clock[1]}


def run_sklearn(X: np.ndarray, n_iter: int, n_jobs: int) -> tuple[np.ndarray, dict[str, float]]:
    """Run scikit-learn's estimator, which may be patched."""
    from sklearn.manifold import TSNE

    start = time.perf_counter()
    estimator = TSNE(perplexity=30, max_iter=n_iter, init="pca", random_state=0, n_jobs=n_jobs)
    embedding = estimator.fit_transform(X)
    return embedding, {"all": time.perf_counter() - start}


def run_sklearnex(X: np.ndarray, n_iter: int, n_jobs: int) -> tuple[np.ndarray, dict[str, float]]:
    """Run scikit-learn's estimator on oneDAL."""
    from sklearnex import patch_sklearn

    patch_sklearn(verbose=False)
    return run_sklearn(X, n_iter, n_jobs)


# ---- Measuring -----------------------------------------------------------------------------------


def memory_in_use() -> int:
    """Return the resident bytes of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


class PeakMemory:
    """The most resident memory, in bytes above the start, looked at every 20 ms."""

    def __enter__(self) -> PeakMemory:
        self.start = self.peak = memory_in_use()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.stop.wait(0.02):
            self.peak = max(self.peak, memory_in_use())

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()
        self.peak = max(self.peak, memory_in_use()) - self.start


def run_system(name: str, folder: Path, n_iter: int, n_jobs: int) -> None:
    """Run one system in this process and leave its embedding and its report in the folder."""
    X = np.load(folder / "X.npy")
    warm_up = globals()[f"run_{name}"]
    warm_up(X[:500].copy(), 260, n_jobs)  # so that imports and compilation are not timed
    with PeakMemory() as memory:
        start = time.perf_counter()
        embedding, stages = globals()[f"run_{name}"](X, n_iter, n_jobs)
        total = time.perf_counter() - start
    np.save(folder / f"{name}.npy", embedding)
    report = {"seconds": total, "stages": stages, "peak MB": memory.peak / 1e6}
    (folder / f"{name}.json").write_text(json.dumps(report))


def judge_maps(folder: Path, X: np.ndarray, labels: np.ndarray, reports: dict[str, dict[str, Any]]) -> None:
    """Add to the report of each system what its map is worth, from exact neighbours that are the same for all."""
    from kullback import affinities, gradient, neighbors, quality

    true = neighbors.nearest_neighbors(X, 90, method="exact")
    P = affinities.perplexity(_as_graph(*true).astype(np.float64), 30, metric="precomputed").P
    for system, report in reports.items():
        embedding = np.load(folder / f"{system}.npy")
        report["exact KL"] = gradient.tsne_loss(P, embedding, exact=True).kl_divergence
        report["recall"] = quality.neighborhood_recall(true, embedding, n_neighbors=10)
        nearest = NearestNeighbors(n_neighbors=10).fit(embedding).kneighbors(return_distance=False)
        report["label accuracy"] = float(np.mean(mode(labels[nearest], axis=1).mode == labels))


def main() -> None:
    """Run everything and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="digits, or mnist63k.npz: images and labels")
    parser.add_argument("--systems", nargs="*", choices=MODULES, default=DEFAULT)
    parser.add_argument("--points", type=int, default=63_000)
    parser.add_argument("--iterations", type=int, default=750)
    parser.add_argument("--n-jobs", type=int, default=os.cpu_count())
    parser.add_argument("--json", help="write the reports here")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        run_system(arguments.one, Path(arguments.data), arguments.iterations, arguments.n_jobs)
        return

    from kullback import show_config

    show_config()
    print(f"{'processor':<12} {platform.processor() or platform.machine()}, {arguments.n_jobs} threads")
    reports = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images, labels = load(arguments.data, arguments.points)
        X = principal_components(images)
        np.save(folder / "X.npy", X)
        for system in arguments.systems:
            if importlib.util.find_spec(MODULES[system]) is None:
                print(f"{system} is not installed: left out")
                continue
            options = {
                "data": name,
                "one": system,
                "iterations": arguments.iterations,
                "n-jobs": arguments.n_jobs,
            }
            command = [sys.executable, __file__]
            for option, value in options.items():
                command += [f"--{option}", str(value)]
            environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.n_jobs)}
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
            reports[system] = json.loads((folder / f"{system}.json").read_text())
            print(f"{system}: {reports[system]['seconds']:.1f} s", flush=True)
        judge_maps(folder, X, labels, reports)
    _print_table(reports)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(reports, indent=2))


def _as_graph(indices: np.ndarray, distances: np.ndarray) -> Any:
    from scipy import sparse

    n_points, k = indices.shape
    starts = np.arange(n_points + 1) * k
    return sparse.csr_array((distances.reshape(-1), indices.reshape(-1), starts), shape=(n_points, n_points))


def _print_table(reports: dict[str, dict[str, Any]]) -> None:
    ours = reports.get("kullback", {}).get("seconds", float("nan"))
    heads = f"{'system':<10} {'seconds':>8} {'x ours':>7} {'peak MB':>8} {'exact KL':>9} {'recall':>7}"
    print(f"\n{heads} {'label accuracy':>15}  stages")
    for system, r in reports.items():
        stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in r["stages"].items())
        print(f"{system:<10} {r['seconds']:8.1f} {r['seconds'] / ours:7.2f} {r['peak MB']:8.0f} "
              f"{r['exact KL']:9.4f} {r['recall']:7.4f} {r['label accuracy']:15.4f}  {stages}")  # fmt: skip


if __name__ == "__main__":
    main()

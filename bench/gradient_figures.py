"""Every figure of the gradient on a real map, with openTSNE's kernels timed in turn with ours.

    python bench/gradient_figures.py --data mnist63k.npz [--million]

The map is that of the 63,000 MNIST digits half-way through a run (250 iterations of early exaggeration and 200
more); the million points are 16 jittered copies of it at twice its size. Errors are relative to the exact
float64 forces on 1,000 points. Medians; peers and ours take turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from mnist import principal_components
from sklearn.datasets import load_digits

import kullback
from kullback import affinities, gradient
from kullback._kernels import attraction
from kullback.tsne import Embedding
from kullback.tsne import repulsion as _repulsion

THREADS = 2


def medians(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median milliseconds of each function, called in turn, each time after a call that is not timed.

    Without that call, ours would wait for the threads of a peer's own OpenMP, which spin for a while.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            function()
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: 1e3 * float(np.median(taken)) for name, taken in seconds.items()}


def exact_forces(Y: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the exact repulsion on some points."""
    exact = np.ascontiguousarray(Y, np.float64)
    forces = np.empty((len(rows), Y.shape[1]))
    engine = _repulsion.ExactRepulsion(exact.shape, np.float64, 1.0, THREADS)
    engine.repel(rows.astype(np.int32), exact, forces)
    return forces


def repulsion(title: str, Y: np.ndarray, methods: dict[str, tuple[str, float]], rounds: int, peers: bool) -> None:
    """Print time and error of our engines and of single calls, whose scratch is new or kept, and of openTSNE's."""
    rows = np.random.default_rng(0).choice(len(Y), 1000, replace=False)
    exact = exact_forces(Y, rows)
    results: dict[str, np.ndarray] = {}
    functions: dict[str, Callable[[], object]] = {}
    for name, (method, theta) in methods.items():
        engine = _repulsion.make_repulsion(Y.shape, Y.dtype, method=method, theta=theta, dof=1.0, n_threads=THREADS)
        results[name] = np.empty_like(Y)
        functions[name] = lambda engine=engine, out=results[name]: engine(Y, out)
    for name, (method, theta) in methods.items():
        call = f"{name}, one call"

        def repel(call: str = call, method: str = method, theta: float = theta) -> None:
            results[call], _ = gradient.repulsive_forces(Y, method=method, theta=theta, n_threads=THREADS)

        functions[call] = repel
    if peers:
        from openTSNE import _tsne, quad_tree

        Y64 = Y.astype(np.float64)

        def barnes_hut() -> None:
            out = np.zeros_like(Y64)
            tree = quad_tree.QuadTree(Y64)
            sum_q = _tsne.estimate_negative_gradient_bh(tree, Y64, out, theta=0.5, dof=1, num_threads=THREADS)
            results["openTSNE Barnes-Hut"] = -out * sum_q

        def fft() -> None:
            out = np.zeros_like(Y64)
            options = {"n_interpolation_points": 3, "min_num_intervals": 50, "ints_in_interval": 1, "dof": 1}
            sum_q = _tsne.estimate_negative_gradient_fft_2d(Y64, out, **options)
            results["openTSNE FFT"] = -out * sum_q

        functions |= {"openTSNE Barnes-Hut": barnes_hut, "openTSNE FFT": fft}
    print(f"\n{title}: span {np.ptp(Y, axis=0).max():.0f}")
    for name, milliseconds in medians(functions, rounds).items():
        error = np.linalg.norm(results[name][rows] - exact) / np.linalg.norm(exact)
        print(f"  {name:<24} {milliseconds:9.2f} ms   error {error:.4f}")


def time_attraction(embedding: Embedding) -> None:
    """Print the time of the attraction of a map, and how long one thread takes to read P."""
    parts = embedding._affinities
    forces = np.empty_like(embedding._positions)
    values, columns = parts[0], parts[1]
    read = values.view(np.int32)
    times = medians(
        {
            "attraction": lambda: attraction.accumulate_attraction(*parts, embedding._positions, 1.0, forces, THREADS),
            "one thread": lambda: attraction.accumulate_attraction(*parts, embedding._positions, 1.0, forces, 1),
            "read": lambda: (np.bitwise_or.reduce(read), np.bitwise_or.reduce(columns)),
        },
        9,
    )
    print(f"\nattraction, {values.size / 1e6:.1f} M non-zeros in Z-order: {times['attraction']:.2f} ms on two threads,")
    print(f"  {times['one thread']:.2f} ms on one; one thread reads P in {times['read']:.2f} ms")


def time_iterations(P: object, Y: np.ndarray) -> None:
    """Print the time of whole iterations of the descent."""
    for n_threads in (1, 2):
        again = Embedding(P, Y, n_threads=n_threads)
        again.optimize(10)
        before = time.perf_counter()
        again.optimize(100)
        print(f"whole iteration, {n_threads} threads: {10 * (time.perf_counter() - before):.2f} ms, losses included")


def million_points(Y: np.ndarray) -> np.ndarray:
    """Return 16 jittered copies of a map at twice its size, in any order."""
    rng = np.random.default_rng(0)
    copies = (np.repeat(Y * 2, 16, axis=0) + 0.6 * rng.normal(size=(16 * len(Y), 2))).astype(np.float32)
    return copies[rng.permutation(len(copies))]


def time_auto(copies: np.ndarray) -> None:
    """Print the time of the engines that ``auto`` takes, for maps of equal density."""
    print("\nauto at theta 0.5, by number of points of equal density")
    for n_points in (10_000, 30_000, 100_000, 300_000, 1_000_000):
        Y = np.ascontiguousarray(copies[:n_points] * np.sqrt(n_points / 1e6), np.float32)
        engine = _repulsion.make_repulsion(Y.shape, Y.dtype, method="auto", theta=0.5, dof=1.0, n_threads=THREADS)
        out = np.empty_like(Y)
        taken = medians({"auto": lambda engine=engine, Y=Y, out=out: engine(Y, out)}, 5)["auto"]
        per_point = 1e6 * taken / n_points / np.log2(n_points)
        print(f"  {n_points:>9,} {taken:9.2f} ms   {per_point:.3f} ns / (n log2 n)   {', '.join(engine.engines)}")


def time_digits() -> None:
    """Print the time of a whole run on the 1,797 digits of scikit-learn."""
    digits = load_digits().data.astype(np.float32)
    options = {"max_iter": 750, "random_state": 0, "n_iter_without_progress": 750}
    functions = {"kullback": lambda: kullback.TSNE(early_exaggeration_iter=250, n_jobs=THREADS, **options).fit(digits)}
    try:
        from sklearnex.manifold import TSNE as Peer

        functions["scikit-learn-intelex"] = lambda: Peer(n_jobs=THREADS, init="pca", **options).fit(digits)
    except ImportError:
        pass
    print("\ndigits, 750 iterations:", {k: f"{v:.0f} ms" for k, v in medians(functions, 7).items()})


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="mnist63k.npz")
    parser.add_argument("--million", action="store_true", help="also time a million points, peers too")
    arguments = parser.parse_args()
    kullback.show_config()

    X = principal_components(arguments.data, 63_000)
    P = affinities.perplexity(X, 30, random_state=0).P
    start = (X[:, :2] / X[:, 0].std() * 1e-4).astype(np.float32)
    embedding = Embedding(P, start, n_threads=THREADS).optimize(250, exaggeration=12).optimize(200)
    Y = embedding.positions
    engines = {f"Barnes-Hut, {theta}": ("barnes_hut", theta) for theta in (0.5, 0.65, 0.7, 0.72)}
    engines |= {f"FFT, {theta}": ("fft", theta) for theta in (0.5, 0.58)}
    repulsion("repulsion, 63,000 points", Y, engines, 9, peers=True)
    time_attraction(embedding)
    time_iterations(P, Y)

    three = Embedding(P, (X[:, :3] / X[:, 0].std() * 1e-4).astype(np.float32), n_threads=THREADS)
    three.optimize(100, exaggeration=12).optimize(150)
    barnes_hut = {"Barnes-Hut, 0.5": ("barnes_hut", 0.5), "Barnes-Hut, 0.7": ("barnes_hut", 0.7)}
    repulsion("three dimensions, 63,000 points", three.positions, barnes_hut, 5, peers=False)
    repulsion("exact, 2,000 points", Y[:2000].copy(), {"exact": ("exact", 0.5)}, 25, peers=False)

    copies = million_points(Y)
    time_auto(copies)
    if arguments.million:
        repulsion("repulsion, 1,000,000 points", copies[:1_000_000].copy(), engines, 5, peers=True)
    time_digits()


if __name__ == "__main__":
    main()

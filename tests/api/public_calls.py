"""Calls of every public function that runs a kernel, and what tells the bits of their results apart.

`test_concurrency.py` makes them from threads, and so does ``devel/stress_threads.py`` at length. Each call has one
thread, and looks up nothing but its inputs, so that it has the same bits wherever it is made.
"""

from __future__ import annotations

import importlib
import struct
import threading
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

import kullback
from kullback import affinities, distributed, gradient, neighbors, quality, readers, streaming, tsne

Calls = dict[str, Callable[[], Any]]

ROOMS = ("divergence", "streaming", "tsne", "affinities", "gradient", "neighbors", "quality", "distributed", "readers",
         "evaluation")  # fmt: skip
WITHOUT_KERNEL = {
    "Affinities", "Bounds", "Decomposition", "Description", "EvaluationInterrupted", "Graph", "HistogramResult",
    "LogitsReport", "METHODS", "PairedResult", "Recall", "RowResult", "RowStatistics", "Source", "State", "Sweep",
    "SupportResult",
}  # fmt: skip
"""Public names that are no calls: results, and the base of the readers."""

RNG = np.random.default_rng(0)
LOGITS = 3 * RNG.normal(size=(2, 48, 300))
P, Q = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=-1, keepdims=True)
LONG = RNG.dirichlet(np.ones(1 << 14), size=2).astype(np.float32)
SPARSE = sparse.csr_array(np.where(P < 0.002, 0, P))
LABELS = RNG.integers(0, 300, size=48)
COUNTS = RNG.integers(0, 50, size=(8, 12, 9))
X = RNG.normal(size=(260, 6)) + 6 * np.eye(6)[np.arange(260) % 6]
NEW = X[:40] + 0.1
WIDE = RNG.normal(size=(1100, 2)) * 8
JOINT = affinities.perplexity(X, 10, n_threads=1).P
WIDE_JOINT = affinities.uniform(WIDE, 5, n_threads=1).P


def divergence_calls() -> Calls:
    """Return calls of the functions of rows, on probabilities, logits, sparse rows, long rows and short vectors."""
    room = kullback.divergence
    calls: Calls = {}
    two = ["kl_divergence", "cross_entropy", "jensen_shannon_divergence", "jensen_shannon_distance", "decompose"]
    two += ["jeffreys_divergence", "hellinger_distance", "bhattacharyya_distance", "total_variation_distance"]
    two += ["chi2_divergence", "compare", "renyi_divergence", "alpha_divergence", "population_stability_index"]
    for name in [*two, "entropy", "perplexity", "renyi_entropy", "tsallis_entropy"]:
        function = getattr(room, name)
        options: dict[str, Any] = {"alpha": 0.7} if name.startswith(("renyi", "alpha", "tsallis")) else {}
        inputs = {"rows": (P, Q), "vectors": (P[0, :10], Q[0, :10]), "long": (LONG[0], LONG[1])}
        for kind, pair in {**inputs, "logits": (LOGITS[0], LOGITS[1])}.items():
            rest = {"from_logits": True, "temperature": 1.5} if kind == "logits" else {"normalize": True}
            arrays = pair if name in two else pair[:1]
            calls[f"{name}, {kind}"] = partial(function, *arrays, n_threads=1, **options, **rest)
    calls["kl_divergence, sparse"] = lambda: room.kl_divergence(SPARSE, SPARSE, normalize=True, n_threads=1)
    calls["kl_divergence, columns"] = lambda: room.kl_divergence(P.T, Q.T, axis=0, n_threads=1)
    for measure in ("kl", "js", "hellinger"):
        calls[f"pairwise_divergence, {measure}"] = partial(room.pairwise_divergence, P, Q, measure=measure, n_threads=1)
    calls["pairwise_divergence, nearest"] = lambda: room.pairwise_divergence(P, k=5, n_threads=1)
    calls["log_loss"] = lambda: room.log_loss(LABELS, LOGITS[0], from_logits=True, n_threads=1)
    top = np.argsort(-P, axis=-1)[:, :20]
    best = np.log(np.take_along_axis(P, top, -1))
    calls["kl_divergence_topk"] = lambda: room.kl_divergence_topk(top, best, LOGITS[1], n_threads=1)
    calls["mutual_information"] = lambda: room.mutual_information(COUNTS, n_threads=1)
    calls["kl_divergence_from_samples"] = lambda: room.kl_divergence_from_samples(X, NEW, n_threads=1)
    calls["differential_entropy_from_samples"] = lambda: room.differential_entropy_from_samples(X, n_threads=1)
    return calls


def add_rows(accumulator: Any) -> Any:
    """Add rows to a RowDivergence with quantiles and groups."""
    return accumulator.update(P, Q, group=LABELS % 5)


def accumulators() -> dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """Return for each accumulator how it is made and what one update does."""
    logits = {"from_logits": True, "n_threads": 1}
    values = 1e3 * np.random.default_rng(1).normal(size=(200, 3))
    edges = np.linspace(-3e3, 3e3, 30)
    return {
        "RowDivergence": (
            lambda: streaming.RowDivergence(("kl", "js"), groups=True, quantiles=(0.5, 0.9), n_threads=1),
            add_rows,
        ),
        "RowValues": (
            lambda: streaming.RowValues(("a", "b"), groups=True),
            lambda a: a.update([values[:, 0], values[:, 1]], weights=values[:, 2] ** 2, group=np.arange(200) % 5),
        ),
        "PairedDivergence": (
            lambda: streaming.PairedDivergence(clusters=True, **logits),
            lambda a: a.update(LOGITS[0], LOGITS[1], LOGITS[1] / 2, cluster=LABELS % 7),
        ),
        "SupportDivergence": (
            lambda: streaming.SupportDivergence(("kl",), normalize=False, n_threads=1),
            lambda a: a.update(LONG[0], LONG[1]),
        ),
        "SupportDivergence, logits": (
            lambda: streaming.SupportDivergence(("kl",), **logits),
            lambda a: a.update(LOGITS[0].ravel(), LOGITS[1].ravel()),
        ),
        "HistogramDivergence": (
            lambda: streaming.HistogramDivergence(edges=edges, n_features=3, n_threads=1),
            lambda a: a.update(values, values / 2),
        ),
    }


def accumulate(make: Callable[[], Any], update: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the result of an accumulator of its own, after updates, a copy and a merge."""
    result: dict[str, Any] = update(update(make())).copy().merge(update(make())).result().to_dict()
    return result


def stream_calls(folder: Path) -> Calls:
    """Return calls of evaluations, and of an accumulator that each call has for itself."""
    calls: Calls = {}
    for name, (make, update) in accumulators().items():
        calls[name] = partial(accumulate, make, update)
    rng, n_ctx, n_chunk, n_vocab = np.random.default_rng(2), 16, 4, 301
    records = rng.integers(0, 1 << 16, size=(n_chunk * (n_ctx // 2 - 1), n_vocab + 1), dtype=np.uint16)
    with open(folder / "base.kld", "wb") as file:
        file.write(b"_logits_" + struct.pack("<iii", n_ctx, n_vocab, n_chunk))
        file.write(rng.integers(0, n_vocab, n_chunk * n_ctx).astype("<i4").tobytes())
        file.write(b"".join(struct.pack("<ff", 2e-4, -14.0) + record.tobytes() for record in records))
    np.save(folder / "p.npy", P)
    second = rng.normal(size=(len(records), n_vocab)).astype(np.float32)
    quiet: dict[str, Any] = {"progress": False, "n_threads": 1}
    calls["evaluate"] = lambda: kullback.evaluate(folder / "p.npy", Q, measures=("kl", "js"), **quiet).to_dict()
    calls["compare_logits"] = lambda: readers.compare_logits(folder / "base.kld", second, **quiet)
    calls["LlamaLogits"] = lambda: readers.LlamaLogits(folder / "base.kld").read(0, 9)
    shared = readers.LlamaLogits(folder / "base.kld")
    calls["LlamaLogits, shared"] = lambda: [shared.read(start, start + 5) for start in (0, 9, 3)]
    calls["open_source"] = lambda: readers.open_source(folder / "p.npy").read(0, 9)
    parts = [distributed.accumulate({"measures": ("kl",)}, 1, P[k::2], Q[k::2]) for k in range(2)]
    calls["accumulate"] = lambda: distributed.accumulate({"measures": ("kl",)}, 1, P, Q).result().to_dict()
    calls["merge"] = lambda: distributed.merge(parts).result().to_dict()
    return calls


def force_calls() -> Calls:
    """Return calls of the forces and the loss, by each engine, in each dimension and both precisions."""
    calls: Calls = {}
    for n_components in (1, 2, 3):
        for method in ("exact", "barnes_hut", "fft"):
            for dtype, dof in ((np.float32, 1.0), (np.float64, 0.7)):
                Y = np.resize(WIDE, (300 if method == "exact" else 1100, n_components)).astype(dtype) / n_components**2
                options: dict[str, Any] = {"method": method, "dof": dof, "n_threads": 1}
                name = f"repulsive_forces, {method}, {n_components}, {np.dtype(dtype)}"
                calls[name] = partial(gradient.repulsive_forces, Y, **options)
    for method in ("exact", "barnes_hut", "fft"):
        options = {"method": method, "n_threads": 1}
        for function in (gradient.tsne_gradient, gradient.tsne_loss, gradient.point_kl, gradient.gradient_error):
            calls[f"{function.__name__}, {method}"] = partial(function, WIDE_JOINT, WIDE, **options)
    calls["attractive_forces"] = lambda: gradient.attractive_forces(WIDE_JOINT, WIDE, n_threads=1)
    return calls


def descend(method: str) -> Any:
    """Return the positions of a short descent."""
    return tsne.Embedding(WIDE_JOINT, WIDE / 1e3, method=method, n_threads=1).optimize(12).positions


def map_calls() -> Calls:
    """Return calls of what makes and judges maps; an index and an estimator are shared by all threads."""
    calls: Calls = {}
    calls["perplexity, of affinities"] = lambda: affinities.perplexity(X, 10, n_threads=1).P
    calls["fixed_sigma"] = lambda: affinities.fixed_sigma(X, 1.0, n_neighbors=20, n_threads=1).P
    calls["multiscale"] = lambda: affinities.multiscale(X, [5, 15], n_threads=1).P
    calls["uniform"] = lambda: affinities.uniform(X, 10, n_threads=1).P
    calls["given"] = lambda: affinities.given(JOINT, n_threads=1).P
    graph = affinities.perplexity(X, 10, n_threads=1)
    calls["supervise"] = lambda: affinities.supervise(graph, np.arange(260) % 6).P
    calls["nearest_neighbors"] = lambda: neighbors.nearest_neighbors(X, 7, n_threads=1)
    calls["neighbor_graph"] = lambda: neighbors.neighbor_graph(X, 7, metric="cosine", n_threads=1)
    index = neighbors.NeighborIndex(X)
    calls["NeighborIndex, graph"] = lambda: index.graph(6, n_threads=1)
    calls["NeighborIndex, search"] = lambda: index.search(NEW, 6, n_threads=1)
    for function in (quality.trustworthiness, quality.continuity, quality.neighborhood_recall):
        calls[function.__name__] = partial(function, X, X[:, :2], n_threads=1)
    calls["distance_correlation"] = lambda: quality.distance_correlation(X, X[:, :2], sample=2000)
    calls["align"] = lambda: tsne.align(X[:, :2], X[:, 2:4])
    few: dict[str, Any] = {
        "perplexity": 8,
        "max_iter": 40,
        "early_exaggeration_iter": 20,
        "random_state": 0,
        "n_jobs": 1,
    }
    calls["TSNE, fit_transform"] = lambda: kullback.TSNE(**few).fit_transform(X)
    calls["TSNE, partial_fit"] = lambda: kullback.TSNE(**few).partial_fit(X[:200]).partial_fit(X[200:]).embedding_
    fitted = kullback.TSNE(**few).fit(X)
    calls["TSNE, transform"] = lambda: fitted.transform(NEW)
    calls["TSNE, quality"] = lambda: (fitted.exact_kl_, fitted.point_kl_, fitted.gradient_error_)
    for method in ("exact", "barnes_hut", "fft"):
        calls[f"Embedding, {method}"] = partial(descend, method)
    brief: dict[str, Any] = {"max_iter": 30, "warm_iter": 10, "n_jobs": 1}
    calls["sweep"] = lambda: kullback.sweep(X, perplexities=[5, 10], **brief).maps
    return calls


def all_calls(folder: Path) -> Calls:
    """Return all calls, of which some read files that are written into the folder."""
    return {**divergence_calls(), **stream_calls(folder), **force_calls(), **map_calls()}


def bits(value: Any) -> Any:
    """Return something that is equal for results of the same bits."""
    if isinstance(value, np.ndarray):
        return value.shape, str(value.dtype), value.tobytes()
    if sparse.issparse(value):
        return bits(value.data), bits(value.indices), bits(value.indptr)
    if isinstance(value, tuple | list):
        return tuple(map(bits, value))
    if isinstance(value, dict):
        return tuple((key, bits(item)) for key, item in value.items())
    return repr(value)


def bits_of_calls(folder: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the bits of some calls, for a process that imports this module."""
    calls = all_calls(Path(folder))
    return {name: bits(calls[name]()) for name in names}


def run_threads(works: list[Callable[[], None]]) -> list[str]:
    """Run a function in each thread, and return what was raised."""
    errors: list[str] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException:
            errors.append(traceback.format_exc())

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def call_in_threads(calls: Calls, orders: list[list[str]], expected: dict[str, Any], together: bool) -> list[str]:
    """Make calls in threads, and return which gave other bits than is expected, and what was raised.

    Each thread has its own list of names. ``together`` lets all of them begin each of their calls at one moment.
    """
    wrong: list[str] = []
    barrier = threading.Barrier(len(orders))

    def work(names: list[str]) -> None:
        for name in names:
            if together:
                barrier.wait(timeout=600)
            try:
                if bits(calls[name]()) != expected[name]:
                    wrong.append(f"{name}: other bits")
            except Exception:
                wrong.append(f"{name}: {traceback.format_exc()}")

    return run_threads([partial(work, names) for names in orders]) + wrong


def update_in_threads(name: str, n_updates: int, n_threads: int) -> list[str]:
    """Let all threads add the same rows to one accumulator, and return whether its result is not that of one thread."""
    make, update = accumulators()[name]
    shared, alone = make(), make()
    for _ in range(n_updates * n_threads):
        update(alone)

    def work() -> None:
        for _ in range(n_updates):
            update(shared)
            shared.result()

    wrong = run_threads([work] * n_threads)
    if bits(shared.result().to_dict()) != bits(alone.result().to_dict()):
        wrong.append(f"{name}, shared: other bits")
    return wrong


def uncalled(calls: Calls) -> list[str]:
    """Return the public names that are in no call."""
    public = {name for room in ROOMS for name in importlib.import_module(f"kullback.{room}").__all__}
    return sorted(public - WITHOUT_KERNEL - {name.partition(",")[0] for name in calls})

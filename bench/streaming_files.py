"""evaluate over two large .npy files: peak resident memory, and its rate against arrays in memory.

    python bench/streaming_files.py --folder /tmp --gb 8

makes the files, evaluates them in a process of their own until they are cached, prints the figures as
JSON and deletes the files.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

COLUMNS = 32_000


def make(path, n_rows, seed):
    """Write distributions: 64 random ones, over and over, so that writing is the only cost."""
    rows = np.random.default_rng(seed).random((64, COLUMNS), dtype=np.float32) + np.float32(0.01)
    rows /= rows.sum(axis=-1, keepdims=True, dtype=np.float64)
    array = np.lib.format.open_memmap(path, "w+", np.float32, (n_rows, COLUMNS))
    for start in range(0, n_rows, 64):
        array[start : start + 64] = rows[: n_rows - start]
    array.flush()


def peak_memory():
    """Return the most memory that this process has had, in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def evaluate_files(folder, repeats):
    """Evaluate the files several times; print the seconds and the peak memory."""
    import kullback

    seconds, results = [], set()
    for _ in range(repeats):
        start = time.perf_counter()
        result = kullback.evaluate(folder / "p.npy", folder / "q.npy", progress=False)
        seconds.append(time.perf_counter() - start)
        results.add(result.kl.mean)
    assert len(results) == 1
    print(json.dumps({"seconds": seconds, "peak": peak_memory(), "mean": result.kl.mean}))


def evaluate_memory(folder, repeats):
    """Evaluate the first gigabyte of each file from memory; print its seconds and size."""
    import kullback

    n = min(8192, np.load(folder / "p.npy", mmap_mode="r").shape[0])
    p, q = (np.fromfile(folder / f"{s}.npy", np.float32, n * COLUMNS, offset=128).reshape(n, -1) for s in "pq")
    bare, evaluated = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        kullback.kl_divergence(p, q)
        middle = time.perf_counter()
        kullback.evaluate(p, q, progress=False)
        bare.append(middle - start)
        evaluated.append(time.perf_counter() - middle)
    print(json.dumps({"bytes": p.nbytes + q.nbytes, "kl_divergence": bare, "evaluate": evaluated}))


def run(what, folder, repeats):
    """Run one of the two in a process of its own."""
    command = [sys.executable, __file__, "--folder", str(folder), "--repeats", str(repeats), "--child", what]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    """Make, evaluate, report, delete."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--gb", type=float, default=8.0, help="size of each file")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--child", choices=["files", "memory"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child = evaluate_files if options.child == "files" else evaluate_memory
        child(options.folder, options.repeats)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder, n_rows = Path(name), int(options.gb * 1e9 / COLUMNS / 4)
        for seed, side in enumerate("pq"):
            make(folder / f"{side}.npy", n_rows, seed)
        size = 2 * os.path.getsize(folder / "p.npy")
        files = run("files", folder, options.repeats)
        memory = run("memory", folder, options.repeats)
    rate = size / np.median(files["seconds"][1:]) / 1e9
    in_memory = {k: memory["bytes"] / np.median(memory[k]) / 1e9 for k in ("kl_divergence", "evaluate")}
    report = {
        "file_bytes": size, "first_seconds": files["seconds"][0], "peak_resident_MB": files["peak"] / 1e6,
        "files_GB/s": rate, "memory_GB/s": in_memory,
        "share_of_memory_rate": {k: rate / v for k, v in in_memory.items()}, "mean_kl": files["mean"],
    }  # fmt: skip
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()

"""Damage valid files of every format, and see what their readers make of it.

    python devel/fuzz_readers.py [MUTATIONS] [SEED] [FORMAT ...]

Each format is read in processes of its own. A finding is a crash, an exception that is no ValueError or OSError, an
error that does not name the file, more than one line on the command line, a pickle that was opened, a read of more than
20 seconds, memory beyond the bound, or content that differs from what was written where the format has checksums.
Findings are printed with their seeds, and the exit status says whether there was one.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "api"))

import resource

import file_mutations

SECONDS = 20
ADDRESS_SPACE = 1 << 30
"""Bytes that a reader may map beyond what the process has: no file is larger than 20 KB."""

RESIDENT = 128 << 20
"""Bytes that a read may add to the memory in use: 1032 times the file, 64 MB for tables, and what libraries keep."""


def stop(_number: int, _frame: FrameType | None) -> NoReturn:
    """End a read that takes too long."""
    raise AssertionError(f"a read took more than {SECONDS} seconds")


def memory(name: str) -> int:
    """Return bytes of a line of /proc/self/status."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) << 10


def read_mutations(fuzz: file_mutations.Fuzz, seeds: range, report: int) -> None:
    """Read mutations, and write a line on each to a pipe: its seed, and what came of it."""
    signal.signal(signal.SIGALRM, stop)
    limit = memory("VmSize") + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for seed in seeds:
        fuzz.write(seed)
        os.write(report, f"{seed} ".encode())
        Path("/proc/self/clear_refs").write_text("5")
        before = memory("VmRSS")
        signal.alarm(SECONDS)
        try:
            outcome = "accepted" if fuzz.check() else "refused"
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(last.filename).name}:{last.lineno}"
            outcome = f"FINDING {type(error).__name__} at {place}: {' '.join(str(error).split())[:300]}"
        signal.alarm(0)
        grown = memory("VmHWM") - before
        if grown > RESIDENT:
            outcome = f"FINDING {grown >> 20} MB of memory, {outcome}"
        os.write(report, (outcome + "\n").encode())


def run_format(name: str, seeds: range) -> tuple[Counter[str], list[str]]:
    """Return how many mutations were accepted and refused, and the findings."""
    counts: Counter[str] = Counter()
    findings = []
    fuzz = file_mutations.Fuzz(name)
    while seeds:
        part = seeds[:500]  # memory that a library keeps does not add up for long
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            try:
                read_mutations(fuzz, part, writer)
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as lines:
            told = lines.read().splitlines()
        status = os.waitpid(child, 0)[1]
        for line in told:
            seed, _, outcome = line.partition(" ")
            if not outcome:
                outcome = f"FINDING the process died of signal {status & 127}"
            kind = outcome.partition(" ")[0]
            counts[kind] += 1
            if kind == "FINDING":
                findings.append(f"{name}, seed {seed}: {outcome}")
        seeds = range(part.start + max(1, len(told)), seeds.stop)
    return counts, findings


def main() -> int:
    """Try every format, and print a line on each."""
    n_mutations = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    found = []
    for name in sys.argv[3:] or file_mutations.FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            counts, findings = run_format(name, range(seed, seed + n_mutations))
            os.chdir("/")
        found += findings
        print(
            f"{name}: {counts['accepted']} accepted, {counts['refused']} refused, {len(findings)} findings", flush=True
        )
        print("\n".join(findings[:10]), flush=True) if findings else None
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())

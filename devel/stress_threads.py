"""Call every public function that runs a kernel from several threads at once, and compare the bits with serial calls.

    python devel/stress_threads.py [ROUNDS] [THREADS] [NAME ...]

All threads share their inputs, a search index, a fitted estimator and accumulators. In the rounds of even number they
make the same calls side by side, and in the others each is at another call. Names choose calls, by their beginnings.
The exit status is 1 where a call raised or gave other bits, or where a public function is in no call. ``make
sanitize-threads`` runs this on kernels that gcc's ThreadSanitizer watches, which ends it with status 66.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "api"))

import public_calls


def stress(calls: public_calls.Calls, n_rounds: int, n_threads: int) -> list[str]:
    """Make all calls in all threads, and return what went wrong."""
    expected: dict[str, Any] = {name: public_calls.bits(call()) for name, call in calls.items()}
    names, wrong = list(calls), []
    for number in range(n_rounds):
        together = number % 2 == 0
        starts = [0 if together else thread * len(names) // n_threads for thread in range(n_threads)]
        orders = [names[start:] + names[:start] for start in starts]
        wrong += public_calls.call_in_threads(calls, orders, expected, together)
    return wrong


def main(n_rounds: str = "2", n_threads: str = "8", *names: str) -> int:
    """Run the stress, and say what went wrong."""
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        calls = public_calls.all_calls(Path(folder))
        wrong = [f"{name}: in no call" for name in public_calls.uncalled(calls)]
        chosen = {name: call for name, call in calls.items() if name.startswith(names or "")}
        wrong += stress(chosen, int(n_rounds), int(n_threads))
        for name in public_calls.accumulators():
            if name.startswith(names or ""):
                wrong += public_calls.update_in_threads(name, 2 * int(n_rounds), int(n_threads))
    print(*sorted(set(wrong)), sep="\n")
    seconds = time.perf_counter() - start
    print(f"{len(chosen)} calls, {n_rounds} rounds, {n_threads} threads: {len(wrong)} wrong, {seconds:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

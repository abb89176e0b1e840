"""What the scripts that draw random cases share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def run_cases(check_case: Callable[[np.random.Generator], str], n_cases: int = 1000, seed: int = 0) -> int:
    """Check random cases, print those that are wrong, and return how many they are.

    ``check_case`` draws a case and returns what is wrong with it, or nothing. An exception is wrong, too. A case is
    drawn again from the same seed and number.
    """
    n_broken = 0
    for number in range(n_cases):
        try:
            with np.errstate(under="ignore"):
                problem = check_case(np.random.default_rng([seed, number]))
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        if problem:
            n_broken += 1
            print(f"case {number}: {problem}", flush=True)
    print(f"{n_cases} cases, {n_broken} broken")
    return n_broken

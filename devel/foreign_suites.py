"""Run the tests of scikit-learn and SciPy with kullback in place of the functions that they test.

Usage: python devel/foreign_suites.py [scikit-learn] [scipy]

The tests are those of the installed packages. What fails is compared with the tables of docs/compatibility.md, which
give a reason for each. The script returns 1 if a test fails that is not listed there, or if a listed one passes.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import scipy.stats

import kullback

SCIPY_ENTROPY: Callable[..., Any] = scipy.stats.entropy

PAGE = Path(__file__).parents[1] / "docs" / "compatibility.md"


def entropy(
    pk: Any, qk: Any = None, base: float | None = None, axis: Any = 0, *, nan_policy: str = "propagate",
    keepdims: bool = False, _no_deco: bool = False,
) -> Any:  # fmt: skip
    """``scipy.stats.entropy`` as docs/compatibility.md says how to write it.

    With ``_no_deco`` the tests ask for SciPy's own value, with which they compare.
    """
    if _no_deco:
        return SCIPY_ENTROPY(pk, qk, base, axis, _no_deco=True)
    sides = np.broadcast_arrays(*(np.asarray(side, dtype=np.float64) for side in (pk, qk) if side is not None))
    absent = np.isnan(sides).any(axis=0)
    if nan_policy == "raise" and absent.any():
        raise ValueError("The input contains nan values")
    if nan_policy == "omit":
        sides = [np.where(absent, 0, side) for side in sides]
    function = kullback.entropy if qk is None else kullback.kl_divergence
    return function(*sides, base=base, axis=axis, keepdims=keepdims, normalize=True)


def kl_div(x: Any, y: Any) -> Any:
    """``scipy.special.kl_div``: the divergence of rows of one element that are not divided by their sums."""
    x, y = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
    return kullback.kl_divergence(x[..., None], y[..., None], normalize=False)


def rel_entr(x: Any, y: Any) -> Any:
    """``scipy.special.rel_entr``, which lacks the terms - x + y of ``kl_div``."""
    return kl_div(x, y) + (np.asarray(x, np.float64) - y)


def entr(x: Any) -> Any:
    """``scipy.special.entr``."""
    return kullback.entropy(np.asarray(x, np.float64)[..., None], normalize=False)


def jensenshannon(p: Any, q: Any, base: float | None = None, *, axis: int = 0, keepdims: bool = False) -> Any:
    """``scipy.spatial.distance.jensenshannon``."""
    return kullback.jensen_shannon_distance(p, q, base=base, axis=axis, keepdims=keepdims, normalize=True)


class Suite:
    """A run of foreign tests: a plugin of pytest that puts our functions in place, and keeps what failed.

    Parameters
    ----------
    modules : sequence of str
        Test modules.
    ours : dict
        By the name of a function, what takes its place in the modules that the tests look into.
    places : sequence of str
        Modules in which tests look up these names, other than the test modules.
    chosen : regular expression
        Which tests to run, by their names.
    """

    def __init__(self, modules: list[str], ours: dict[str, Callable[..., Any]], places: list[str], chosen: str) -> None:
        self.modules, self.ours, self.places, self.chosen = modules, ours, places, re.compile(chosen)
        self.failed: dict[str, str] = {}
        self.passed: set[str] = set()

    def run(self) -> None:
        """Run the tests in this process."""
        options = ["-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-c", os.devnull, "-W", "ignore"]
        pytest.main([*options, "--pyargs", *self.modules], plugins=[self])

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Keep the tests that are chosen. One that gets a function as a parameter gets ours."""
        items[:] = [item for item in items if self.chosen.search(item.nodeid)]
        for item in items:
            params = item.callspec.params if hasattr(item, "callspec") else {}
            for name, value in params.items():
                if getattr(value, "__name__", "") in self.ours and callable(value):
                    params[name] = self.ours[value.__name__]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: Any) -> Iterator[None]:
        """Put our functions in place while a test runs."""
        with ExitStack() as stack:
            for module in [item.module, *(sys.modules[name] for name in self.places)]:
                for name, function in self.ours.items():
                    if hasattr(module, name):
                        stack.enter_context(patch.object(module, name, function))
            return (yield)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note whether a test passed, by its name with the parameters."""
        name = report.nodeid.split("::")[-1]
        if report.failed:
            self.failed[name] = str(report.longrepr).strip().splitlines()[-1]
        elif report.when == "call" and report.passed:
            self.passed.add(name)


SUITES = {
    "scikit-learn": Suite(
        ["sklearn.manifold.tests.test_t_sne"], {"TSNE": kullback.TSNE}, ["sklearn.manifold"], ""
    ),
    "scipy": Suite(
        ["scipy.stats.tests.test_entropy", "scipy.stats.tests.test_axis_nan_policy",
         "scipy.special.tests.test_basic", "scipy.spatial.tests.test_distance"],
        {"entropy": entropy, "kl_div": kl_div, "rel_entr": rel_entr, "entr": entr, "jensenshannon": jensenshannon},
        ["scipy.stats", "scipy.special"],
        r"TestEntropy|axis_nan_policy.*\bentropy\b|test_(entr|kl_div|rel_entr)|test_jensenshannon",
    ),
}  # fmt: skip


def main(names: list[str]) -> int:
    """Run the suites of these names, or all, and return 1 if the failures are not those that are listed."""
    listed = set(re.findall(r"^\| `(test_[^`]*)`", PAGE.read_text(), flags=re.MULTILINE))
    status = 0
    for name in names or list(SUITES):
        suite = SUITES[name]
        suite.run()
        known = {test for test in suite.failed if test.split("[")[0] in listed}
        print(f"{name}: {len(suite.passed)} passed, {len(known)} failed for a reason that is listed")
        surprises = [f"fails: {test}: {suite.failed[test]:.200}" for test in sorted(set(suite.failed) - known)]
        failing = {test.split("[")[0] for test in known}
        passing = {test.split("[")[0] for test in suite.passed} - failing
        surprises += [f"is listed, and passes: {test}" for test in sorted(passing & listed)]
        print("".join(f"  {line}\n" for line in surprises), end="")
        status |= bool(surprises)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Draw rows, scales, gaps, masks, orders and dtypes, and compare measures with extended precision.

    python devel/fuzz_divergences.py [CASES] [SEED]

The truth is worked in 80 bits, from formulas whose terms do not cancel, and with mpmath for measures of an order alpha.
Kernel, twin and accumulator are asked for the same rows. Each case that breaks a promise of docs/accuracy.md is
printed, and the exit status says whether there was one. Containers, layouts and axes are drawn by the test
tests/divergence/test_input_fuzz.py, which takes KULLBACK_EXAMPLES.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
from cases import run_cases

import kullback
from kullback import reference

Array = npt.NDArray[Any]
LENGTHS = (1, 2, 3, 5, 16, 17, 64, 65, 128, 129, 300, 1024, 1025, 2049, 5000)
ORDERS = (0.0, 0.5, 1.0, 2.0, np.inf)
OF_ORDER = {
    "renyi_divergence": "p q",
    "alpha_divergence": "p q",
    "renyi_entropy": "p",
    "tsallis_entropy": "p",
}
BASELESS = ("hellinger", "total_variation", "chi2")
LEAST = 1e-323
"""A probability below it is none: float64 has no number for it."""


# ---- Rows ------------------------------------------------------------------------------------------


def draw_probabilities(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """Return two rows of positive numbers and zeros, near each other or not, of any scale."""
    spread = rng.choice([0.0, 1.0, 8.0, 100.0, 300.0])
    p = np.exp(rng.normal(size=n) * spread / 3)
    if rng.random() < 0.5:
        q = p * np.exp(rng.normal(size=n) * 10.0 ** rng.uniform(-12, 0.5))
    else:
        q = np.exp(rng.normal(size=n) * rng.choice([0.0, 1.0, 8.0, 100.0]) / 3)
    for side in (p, q):
        side[rng.random(n) < rng.choice([0, 0, 0.3, 0.9])] = 0
    if rng.random() < 0.7:  # p is 0 where q is, so that KL is finite
        p[q == 0] = 0
    for side in (p, q):
        if not side.sum() > 0:
            side[rng.integers(n)] = 1
        side /= side.max()
    if rng.random() < 0.3:
        return np.ceil(p * 1000), np.ceil(q * 10.0 ** rng.integers(0, 9))
    return p, q


def draw_logits(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """Return two rows of logits with sure tokens, masks and offsets."""
    x = rng.normal(size=n) * rng.choice([0, 1e-3, 1, 5])
    y = x + rng.normal(size=n) * rng.choice([0, 1e-6, 1e-3, 0.1, 1, 5])
    for side in (x, y):
        for _ in range(rng.integers(0, 3)):
            side[rng.choice([0, -1, rng.integers(n)])] += rng.choice([5, 20, 50, 100, 300, 740, 800, 1e4])
    if rng.random() < 0.3:
        sure = rng.choice([0, -1, rng.integers(n)])
        gap = rng.choice([20, 50, 100, 740, 1e4])
        x[sure] += gap
        y[sure] += gap
    for side in (x, y):
        side += rng.choice([0, 0, 0, -30, 30, 300, -1e4])
    masked = rng.random(n) < rng.choice([0, 0, 0, 0.1, 0.9])
    masked[rng.integers(n)] = False
    masks = [-np.inf, -1e4, float(np.finfo(np.float32).min), -1e9]
    x[masked], y[masked] = rng.choice(masks), rng.choice(masks)
    return x, y


# ---- Truth -----------------------------------------------------------------------------------------


def divergence_terms(p: Array, q: Array, log_ratio: Array) -> Array:
    """Return p log(p / q) - p + q, which no part cancels, where the logarithm of p / q is known."""
    near = np.where(np.abs(log_ratio) < 0.5, log_ratio, 0)
    series = np.zeros_like(near)
    for k in range(24, 1, -1):  # e^d d - e^d + 1 is the sum of d^k / (k (k - 2)!)
        series = series + near**k / (k * math.factorial(k - 2))
    with np.errstate(invalid="ignore", over="ignore"):
        far = np.where(p > LEAST, p * log_ratio, 0) - p + q
    return np.where(np.abs(log_ratio) < 0.5, q * series, far)


def measures_of(p: Array, q: Array, log_p: Array, log_q: Array, ratio: Array) -> dict[str, Any]:
    """Return the measures of one row in nats; ``ratio`` holds log p - log q.

    The chi-squared divergence is NaN where it depends on numbers that have few digits in float64.
    """
    half = 0.5 * ratio
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        # log p - log m is minus the logarithm of (1 + exp(-ratio)) / 2; far below, it is ratio + log 2
        over_mean = []
        for side, log_ratio in ((p, ratio), (q, -ratio)):
            logs = -np.log1p(0.5 * np.expm1(-np.clip(log_ratio, -11000, 11000)))
            logs = np.where(log_ratio < -11000, log_ratio + np.log(np.longdouble(2)), logs)
            over_mean.append(np.where((side == 0) & (p + q > 0), -np.inf, logs))
        hellinger = np.where(np.abs(half) < 1, q * np.expm1(half) ** 2, (np.sqrt(p) - np.sqrt(q)) ** 2)
        variation = np.where(np.abs(ratio) < 1, q * np.abs(np.expm1(ratio)), np.abs(p - q))
        chi2 = np.where(np.abs(ratio) < 1, q * np.expm1(ratio) ** 2, np.where(q > 0, (p - q) / q * (p - q), np.inf))
        chi2 = np.where(q <= 0, np.where(p > LEAST, np.exp(2 * log_p - log_q), 0), chi2)
        entropy_p, entropy_q = (-np.where(x > LEAST, x * log_x, 0).sum() for x, log_x in ((p, log_p), (q, log_q)))
        cross = -np.where(p > LEAST, p * log_q, 0).sum()
    mean = 0.5 * (p + q)
    kl, reverse = divergence_terms(p, q, ratio).sum(), divergence_terms(q, p, -ratio).sum()
    js = 0.5 * (divergence_terms(p, mean, over_mean[0]) + divergence_terms(q, mean, over_mean[1])).sum()
    return {
        "kl": kl, "reverse_kl": reverse, "jeffreys": kl + reverse, "cross_entropy": cross, "entropy_p": entropy_p,
        "entropy_q": entropy_q, "js": js, "hellinger": np.sqrt(0.5 * hellinger.sum()),
        "total_variation": 0.5 * variation.sum(), "chi2": np.nan if np.any((p > 0) & (p < 1e-319)) else chi2.sum(),
    }  # fmt: skip


def log_shares(x: Array) -> Array:
    """Return the logarithms of numbers divided by their sum; the largest may have nearly all of it."""
    place = x.argmax()
    rest = np.delete(x, place).sum() / x.sum()
    logs: Array = np.log(x) - np.log(x.sum())
    logs[place] = np.log1p(-rest) if rest < 0.5 else logs[place]
    return logs


def truth_of_probabilities(p: Array, q: Array) -> dict[str, Any]:
    """Return the measures of two rows of numbers, divided by their sums."""
    wide_p, wide_q = p.astype(np.longdouble), q.astype(np.longdouble)
    sum_p, sum_q = wide_p.sum(), wide_q.sum()
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log_p, log_q = log_shares(wide_p), log_shares(wide_q)
        shift = np.log1p((sum_q - sum_p) / sum_p) if 0.5 < sum_q / sum_p < 2 else np.log(sum_q) - np.log(sum_p)
        close = np.abs(wide_p - wide_q) < 0.5 * wide_q
        ratio = np.where(close, np.log1p((wide_p - wide_q) / np.where(wide_q > 0, wide_q, 1)) + shift, log_p - log_q)
    ratio[(p == 0) & (q == 0)] = 0
    return measures_of(wide_p / sum_p, wide_q / sum_q, log_p, log_q, ratio)


def truth_of_logits(x: Array, y: Array, temperature: float) -> dict[str, Any]:
    """Return the measures of two rows of logits."""
    wide_x, wide_y = x.astype(np.longdouble), y.astype(np.longdouble)
    logs, normaliser = [], []
    for side in (wide_x, wide_y):
        below = (side - side.max()) / np.longdouble(temperature)
        order = np.sort(np.exp(below))
        normaliser.append(np.log1p(order[:-1].sum()))  # the largest is 1
        logs.append(below - normaliser[-1])
    log_p, log_q = logs
    with np.errstate(invalid="ignore"):
        apart = (wide_x - wide_x.max()) - (wide_y - wide_y.max())
        ratio = apart / np.longdouble(temperature) - (normaliser[0] - normaliser[1])
    ratio[np.isnan(ratio)] = 0
    p, q = np.exp(log_p), np.exp(log_q)
    p, q = np.where(p > LEAST, p, 0), np.where(q > LEAST, q, 0)  # what has no float64 has no weight
    ratio = np.where((p == 0) & (q == 0), 0, ratio)
    return measures_of(p, q, log_p, log_q, ratio)


def truth_of_order(name: str, p: Array, q: Array, alpha: float, temperature: float | None) -> float:
    """Return a measure of an order alpha of two rows of numbers, or of logits at a temperature, by mpmath."""
    with mpmath.workdps(400):
        exact_p, exact_q = ([mpmath.mpf(float(v)) for v in side] for side in (p, q))
        if temperature is not None:
            exact_p, exact_q = ([mpmath.exp(v / mpmath.mpf(temperature)) for v in side] for side in (exact_p, exact_q))
        sum_p, sum_q = mpmath.fsum(exact_p), mpmath.fsum(exact_q)
        pairs = [(a / sum_p, b / sum_q) for a, b in zip(exact_p, exact_q, strict=True)]
        return float(sum_of_powers(name, pairs, alpha))


def sum_of_powers(name: str, pairs: list[tuple[Any, Any]], alpha: float) -> Any:
    """Return a measure of an order alpha of pairs of probabilities."""
    a = mpmath.mpf(alpha)
    if name in ("renyi_entropy", "tsallis_entropy"):
        present = [p for p, _ in pairs if p > 0]
        if alpha == 1:
            return -mpmath.fsum(p * mpmath.log(p) for p in present)
        if alpha == np.inf:
            return -mpmath.log(max(present)) if name == "renyi_entropy" else mpmath.mpf(0)
        total = sum(p**a for p in present)  # fsum would align exponents that are far apart
        return mpmath.log(total) / (1 - a) if name == "renyi_entropy" else (1 - total) / (a - 1)
    if alpha == 1 or (alpha == 0 and name == "alpha_divergence"):
        first = [(q, p) for p, q in pairs] if alpha == 0 else pairs
        if any(p > 0 and q == 0 for p, q in first):
            return mpmath.inf
        return mpmath.fsum(p * mpmath.log(p / q) for p, q in first if p > 0)
    if any(p > 0 and q == 0 for p, q in pairs) and alpha > 1:
        return mpmath.inf
    if name == "alpha_divergence" and alpha < 0 and any(q > 0 and p == 0 for p, q in pairs):
        return mpmath.inf
    both = [(p, q) for p, q in pairs if p > 0 and q > 0]
    if alpha == np.inf:
        return max(mpmath.log(p / q) for p, q in both) if both else mpmath.inf
    total = sum(p**a * q ** (1 - a) for p, q in both)
    if name == "alpha_divergence":
        return (total - 1) / (a * (a - 1))
    return mpmath.log(total) / (a - 1) if total > 0 else mpmath.inf


# ---- Cases -----------------------------------------------------------------------------------------


def differs(found: float, expected: Any, rtol: float, atol: float) -> bool:
    """Whether a value is farther from the truth than is promised; near the end of the range it may be infinite."""
    if not np.isfinite(expected) or abs(expected) > 1e300:
        return found != float(expected) and not (abs(expected) > 1e300 and found > 1e300)
    return not abs(np.longdouble(found) - expected) <= rtol * abs(expected) + atol


def check_orders(rng: np.random.Generator) -> str:
    """Return what is wrong with measures of an order alpha of one pair of rows, or nothing."""
    logits, dtype, n = bool(rng.random() < 0.5), rng.choice([np.float32, np.float64]), int(rng.integers(1, 13))
    p, q = (side.astype(dtype) for side in (draw_logits if logits else draw_probabilities)(rng, n))
    options: dict[str, Any] = {"normalize": True}
    if logits:
        options = {"from_logits": True, "temperature": float(rng.choice([1, 0.5, 2, 0.7, 100]))}
        if any((np.float64(side - side.max()) / options["temperature"]).min() < -740 for side in (p, q)):
            return ""  # a weight that float64 cannot hold counts as none
    alpha = float(rng.choice(ORDERS)) if rng.random() < 0.3 else 10.0 ** rng.uniform(-3, 3)
    if rng.random() < 0.2:
        alpha = 1 + rng.choice([-1, 1]) * 2.0 ** -rng.integers(1, 53)
    name = str(rng.choice(list(OF_ORDER)))
    if name in ("alpha_divergence", "tsallis_entropy"):
        alpha = 2.0 if alpha == np.inf else alpha
    if name == "alpha_divergence":
        alpha *= rng.choice([1, -1])
    rows = (p, q) if OF_ORDER[name] == "p q" else (p,)
    expected = truth_of_order(name, p, q, alpha, options.get("temperature"))
    found = float(getattr(kullback, name)(*rows, alpha=alpha, **options))
    twin = float(getattr(reference, name)(*rows, alpha=alpha, **options))
    atol = 1e-300 if not logits else 1e-15
    if OF_ORDER[name] == "p q":  # rows are divided by their sums, as below; the largest ratio feels it to first order
        atol += 4e-16 * (np.sqrt(abs(expected)) if expected < 1e300 else 0) + (
            4e-16 if alpha > 2 or alpha == 0 else 1e-31
        )
    single = dtype == np.float32 and alpha in (0, 1, np.inf)  # these are measures of their own, of float32
    if differs(found, expected, 4e-6 if single else 1e-12, atol) or differs(twin, expected, 1e-12, atol):
        return f"{name} {alpha!r} {dtype.__name__} of {len(p)}: {found!r}, twin {twin!r}, expected {expected!r}"
    return ""


def check_case(rng: np.random.Generator) -> str:
    """Return what is wrong with one random case, or nothing."""
    if rng.random() < 0.1:
        return check_orders(rng)
    n = int(rng.choice(LENGTHS))
    logits = bool(rng.random() < 0.5)
    dtype = rng.choice([np.float32, np.float64])
    options: dict[str, Any] = {"base": float(rng.choice([np.e, 2, 10, 1.5]))}
    with np.errstate(over="ignore", under="ignore"):
        p, q = draw_logits(rng, n) if logits else draw_probabilities(rng, n)
        if logits:
            options |= {"from_logits": True, "temperature": float(rng.choice([1, 1, 0.5, 2, 0.7, 1e-3, 100]))}
        else:
            options |= {"normalize": True}
            top = 300 if dtype == np.float64 else 30
            p, q = (side * 10.0 ** rng.choice([0, 0, rng.uniform(-top, top)]) for side in (p, q))
        p, q = p.astype(dtype), q.astype(dtype)
    sums = p.sum(dtype=np.float64), q.sum(dtype=np.float64)
    if not logits and not (max(sums) <= 1e300 and p.any() and q.any()):  # no more is promised
        return ""
    if not logits and any((side[side > 0] < 2.3e-308 * side.astype(np.longdouble).sum()).any() for side in (p, q)):
        return ""  # dividing by the sum leaves such elements few digits
    truth = truth_of_logits(p, q, options["temperature"]) if logits else truth_of_probabilities(p, q)
    case = f"{'logits' if logits else 'numbers'} {dtype.__name__} of {n}, {options}: "
    return compare_with(rng, truth, p, q, options, case)


def compare_with(
    rng: np.random.Generator, truth: dict[str, Any], p: Array, q: Array, options: dict[str, Any], case: str
) -> str:
    """Ask kernel, twin and accumulator for some of the measures, and return what is wrong with them."""
    names = [str(name) for name in rng.permutation(list(truth))[: rng.integers(1, len(truth) + 1)]]
    single, logits = p.dtype == np.float32, "from_logits" in options
    found = {"kernel": kullback.compare(p, q, names, **options), "twin": reference.compare(p, q, names, **options)}
    if options.pop("temperature", 1) == 1:
        accumulator = kullback.streaming.RowDivergence(measures=names, **options)
        accumulator.update(p[None], q[None])
        found["accumulator"] = {name: accumulator.result()[name].mean for name in names}
    for source, values in found.items():
        for name in names:
            expected = truth[name] * (1 if name in BASELESS else 1 / np.log(np.longdouble(options["base"])))
            exact = source == "twin" or not single
            if np.isnan(expected) or (name == "chi2" and logits and source == "twin"):  # of few digits
                continue
            rtol = (5e-12 if exact else 2e-6) if logits else (1e-12 if exact else 4e-6)
            if name == "chi2" and logits and expected > 1e15:  # it is the exponential of a difference of logits
                rtol = max(rtol, 1e-9)
            if name.startswith("entropy"):
                atol = 6e-7 if logits and not exact else 1e-280
            elif name in ("hellinger", "total_variation") or (logits and name in ("js", "chi2")):
                atol = 1e-15
            else:  # what near rows differ by is rounded where their sums or offsets differ
                rounds = 0 if name == "cross_entropy" else 1e-15
                atol = rounds * np.sqrt(np.abs(expected)) + 1e-29 if np.isfinite(expected) else 0
            if differs(float(values[name]), expected, rtol, atol):
                return case + f"{source} {name} of {names}: {float(values[name])!r}, expected {expected!r}"
    return ""


if __name__ == "__main__":
    sys.exit(run_cases(check_case, *map(int, sys.argv[1:])) > 0)

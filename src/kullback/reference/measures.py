"""Every measure of ``kullback.divergence`` in NumPy and float64, with one formula each.

The functions bear the names and take the parameters of those that they specify. Each of them makes rows of
probabilities by ``as_probabilities``, applies its formula to each row, and hands the values to :func:`finish`.
``out`` and ``n_threads`` change no value, so that the functions here accept and ignore them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from .._options import Normalize, RowOptions, SeveralOptions, TableOptions, show_options
from .divergence import (
    LEAST,
    Array,
    Decomposition,
    are_logits,
    as_logs,
    as_probabilities,
    drop_weightless,
    kl_terms,
    log_mean_power,
    log_ratio_of_logs,
    pair,
    pair_of_logs,
    power_excess,
    sum_amari_terms,
    sum_kl_terms,
    sum_plog,
)


def finish(values: Any, options: RowOptions, *, unit: bool = True) -> Any:
    """Return the values of all rows in the unit of ``base``, reduced over rows as ``reduction`` asks.

    Measures without a unit pass ``unit=False``.
    """
    values = np.asarray(values, dtype=np.float64)
    base = options.get("base")
    if base is not None and not 1 < base < np.inf:
        raise ValueError(f"base must be above 1 and finite, got {base!r}")
    if unit and base is not None:
        values = values / np.log(base)
    where = options.get("where")
    keep = np.ones(values.shape, bool) if where is None else np.broadcast_to(np.asarray(where), values.shape)
    weights = options.get("weights")
    factor = np.broadcast_to(1.0 if weights is None else np.asarray(weights, dtype=np.float64), values.shape)
    reduction = options.get("reduction", "none")
    if reduction == "none":
        values = np.where(keep, values, np.nan)
        axis = options.get("axis", -1)
        return np.expand_dims(values, -1 if axis is None else axis) if options.get("keepdims") else values[()]
    total = (values[keep] * factor[keep]).sum()
    return total / factor[keep].sum() if reduction == "mean" else total


@show_options(RowOptions)
def entropy(p: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return H(p) = -sum p log p: Shannon (1948), section 6."""
    return finish(sum_plog(as_probabilities(p, options), as_logs(p, options)), options)


@show_options(RowOptions)
def kl_divergence(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return D(p || q) = sum p log(p / q) - p + q: Kullback and Leibler (1951), eq. 2.4.

    The last two terms sum to 0 for distributions.
    """
    return finish(sum_kl_terms(p, q, options), options)


@show_options(RowOptions)
def cross_entropy(
    p: npt.ArrayLike,
    q: npt.ArrayLike,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    **options: Unpack[RowOptions],
) -> Any:
    """Return H(p, q) = -sum p log q.

    A label stands for a row that is 1 in one place, which ``label_smoothing`` moves towards the uniform row.
    """
    labels = np.asarray(p)
    if not (labels.dtype.kind in "iu" and labels.ndim == np.ndim(q) - 1):
        return finish(sum_plog(*np.broadcast_arrays(as_probabilities(p, options), as_logs(q, options))), options)
    second = as_logs(q, options)
    n_classes = second.shape[-1]
    target = (1 - label_smoothing) * (labels[..., None] == np.arange(n_classes)) + label_smoothing / n_classes
    if ignore_index is not None:
        where = options.get("where")
        options["where"] = (labels != ignore_index) & (True if where is None else np.asarray(where))
    return finish(sum_plog(target, second), options)


@show_options(RowOptions)
def log_loss(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    *,
    labels: npt.ArrayLike | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    **options: Unpack[RowOptions],
) -> Any:
    """Return -log p[y] for classes y, or -sum y log p for distributions y, which are never logits.

    Names of classes are sorted and numbered. A vector p for a vector of classes holds the second of two columns.
    """
    y, p = np.asarray(y), np.asarray(p)
    if y.dtype.kind != "f" and y.ndim in (p.ndim - 1, 1):
        if p.ndim == 1 == y.ndim:
            p = np.stack([np.zeros(p.shape) if options.get("from_logits") else 1 - p, p], axis=-1)
        if labels is not None or y.dtype.kind == "U":
            y = np.searchsorted(np.unique(y) if labels is None else np.asarray(labels), y)
        smoothed: Any = {"label_smoothing": label_smoothing, "ignore_index": ignore_index}
        return cross_entropy(y.astype(np.int64), p, **smoothed, **options)
    if options.get("from_logits"):
        plain: Any = {key: options[key] for key in ("axis", "normalize") if key in options}
        rows = np.broadcast_arrays(as_probabilities(y, plain), as_logs(p, options))
        return finish(sum_plog(*rows), options)
    return cross_entropy(y, p, **options)


@show_options(SeveralOptions)
def decompose(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Decomposition:
    """Return the three terms of H(p, q) = H(p) + D(p || q), each by its own formula."""
    h, cross = entropy(p, **options), cross_entropy(p, q, **options)
    return Decomposition(h, cross, kl_divergence(p, q, **options))


@show_options(RowOptions)
def jeffreys_divergence(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return D(p || q) + D(q || p): Jeffreys (1946)."""
    return finish(sum_kl_terms(p, q, options) + sum_kl_terms(q, p, options), options)


@show_options(RowOptions)
def population_stability_index(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return Jeffreys' divergence, which has this name in models of risk."""
    return jeffreys_divergence(p, q, **options)


@show_options(RowOptions)
def jensen_shannon_divergence(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return (D(p || m) + D(q || m)) / 2 with m = (p + q) / 2: Lin (1991), eq. 4.1."""
    p, q = pair(p, q, options)
    m = np.maximum((p + q) / 2, np.minimum(p + q, 5e-324))  # half of the smallest number is 0
    return finish((kl_terms(p, m) + kl_terms(q, m)).sum(axis=-1) / 2, options)


@show_options(RowOptions)
def jensen_shannon_distance(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return the square root of the Jensen-Shannon divergence: Endres and Schindelin (2003)."""
    plain: Any = {**options, "reduction": "none", "weights": None, "keepdims": False}
    value = jensen_shannon_divergence(p, q, **plain)
    return finish(np.sqrt(value), options, unit=False)


@show_options(RowOptions)
def hellinger_distance(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return sqrt(sum (sqrt p - sqrt q)^2 / 2): Hellinger (1909)."""
    p, q = pair(p, q, options)
    return finish(np.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum(axis=-1) / 2), options, unit=False)


@show_options(RowOptions)
def bhattacharyya_distance(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return -log sum sqrt(p q): Bhattacharyya (1943)."""
    p, q = pair(p, q, options)
    with np.errstate(divide="ignore"):
        return finish(-np.log(np.sqrt(p * q).sum(axis=-1)), options)


@show_options(RowOptions)
def total_variation_distance(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return sum |p - q| / 2."""
    p, q = pair(p, q, options)
    return finish(np.abs(p - q).sum(axis=-1) / 2, options, unit=False)


@show_options(RowOptions)
def chi2_divergence(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return sum (p - q)^2 / q: Pearson (1900)."""
    rows, others = pair(p, q, options)
    difference = np.abs(rows - others)
    with np.errstate(all="ignore"):
        terms = np.where(rows == others, 0, difference * (difference / np.abs(others)))
        if are_logits(options):  # p^2 / q - p - (p - q) of those for which float64 has few digits
            logs = pair_of_logs(p, q, options)
            far = power_excess(rows, logs[0], logs[0] - logs[1]) - (rows - others)
            terms = np.where((rows > 0) & (np.minimum(rows, others) < LEAST), far, terms)
        return finish(terms.sum(axis=-1), options, unit=False)


@show_options(RowOptions)
def renyi_divergence(p: npt.ArrayLike, q: npt.ArrayLike, *, alpha: float, **options: Unpack[RowOptions]) -> Any:
    """Return log(sum p^alpha q^(1 - alpha)) / (alpha - 1), or its limit.

    Van Erven and Harremoës (2014), definitions 2 and 3.
    """
    if alpha == 1:
        return kl_divergence(p, q, **options)
    logs = pair_of_logs(p, q, options)
    p, q = pair(p, q, options)
    ratio = log_ratio_of_logs(p, q, logs)
    with np.errstate(divide="ignore", invalid="ignore"):
        if alpha == np.inf:
            return finish(np.where(p > 0, ratio, -np.inf).max(axis=-1), options)
        if alpha == 0:
            return finish(-np.log(np.where(p > 0, q, 0).sum(axis=-1)), options)
        mass = 0.0
        if options.get("normalize", "check") is False and not are_logits(options):
            mass = alpha * (p.sum(axis=-1) - 1) + (1 - alpha) * (q.sum(axis=-1) - 1)
        less_one = alpha * (alpha - 1) * sum_amari_terms(p, q, logs, alpha) + mass
        near = np.log1p(np.clip(less_one, -0.5, 0.5))
        far = log_mean_power(p, drop_weightless(logs[0]) if alpha > 1 else logs[0], ratio, alpha - 1)
        return finish(np.where(np.abs(less_one) < 0.5, near, far) / (alpha - 1), options)


@show_options(RowOptions)
def alpha_divergence(p: npt.ArrayLike, q: npt.ArrayLike, *, alpha: float, **options: Unpack[RowOptions]) -> Any:
    """Return (sum p^alpha q^(1 - alpha) - 1) / (alpha (alpha - 1)), or its limit: Cichocki and Amari (2010), eq. 4."""
    if alpha in (0, 1):
        return kl_divergence(*((p, q) if alpha else (q, p)), **options)
    return finish(sum_amari_terms(*pair(p, q, options), pair_of_logs(p, q, options), alpha), options, unit=False)


@show_options(RowOptions)
def renyi_entropy(p: npt.ArrayLike, *, alpha: float, **options: Unpack[RowOptions]) -> Any:
    """Return log(sum p^alpha) / (1 - alpha), or its limit: Rényi (1961), eq. 1.21."""
    if alpha == 1:
        return entropy(p, **options)
    logs, p = as_logs(p, options), as_probabilities(p, options)
    if alpha == np.inf:
        return finish(-logs.max(axis=-1), options)
    return finish(log_mean_power(p, drop_weightless(logs), logs, alpha - 1) / (1 - alpha), options)


@show_options(RowOptions)
def tsallis_entropy(p: npt.ArrayLike, *, alpha: float, **options: Unpack[RowOptions]) -> Any:
    """Return (1 - sum p^alpha) / (alpha - 1), or its limit: Tsallis (1988), eq. 1."""
    if alpha == 1:
        return entropy(p, **options)
    logs, p = as_logs(p, options), as_probabilities(p, options)
    with np.errstate(all="ignore"):
        terms = power_excess(p, drop_weightless(logs), (alpha - 1) * logs)
    mass = 1 - p.sum(axis=-1) if options.get("normalize", "check") is False else 0
    value = (mass - terms.sum(axis=-1)) / (alpha - 1)
    return finish(value, options, unit=False)


@show_options(RowOptions)
def perplexity(p: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return exp(H(p))."""
    return finish(np.exp(sum_plog(as_probabilities(p, options), as_logs(p, options))), options, unit=False)


@show_options(TableOptions)
def mutual_information(counts: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return I = D(joint || rows columns): Cover and Thomas (2006), eq. 2.28.

    Both sides are multiplied by the total, so that counts give them exactly.
    """
    joint = np.asarray(counts, dtype=np.float64)
    rows, columns = joint.sum(axis=-1, keepdims=True), joint.sum(axis=-2, keepdims=True)
    total = joint.sum(axis=(-2, -1), keepdims=True)
    terms = kl_terms(joint * total, rows * columns)
    return finish((terms / total**2).sum(axis=(-2, -1)), options)


@show_options(SeveralOptions)
def compare(
    p: npt.ArrayLike,
    q: npt.ArrayLike,
    measures: Sequence[str] = ("kl", "reverse_kl", "js", "entropy_p", "entropy_q", "top1_agreement"),
    **options: Unpack[RowOptions],
) -> dict[str, Any]:
    """Return several measures, each by its own function."""
    functions: dict[str, Any] = {
        "kl": lambda: kl_divergence(p, q, **options),
        "reverse_kl": lambda: kl_divergence(q, p, **options),
        "cross_entropy": lambda: cross_entropy(p, q, **options),
        "entropy_p": lambda: entropy(p, **options),
        "entropy_q": lambda: entropy(q, **options),
        "js": lambda: jensen_shannon_divergence(p, q, **options),
        "js_distance": lambda: jensen_shannon_distance(p, q, **options),
        "jeffreys": lambda: jeffreys_divergence(p, q, **options),
        "hellinger": lambda: hellinger_distance(p, q, **options),
        "total_variation": lambda: total_variation_distance(p, q, **options),
        "chi2": lambda: chi2_divergence(p, q, **options),
        "top1_agreement": lambda: finish(
            np.equal(*(rows.argmax(axis=-1) for rows in pair(p, q, options))), options, unit=False
        ),
    }
    return {name: functions[name]() for name in measures}


def pairwise_divergence(
    P: npt.ArrayLike,
    Q: npt.ArrayLike | None = None,
    *,
    measure: str = "js",
    base: float | None = None,
    normalize: Normalize = "check",
    k: int | None = None,
    out: Array | None = None,
    n_threads: int | None = None,
) -> Any:
    """Return the measure of all pairs of rows, by broadcasting."""
    second = np.asarray(P if Q is None else Q)
    values = compare(np.asarray(P)[:, None], second[None, :], (measure,), base=base, normalize=normalize)[measure]
    if k is None:
        return values
    if Q is None:
        np.fill_diagonal(values, np.nan)
    order = np.argsort(values, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(values, order, axis=1), order


def _distances(x: npt.ArrayLike, y: npt.ArrayLike, k: int, skip: int) -> tuple[Array, Array]:
    """Return the distance from each row of x to its k-th neighbour in y after ``skip`` others, and its rank.

    Where that distance is 0, the least one that is not 0 takes its place. The rank is (a + b + 1) / 2, where a others
    are nearer and b are no farther; distances are equal to nine digits.
    """
    x, y = (np.asarray(z, dtype=np.float64).reshape(len(np.asarray(z)), -1) for z in (x, y))
    distances = np.sqrt(((x[:, None] - y) ** 2).sum(axis=-1))
    found = np.sort(distances, axis=1)[:, k + skip - 1]
    least = np.where(distances > 0, distances, np.inf).min(axis=1)
    found = np.where((found == 0) & (least < np.inf), least, found)
    nearer = (distances <= found[:, None] * (1 - 1e-9)).sum(axis=1)
    within = (distances <= found[:, None] * (1 + 1e-9)).sum(axis=1)
    return found, (nearer + within + 1) / 2 - skip


def kl_divergence_from_samples(
    x: npt.ArrayLike, y: npt.ArrayLike, *, k: int = 5, base: float | None = None, n_threads: int | None = None
) -> float:
    """Return d / n sum log(nu / rho) + log(m / (n - 1)): Wang, Kulkarni and Verdu (2009), eq. 25.

    The digamma functions of the ranks cancel where no point is tied.
    """
    from scipy.special import digamma

    (rho, k_rho), (nu, k_nu) = _distances(x, x, k, 1), _distances(x, y, k, 0)
    n, d = np.asarray(x).reshape(len(np.asarray(x)), -1).shape
    terms = d * np.log(nu / rho) + digamma(k_rho) - digamma(k_nu)
    return float(terms.mean() + np.log(len(np.asarray(y)) / (n - 1))) / (1.0 if base is None else float(np.log(base)))


def differential_entropy_from_samples(
    x: npt.ArrayLike, *, k: int = 5, base: float | None = None, n_threads: int | None = None
) -> float:
    """Return psi(n) - mean psi(k_i) + log V_d + d / n sum log rho: Kozachenko and Leonenko (1987)."""
    from scipy.special import digamma, gammaln

    rho, rank = _distances(x, x, k, 1)
    n, d = np.asarray(x).reshape(len(np.asarray(x)), -1).shape
    log_ball = 0.5 * d * np.log(np.pi) - gammaln(0.5 * d + 1)
    value = digamma(n) - digamma(rank).mean() + log_ball + d * np.log(rho).mean()
    return float(value) / (1.0 if base is None else float(np.log(base)))

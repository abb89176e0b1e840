"""Every divergence of rows in NumPy, float64: one formula a measure, after one way to make rows of probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import numpy.typing as npt

from .divergence import Array, Decomposition, as_rows, kl_terms, plog

if TYPE_CHECKING:
    from ..divergence._rows import RowOptions


def as_probabilities(x: npt.ArrayLike, options: RowOptions) -> Array:
    """Return rows of probabilities in float64, ``axis`` last: softmax of logits, smoothing and all."""
    axis, normalize = options.get("axis", -1), options.get("normalize", "check")
    smoothing = options.get("smoothing", 0.0)
    if options.get("from_logits"):
        logits = np.moveaxis(np.asarray(x).astype(np.float64), axis, -1) / options.get("temperature", 1.0)
        rows: Array = np.exp(logits - logits.max(axis=-1, keepdims=True))
        rows = rows / rows.sum(axis=-1, keepdims=True)
    else:
        rows = as_rows(x, axis, normalize)
        if smoothing:
            rows = np.moveaxis(np.asarray(x).astype(np.float64), axis, -1)
    if smoothing:
        rows = (rows + smoothing) / (rows + smoothing).sum(axis=-1, keepdims=True)
    return rows


def finish(values: Any, options: RowOptions, *, unit: bool = True) -> Any:
    """Change the unit and reduce over rows."""
    values = np.asarray(values, dtype=np.float64)
    base = options.get("base")
    if unit and base is not None:
        values = values / np.log(base)
    where = options.get("where")
    keep = np.ones(values.shape, bool) if where is None else np.broadcast_to(np.asarray(where), values.shape)
    weights = options.get("weights")
    factor = np.broadcast_to(1.0 if weights is None else np.asarray(weights, dtype=np.float64), values.shape)
    reduction = options.get("reduction", "none")
    if reduction == "none":
        values = np.where(keep, values, np.nan)
        return np.expand_dims(values, options.get("axis", -1)) if options.get("keepdims") else values[()]
    total = (values[keep] * factor[keep]).sum()
    return total / factor[keep].sum() if reduction == "mean" else total


def pair(p: npt.ArrayLike, q: npt.ArrayLike, options: RowOptions) -> tuple[Array, Array]:
    """Return both sides as probabilities."""
    first, second = np.broadcast_arrays(as_probabilities(p, options), as_probabilities(q, options))
    return first, second


def entropy(p: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """H(p) = -sum p log p. Shannon (1948), section 6."""
    p = as_probabilities(p, options)
    return finish(plog(p, p).sum(axis=-1), options)


def kl_divergence(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """D(p || q) = sum p log(p / q) - p + q. Kullback and Leibler (1951), eq. 2.4; the last two sum to 0."""
    return finish(kl_terms(*pair(p, q, options)).sum(axis=-1), options)


def cross_entropy(
    p: npt.ArrayLike,
    q: npt.ArrayLike,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    **options: Unpack[RowOptions],
) -> Any:
    """H(p, q) = -sum p log q; labels stand for one-hot rows, smoothed towards the uniform one."""
    labels = np.asarray(p)
    if not (labels.dtype.kind in "iu" and labels.ndim == np.ndim(q) - 1):
        return finish(plog(*pair(p, q, options)).sum(axis=-1), options)
    second = as_probabilities(q, options)
    n_classes = second.shape[-1]
    target = (1 - label_smoothing) * (labels[..., None] == np.arange(n_classes)) + label_smoothing / n_classes
    if ignore_index is not None:
        where = options.get("where")
        options["where"] = (labels != ignore_index) & (True if where is None else np.asarray(where))
    return finish(plog(target, second).sum(axis=-1), options)


def log_loss(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    **options: Unpack[RowOptions],
) -> Any:
    """-log p[y], or -sum y log p; y holds no logits."""
    if options.get("from_logits") and np.asarray(y).ndim == np.ndim(p):
        plain: Any = {key: options[key] for key in ("axis", "normalize") if key in options}
        rows = np.broadcast_arrays(as_probabilities(y, plain), as_probabilities(p, options))
        return finish(plog(*rows).sum(axis=-1), options)
    return cross_entropy(y, p, label_smoothing=label_smoothing, ignore_index=ignore_index, **options)


def decompose(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Decomposition:
    """H(p, q) = H(p) + D(p || q)."""
    h, cross = entropy(p, **options), cross_entropy(p, q, **options)
    return Decomposition(h, cross, kl_divergence(p, q, **options))


def jeffreys_divergence(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """D(p || q) + D(q || p). Jeffreys (1946)."""
    p, q = pair(p, q, options)
    return finish((kl_terms(p, q) + kl_terms(q, p)).sum(axis=-1), options)


def population_stability_index(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Jeffreys' divergence under the name that risk models use."""
    return jeffreys_divergence(p, q, **options)


def jensen_shannon_divergence(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """(D(p || m) + D(q || m)) / 2, m = (p + q) / 2. Lin (1991), eq. 4.1."""
    p, q = pair(p, q, options)
    m = (p + q) / 2
    return finish((kl_terms(p, m) + kl_terms(q, m)).sum(axis=-1) / 2, options)


def jensen_shannon_distance(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return the square root of the divergence. Endres and Schindelin (2003)."""
    plain: Any = {**options, "reduction": "none", "weights": None, "keepdims": False}
    value = jensen_shannon_divergence(p, q, **plain)
    return finish(np.sqrt(value), options, unit=False)


def hellinger_distance(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """sqrt(sum (sqrt p - sqrt q)^2 / 2). Hellinger (1909)."""
    p, q = pair(p, q, options)
    return finish(np.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum(axis=-1) / 2), options, unit=False)


def bhattacharyya_distance(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """-log sum sqrt(p q). Bhattacharyya (1943)."""
    p, q = pair(p, q, options)
    with np.errstate(divide="ignore"):
        return finish(-np.log(np.sqrt(p * q).sum(axis=-1)), options)


def total_variation_distance(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Sum |p - q| / 2."""
    p, q = pair(p, q, options)
    return finish(np.abs(p - q).sum(axis=-1) / 2, options, unit=False)


def chi2_divergence(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Sum (p - q)^2 / q. Pearson (1900)."""
    p, q = pair(p, q, options)
    with np.errstate(divide="ignore", invalid="ignore"):
        return finish(np.where(p == q, 0, (p - q) ** 2 / np.abs(q)).sum(axis=-1), options, unit=False)


def renyi_divergence(p: npt.ArrayLike, q: npt.ArrayLike, *, alpha: float, **options: Unpack[RowOptions]) -> Any:
    """log(sum p^a q^(1-a)) / (a - 1) and its limits. Van Erven and Harremoes (2014), definitions 2 and 3."""
    if alpha == 1:
        return kl_divergence(p, q, **options)
    p, q = pair(p, q, options)
    with np.errstate(divide="ignore", invalid="ignore"):
        if alpha == np.inf:
            return finish(np.log(np.where(p > 0, p / q, 0).max(axis=-1)), options)
        if alpha == 0:
            return finish(-np.log(np.where(p > 0, q, 0).sum(axis=-1)), options)
        powers = np.where(p > 0, p**alpha * q ** (1 - alpha), 0)
        return finish(np.log(powers.sum(axis=-1)) / (alpha - 1), options)


def alpha_divergence(p: npt.ArrayLike, q: npt.ArrayLike, *, alpha: float, **options: Unpack[RowOptions]) -> Any:
    """(sum p^a q^(1-a) - 1) / (a (a - 1)) and its limits. Cichocki and Amari (2010), eq. 4."""
    if alpha in (0, 1):
        return kl_divergence(*((p, q) if alpha else (q, p)), **options)
    p, q = pair(p, q, options)
    with np.errstate(divide="ignore", invalid="ignore"):
        powers = np.where((p == 0) & (q == 0), 0, p**alpha * q ** (1 - alpha))
    return finish((powers.sum(axis=-1) - 1) / (alpha * (alpha - 1)), options, unit=False)


def renyi_entropy(p: npt.ArrayLike, *, alpha: float, **options: Unpack[RowOptions]) -> Any:
    """log(sum p^a) / (1 - a) and its limits. Renyi (1961), eq. 1.21."""
    if alpha == 1:
        return entropy(p, **options)
    p = as_probabilities(p, options)
    if alpha == np.inf:
        return finish(-np.log(p.max(axis=-1)), options)
    return finish(np.log(np.where(p > 0, p**alpha, 0).sum(axis=-1)) / (1 - alpha), options)


def tsallis_entropy(p: npt.ArrayLike, *, alpha: float, **options: Unpack[RowOptions]) -> Any:
    """(1 - sum p^a) / (a - 1). Tsallis (1988), eq. 1."""
    if alpha == 1:
        return entropy(p, **options)
    p = as_probabilities(p, options)
    return finish((1 - np.where(p > 0, p**alpha, 0).sum(axis=-1)) / (alpha - 1), options, unit=False)


def perplexity(p: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Exp H(p)."""
    p = as_probabilities(p, options)
    return finish(np.exp(plog(p, p).sum(axis=-1)), options, unit=False)


def mutual_information(counts: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """I = H(rows) + H(columns) - H(joint). Cover and Thomas (2006), eq. 2.45."""
    joint = np.asarray(counts, dtype=np.float64)
    joint = joint / joint.sum(axis=(-2, -1), keepdims=True)
    rows, columns = joint.sum(axis=-1), joint.sum(axis=-2)
    value = plog(rows, rows).sum(axis=-1) + plog(columns, columns).sum(axis=-1) - plog(joint, joint).sum(axis=(-2, -1))
    return finish(value, options)


def compare(
    p: npt.ArrayLike,
    q: npt.ArrayLike,
    measures: tuple[str, ...] = ("kl", "reverse_kl", "js", "entropy_p", "entropy_q", "top1_agreement"),
    **options: Unpack[RowOptions],
) -> dict[str, Any]:
    """Several measures by their own functions."""
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
    normalize: bool | str = "check",
    k: int | None = None,
    out: Array | None = None,
    n_threads: int | None = None,
) -> Any:
    """All pairs by broadcasting."""
    second = np.asarray(P if Q is None else Q)
    values = compare(np.asarray(P)[:, None], second[None, :], (measure,), base=base, normalize=normalize)[measure]
    if k is None:
        return values
    if Q is None:
        np.fill_diagonal(values, np.nan)
    order = np.argsort(values, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(values, order, axis=1), order


def kl_divergence_topk(
    indices: npt.ArrayLike,
    log_probs: npt.ArrayLike,
    q_logits: npt.ArrayLike,
    *,
    tail: str = "bounds",
    n_threads: int | None = None,
) -> Any:
    """KL from the top k of P: the rest dropped, merged, spread evenly, or bounded (lower, upper)."""
    index, p = np.asarray(indices), np.exp(np.asarray(log_probs, dtype=np.float64))
    q = as_probabilities(q_logits, {"from_logits": True})
    listed = np.zeros(q.shape, bool)
    np.put_along_axis(listed, index, True, axis=-1)
    head = (p * np.log(p / np.take_along_axis(q, index, axis=-1))).sum(axis=-1)
    rest = 1 - p.sum(axis=-1)
    if tail == "drop":
        return head
    if tail == "uniform":
        each = rest / (~listed).sum(axis=-1)
        return head + np.where(listed, 0, each[..., None] * np.log(each[..., None] / q)).sum(axis=-1)
    lower = head + rest * np.log(rest / np.where(listed, 0, q).sum(axis=-1))
    if tail == "bucket":
        return lower
    least = np.where(listed, np.inf, q).min(axis=-1)
    return lower, head + rest * np.log(np.minimum(p[..., -1], rest) / least)


def _distances(x: npt.ArrayLike, y: npt.ArrayLike, k: int, skip: int) -> tuple[Array, Array]:
    """Distances from x to the k-th of y after ``skip``, and its rank; where that is 0, to the nearest that is not."""
    x, y = (np.asarray(z, dtype=np.float64).reshape(len(np.asarray(z)), -1) for z in (x, y))
    ordered = np.sort(np.sqrt(((x[:, None] - y) ** 2).sum(axis=-1)), axis=1)
    rank = np.full(len(x), k)
    for i, row in enumerate(ordered):
        if row[k + skip - 1] == 0 and row[-1] > 0:
            rank[i] = np.argmax(row > 0) + 1 - skip
    return ordered[np.arange(len(x)), rank + skip - 1], rank.astype(float)


def kl_divergence_from_samples(
    x: npt.ArrayLike, y: npt.ArrayLike, *, k: int = 5, base: float | None = None, n_threads: int | None = None
) -> float:
    """D / n sum log(nu / rho) + log(m / (n - 1)), and digamma of the ranks. Wang, Kulkarni, Verdu (2009), eq. 25."""
    from scipy.special import digamma

    (rho, k_rho), (nu, k_nu) = _distances(x, x, k, 1), _distances(x, y, k, 0)
    n, d = np.asarray(x).reshape(len(np.asarray(x)), -1).shape
    terms = d * np.log(nu / rho) + digamma(k_rho) - digamma(k_nu)
    return float(terms.mean() + np.log(len(np.asarray(y)) / (n - 1))) / (1.0 if base is None else float(np.log(base)))


def differential_entropy_from_samples(
    x: npt.ArrayLike, *, k: int = 5, base: float | None = None, n_threads: int | None = None
) -> float:
    """psi(n) - mean psi(k_i) + log V_d + d / n sum log rho. Kozachenko and Leonenko (1987)."""
    from scipy.special import digamma, gammaln

    rho, rank = _distances(x, x, k, 1)
    n, d = np.asarray(x).reshape(len(np.asarray(x)), -1).shape
    log_ball = 0.5 * d * np.log(np.pi) - gammaln(0.5 * d + 1)
    value = digamma(n) - digamma(rank).mean() + log_ball + d * np.log(rho).mean()
    return float(value) / (1.0 if base is None else float(np.log(base)))

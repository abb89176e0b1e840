"""Divergences and entropies beyond KL: symmetric, bounded, and of one parameter."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from .._checks.scalars import check_choice, check_finite, check_order
from ._labels import is_labels, label_loss
from ._rows import MEASURES, RowOptions, check_options, row_value, row_values


def jeffreys_divergence(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return Jeffreys' divergence ``sum (p - q) log(p / q) = KL(p || q) + KL(q || p)``.

    Options are those of :func:`kl_divergence`. A zero on one side alone gives ``inf``. H. Jeffreys
    (1946), An invariant form for the prior probability in estimation problems.
    """
    return row_value(p, q, "jeffreys", options)


def population_stability_index(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return the population stability index ``sum (p - q) log(p / q)``: Jeffreys' divergence of binned features.

    Options are those of :func:`kl_divergence`; counts of bins are divided by their sums. An empty bin on
    one side gives ``inf``; pass ``smoothing`` to soften it.
    """
    return row_value(p, q, "jeffreys", options)


def jensen_shannon_divergence(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return ``(KL(p || m) + KL(q || m)) / 2`` with ``m = (p + q) / 2``: in [0, log 2], symmetric.

    Options are those of :func:`kl_divergence`. J. Lin (1991), Divergence measures based on the Shannon
    entropy, eq. 4.1.
    """
    return row_value(p, q, "js", options)


def jensen_shannon_distance(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return the square root of :func:`jensen_shannon_divergence`, a metric (Endres and Schindelin, 2003).

    This is what :func:`scipy.spatial.distance.jensenshannon` calls the Jensen-Shannon distance.
    """
    return row_value(p, q, "js_distance", options)


def hellinger_distance(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return ``sqrt(sum (sqrt p - sqrt q)^2 / 2)``, in [0, 1]. Options: :func:`kl_divergence`; no unit, so no base."""
    return row_value(p, q, "hellinger", options)


def total_variation_distance(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return ``sum |p - q| / 2``, in [0, 1]. Options: :func:`kl_divergence`; no unit, so no base."""
    return row_value(p, q, "total_variation", options)


def chi2_divergence(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return Pearson's ``sum (p - q)^2 / q``; ``inf`` where q = 0 < p. Options: :func:`kl_divergence`; no base."""
    return row_value(p, q, "chi2", options)


def bhattacharyya_distance(p: npt.ArrayLike, q: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return ``-log sum sqrt(p q)``; ``inf`` for rows without common support.

    Options are those of :func:`kl_divergence`. A. Bhattacharyya (1943), On a measure of divergence between
    two statistical populations.
    """
    base = options.get("base")
    unit = 1.0 if base is None else float(np.log(base))
    plain = options.get("normalize", "check") is False

    def combine(values: list[Any]) -> list[Any]:
        affinity, distance = values
        with np.errstate(divide="ignore"):
            far = -np.log(affinity)
            near = far if plain else -np.log1p(-np.minimum(np.square(distance), 0.75))
        return [np.where(np.asarray(affinity) > 0.5, near, far)[()] / unit]

    return row_values(p, q, ("affinity", "hellinger"), **check_options(options), transform=combine)[0]


def renyi_divergence(p: npt.ArrayLike, q: npt.ArrayLike, *, alpha: float, **options: Unpack[RowOptions]) -> Any:
    """Return ``log(sum p^alpha q^(1 - alpha)) / (alpha - 1)``, the Renyi divergence of order ``alpha`` in [0, inf].

    Order 1 is the KL divergence, 0 is ``-log q(p > 0)``, infinity ``log max p / q``. Options are those of
    :func:`kl_divergence`. T. van Erven and P. Harremoes (2014), Renyi divergence and
    Kullback-Leibler divergence.
    """
    order = check_order(alpha)
    if order == np.inf:
        return row_value(p, q, "max_ratio", options)
    if order in (0, 1):
        return row_value(p, q, "kl" if order else "support", options)
    base = options.get("base")
    factor = (order - 1) * (1.0 if base is None else float(np.log(base)))

    def combine(values: list[Any]) -> list[Any]:  # near rows need the difference from 1, far ones the power itself
        near, far = (np.asarray(value) for value in values)
        return [np.where(far * factor < -0.5, far, near)[()]]

    return row_values(p, q, ("renyi", "power"), **check_options(options), alpha=order, transform=combine)[0]


def alpha_divergence(p: npt.ArrayLike, q: npt.ArrayLike, *, alpha: float, **options: Unpack[RowOptions]) -> Any:
    """Return ``(sum p^alpha q^(1 - alpha) - 1) / (alpha (alpha - 1))`` for a finite ``alpha``.

    1 is KL(p || q) and 0 is KL(q || p), the limits; 2 is half of :func:`chi2_divergence`, 1/2 four times the
    squared Hellinger distance. Options are those of :func:`kl_divergence`; the base counts for
    the two limits alone. A. Cichocki and S. Amari (2010), Families of alpha- beta- and gamma- divergences, eq. 4.
    """
    order = check_finite(alpha, "alpha")
    if order in (0, 1):
        return row_value(p, q, "kl" if order else "reverse_kl", options)
    return row_value(p, q, "alpha", options, alpha=order)


def renyi_entropy(p: npt.ArrayLike, *, alpha: float, **options: Unpack[RowOptions]) -> Any:
    """Return ``log(sum p^alpha) / (1 - alpha)`` for ``alpha`` in [0, inf]; 1 is Shannon's, infinity ``-log max p``.

    Options are those of :func:`kl_divergence`. A. Renyi (1961), On measures of entropy and information.
    """
    order = check_order(alpha)
    if order == np.inf:
        return row_value(p, None, "min_entropy", options)
    if order == 1:
        return row_value(p, None, "entropy_p", options)
    return row_value(p, None, "renyi_entropy", options, alpha=order)


def tsallis_entropy(p: npt.ArrayLike, *, alpha: float, **options: Unpack[RowOptions]) -> Any:
    """Return ``(1 - sum p^alpha) / (alpha - 1)`` for a finite ``alpha >= 0``; 1 is Shannon's entropy.

    Options are those of :func:`kl_divergence`; the base counts for order 1 alone. C. Tsallis (1988), Possible
    generalization of Boltzmann-Gibbs statistics.
    """
    order = check_finite(check_order(alpha), "alpha")
    if order == 1:
        return row_value(p, None, "entropy_p", options)
    return row_value(p, None, "tsallis_entropy", options, alpha=order)


def perplexity(p: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return ``exp(H(p))``, the effective number of outcomes; whatever the base. Options: :func:`kl_divergence`."""
    return row_value(p, None, "perplexity_p", {**options, "base": None})


def log_loss(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    **options: Unpack[RowOptions],
) -> Any:
    """Return ``-log p[y]`` of every row, or its mean with ``reduction="mean"``.

    ``y`` holds integer labels (one axis less than p) or distributions over the classes, always as
    probabilities; ``p`` holds predicted probabilities or, with ``from_logits=True``, logits. Nothing is
    clipped: a label of probability zero costs ``inf``. Other parameters are those of :func:`cross_entropy`;
    ``temperature`` divides the logits of p alone.
    """
    if is_labels(y, p):
        return label_loss(y, p, label_smoothing, ignore_index, options, name="p")
    if label_smoothing != 0 or ignore_index is not None:
        raise ValueError("label_smoothing and ignore_index need integer labels in y")
    if not options.get("from_logits"):
        return row_value(y, p, "cross_entropy", options, names=("y", "p"))
    # -sum y log p with y as logits too: its logarithms, times the temperature that both are divided by
    axis, normalize, where = options.get("axis", -1), options.get("normalize", "check"), options.get("where")
    row_values(y, None, ("mass",), axis=axis, normalize=normalize, where=where, names=("y", ""))
    with np.errstate(divide="ignore"):
        logs = np.log(np.asarray(y, dtype=np.float64)) * options.get("temperature", 1.0)
    return row_value(logs, p, "cross_entropy", options, names=("y", "p"))


def mutual_information(counts: npt.ArrayLike, **options: Unpack[RowOptions]) -> Any:
    """Return the mutual information of every joint table ``counts[..., i, j]``, over its last two axes.

    ``I = KL(joint || product of its marginals)``. Counts or probabilities of any sum: tables are always
    divided by their sums. Options are those of :func:`kl_divergence` except ``axis``, ``keepdims``,
    ``normalize``, ``from_logits`` and ``smoothing``.
    """
    for name in ("axis", "keepdims", "normalize", "from_logits", "temperature", "smoothing"):
        if name in options:
            raise TypeError(f"mutual_information() got an unexpected keyword argument {name!r}")
    from .._checks.probabilities import check_tables

    tables = check_tables(counts, "counts")
    rows, columns = tables.sum(axis=-1, keepdims=True), tables.sum(axis=-2, keepdims=True)
    total = rows.sum(axis=-2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        product = (rows / total) * (columns / total)
    flat = (*tables.shape[:-2], tables.shape[-2] * tables.shape[-1])
    return row_value(tables.reshape(flat), product.reshape(flat), "kl", {**options, "normalize": True})


COMPARED = {
    **{name: name for name in ("kl", "reverse_kl", "cross_entropy", "entropy_p", "entropy_q", "js", "js_distance")},
    **{name: name for name in ("jeffreys", "hellinger", "total_variation", "chi2", "top1_agreement")},
}
assert set(COMPARED.values()) <= set(MEASURES)


def compare(
    p: npt.ArrayLike,
    q: npt.ArrayLike,
    measures: tuple[str, ...] = ("kl", "reverse_kl", "js", "entropy_p", "entropy_q", "top1_agreement"),
    **options: Unpack[RowOptions],
) -> dict[str, Any]:
    """Return several measures of every pair of rows as a dict, from one read of memory.

    ``measures`` may name "kl", "reverse_kl", "cross_entropy", "entropy_p", "entropy_q", "js", "js_distance",
    "jeffreys", "hellinger", "total_variation", "chi2" and "top1_agreement" (1 where p and q
    have their largest element at one place). Options are those of :func:`kl_divergence`, except ``out``.
    """
    if options.get("out") is not None:
        raise ValueError("out is not taken by compare, which returns several arrays")
    if isinstance(measures, str):
        measures = (measures,)
    for name in measures:
        check_choice(name, "measures", tuple(COMPARED))
    if not measures:
        raise ValueError(f"measures must name at least one of {', '.join(COMPARED)}")
    names = tuple(dict.fromkeys(measures))
    return dict(zip(names, row_values(p, q, names, **check_options(options)), strict=True))

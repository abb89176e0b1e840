"""Statistics over rows of per-row divergences, from chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks.names import match_index
from .._checks.scalars import check_flag
from ._measures import row_measures
from ._row_result import RowResult, RowStatistics
from ._row_values import RowValues

__all__ = ["RowDivergence", "RowResult", "RowStatistics", "RowValues"]


class RowDivergence(RowValues):
    """Statistics over rows (tokens, examples) of per-row divergences, from chunks.

    Counts, means and errors come from exact sums, so any chunking, any order of merging and any
    thread count give the same bits.

    Parameters
    ----------
    measures
        Measures of ``kullback.divergence.compare``, and two measures of labels: "log_loss", which is
        -log q[label], and "log_loss_p", which is -log p[label].
    from_logits
        Whether ``p`` and ``q`` are logits or log-probabilities.
    quantiles
        Probabilities in [0, 1]. A quantile is the value of rank ``max(1, ceil(probability * n))``
        ("inverted_cdf" of NumPy). Its rank is exact, and its value within a relative 2^-11. Weights do not
        change ranks: they only leave rows out, where they are 0.
    groups
        Whether rows carry a group label. Then statistics are kept for each group and for all rows.
    base, normalize
        As for ``kullback.divergence.kl_divergence``.
    n_threads
        Threads of the kernels; no bit of the result depends on it.

    Notes
    -----
    A row whose value is not a number is counted as ``n_nonfinite`` and left out. An infinite value
    is legitimate: it makes ``mean`` and ``max`` infinite, is counted as ``n_infinite``, and does not enter
    ``mean_finite``.

    With weights w and values d, the mean is sum(w d) / sum(w). Its standard error is that of a
    ratio estimator, sqrt(n / (n - 1) sum(w^2 (d - mean)^2)) / sum(w) (Cochran 1977, section 6.13),
    which is s / sqrt(n) for equal weights. Each w d is rounded once; all sums are exact.

    Examples
    --------
    >>> import numpy as np
    >>> from kullback.streaming import RowDivergence
    >>> p = np.array([[0.5, 0.5], [0.25, 0.75]])
    >>> RowDivergence().update(p, p).result().kl.mean
    0.0
    """

    _format = "kullback.streaming.RowDivergence"

    def __init__(
        self,
        measures: Sequence[str] = ("kl",),
        *,
        from_logits: bool = False,
        quantiles: Sequence[float] | None = None,
        groups: bool = False,
        base: float | None = None,
        normalize: bool | str = "check",
        n_threads: int | None = None,
    ) -> None:
        super().__init__(measures, quantiles=quantiles, groups=groups)
        self.from_logits = check_flag(from_logits, "from_logits")
        self.base = base
        self.normalize = normalize
        self.n_threads = n_threads
        self._evaluate: Callable[..., NDArray[np.float64]] = row_measures(
            self.measures, from_logits=self.from_logits, base=base, normalize=normalize, n_threads=n_threads
        )

    def _configuration(self) -> dict[str, Any]:
        return {
            "measures": list(self.measures),
            "from_logits": self.from_logits,
            "quantiles": list(self.quantiles),
            "groups": self.groups,
            "base": self.base,
            "normalize": self.normalize,
        }

    def update(  # type: ignore[override]  # the mechanism is that of RowValues, the arguments are not
        self,
        p: ArrayLike,
        q: ArrayLike,
        labels: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        group: ArrayLike | None = None,
    ) -> Self:
        """Add rows, and return ``self``; an error leaves the accumulator as it was.

        Parameters
        ----------
        p, q
            Distributions (or logits) along the last axis; all other axes count rows.
        labels
            Integer labels, one per row, for measures that need them.
        weights
            Weights that are not negative, one per row; 0 leaves a row out altogether.
        group
            One label (int or str) for all rows, or one per row.
        """
        if labels is not None or weights is not None or group is not None:
            match_index(p, {"labels": labels, "weights": weights, "group": group})
        return self._add(self._evaluate(p, q, labels), weights, group)

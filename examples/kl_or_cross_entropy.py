"""Whether cross-entropy and KL differ in learning speed, in three cases.

    python examples/kl_or_cross_entropy.py            # writes kl_or_cross_entropy.png

    D_KL(P || Q) = H(P, Q) - H(P)

t-SNE moves points Y so that Q(Y) comes near P. There are three cases, which are run on scikit-learn's digits:

1. P is fixed. H(P) does not depend on Y, so both losses have the same gradient. The steps and the path are the same,
   bit for bit, and the curves differ by the constant H(P). There is no difference in learning speed.
2. P follows a schedule: its perplexity is annealed. At every step the gradients are still the same, and so is the
   path. But the distance between the curves, H(P), now changes. Cross-entropy falls because P becomes sharper, even
   while KL rises. Only KL tells how far the map is from its P.
3. P is learned as well. A teacher ``P_b`` is proportional to ``P^b``, and its sharpness b takes part in the descent.
   Now H(P) depends on what is learned, and the gradients differ. Cross-entropy rewards a teacher that is certain,
   whatever the map is, so b grows and the map follows less and less of the data. KL makes both agree.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from kullback import affinities, gradient
from kullback.tsne import initialization

LOSSES = ("kl_divergence", "cross_entropy")
MOMENTUM = 0.8
SHARPNESS_RATE = 0.02


class Run(NamedTuple):
    """One descent: the positions at its end, and one entry for each iteration."""

    positions: np.ndarray
    entropy: np.ndarray
    cross_entropy: np.ndarray
    kl_divergence: np.ndarray
    sharpness: np.ndarray


def sharpen(P: sparse.csr_array, sharpness: float) -> sparse.csr_array:
    """Return P^b, divided by its sum."""
    sharper = P.copy()
    sharper.data = np.exp(sharpness * (np.log(P.data) - np.log(P.data.max())))
    sharper.data /= sharper.data.sum()
    return sharper


def position_gradient(loss: str, P: sparse.csr_array, Y: np.ndarray, dP_dY: float = 0.0) -> np.ndarray:
    """Return the derivative of a loss by Y.

    The derivative of the cross-entropy is the gradient of t-SNE. KL is the cross-entropy minus H(P), whose derivative
    by Y is ``- (1 + log P) dP / dY``. It is 0 in all three cases, because P does not depend on Y.
    """
    by_cross_entropy = gradient.tsne_gradient(P, Y, method="exact")
    if loss == "cross_entropy":
        return by_cross_entropy
    by_entropy = -float(np.sum(1 + np.log(P.data))) * dP_dY
    return by_cross_entropy - by_entropy


def sharpness_gradient(loss: str, P: sparse.csr_array, sharpness: float, Y: np.ndarray) -> float:
    """Return the derivative of a loss by b, with ``dP_b / db = P_b (log P - mean of log P under P_b)``.

    It is ``- sum dP/db log Q`` for the cross-entropy and ``sum dP/db (log P_b - log Q)`` for KL. So they differ.
    """
    sharper = sharpen(P, sharpness)
    log_p = np.log(P.data)
    dP_db = sharper.data * (log_p - sharper.data @ log_p)
    rows, columns = sharper.nonzero()
    # This is log Q without log Z, which drops out because dP / db sums to 0.
    log_q = -np.log1p(((Y[rows] - Y[columns]) ** 2).sum(axis=1))
    by_cross_entropy = -float(dP_db @ log_q)
    if loss == "cross_entropy":
        return by_cross_entropy
    return by_cross_entropy + float(dP_db @ np.log(np.maximum(sharper.data, 1e-300)))


def descend(
    loss: str,
    schedule: list[sparse.csr_array],
    start: np.ndarray,
    *,
    learn_sharpness: bool = False,
) -> Run:
    """Minimise a loss by gradient descent with momentum, with one P of the schedule for each iteration."""
    Y = start.astype(np.float64)
    step = np.zeros_like(Y)
    sharpness, trace = 1.0, []
    rate = len(Y) / 4
    for P in schedule:
        current = sharpen(P, sharpness) if learn_sharpness else P
        values = gradient.tsne_loss(current, Y, method="exact")
        trace.append((*values, sharpness))
        by_positions = position_gradient(loss, current, Y)
        if learn_sharpness:
            sharpness -= SHARPNESS_RATE * sharpness_gradient(loss, P, sharpness, Y)
        step = MOMENTUM * step - rate * by_positions
        Y = Y + step
    return Run(Y, *np.array(trace).T)


def compare(X: np.ndarray, n_iter: int = 300, perplexity: float = 30.0) -> dict[str, dict[str, Run]]:
    """Run the three cases with both losses, and return {case: {loss: run}}."""
    P = affinities.perplexity(X, perplexity).P
    start = initialization.pca(X, 2, random_state=0).astype(np.float64) * 100
    # The perplexity falls from four times its value, on one neighbour graph.
    wide = affinities.perplexity(X, min(4 * perplexity, (len(X) - 1) / 3))
    stages = [
        affinities.perplexity(wide.neighbors, value, metric="precomputed").P
        for value in np.geomspace(min(4 * perplexity, (len(X) - 1) / 3), perplexity, 12)
    ]
    annealed = [stages[i * len(stages) // n_iter] for i in range(n_iter)]
    return {
        "P fixed": {loss: descend(loss, [P] * n_iter, start) for loss in LOSSES},
        "P annealed": {loss: descend(loss, annealed, start) for loss in LOSSES},
        "P learned": {loss: descend(loss, [P] * n_iter, start, learn_sharpness=True) for loss in LOSSES},
    }


def draw(runs: dict[str, dict[str, Run]]) -> Any:
    """Draw a column for each case, with both losses of both descents above and H(P) below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.4), dpi=150, layout="constrained")
    axes = figure.subplots(2, 3, sharex=True, height_ratios=[3, 2])
    colours = dict(zip(LOSSES, ("#d62728", "#1f77b4"), strict=True))
    names = dict(zip(LOSSES, ("KL", "cross-entropy"), strict=True))
    for column, (case, pair) in enumerate(runs.items()):
        above, below = axes[:, column]
        same = np.array_equal(pair[LOSSES[0]].positions, pair[LOSSES[1]].positions)
        above.set_title(f"{case}: {'one path, bit for bit' if same else 'two paths'}", loc="left", fontsize=11)
        for descent, run in pair.items():
            # If both paths are the same, the first one shows through the second, which is dotted.
            style = {
                "color": colours[descent],
                "linewidth": 2,
                "linestyle": ":" if descent == LOSSES[1] else "-",
            }
            above.plot(run.cross_entropy, **style, label=f"H(P, Q), descent on {names[descent]}")
            above.plot(run.kl_divergence, **style, alpha=0.55, label=f"KL, descent on {names[descent]}")
            below.plot(run.entropy, **style, label=f"descent on {names[descent]}")
        for axis in (above, below):
            axis.spines[["top", "right"]].set_visible(False)
            axis.set_ylim(bottom=0)
        below.set_xlabel("iteration")
    axes[0, 0].set_ylabel("loss in nats")
    axes[1, 0].set_ylabel("H(P) in nats")
    axes[0, 0].legend(frameon=False, fontsize=8)
    axes[1, 2].legend(frameon=False, fontsize=8)
    return figure


def main() -> None:
    """Print what happened, and draw it."""
    from sklearn.datasets import load_digits

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="kl_or_cross_entropy.png")
    parser.add_argument("--iterations", type=int, default=300)
    arguments = parser.parse_args()
    runs = compare(load_digits().data, arguments.iterations)
    for case, pair in runs.items():
        on_kl, on_cross_entropy = (pair[loss] for loss in LOSSES)
        same = np.array_equal(on_kl.positions, on_cross_entropy.positions)
        print(f"{case}: {'the same map, bit for bit' if same else 'different maps'}")
        for loss, run in pair.items():
            print(f"  descent on {loss:<13}  H(P) {run.entropy[0]:7.4f} -> {run.entropy[-1]:7.4f}   "
                  f"H(P, Q) {run.cross_entropy[-1]:7.4f}   KL {run.kl_divergence[-1]:7.4f}   "
                  f"sharpness {run.sharpness[-1]:.2f}")  # fmt: skip
    draw(runs).savefig(arguments.output)
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()

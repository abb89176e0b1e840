"""Draw what the three accumulators of kullback.streaming estimate. The picture is in docs/streaming.md.

python examples/estimands.py docs/estimands.svg
"""

import sys
from pathlib import Path

import numpy as np

P, Q, INK = "#1b6ca8", "#d1662f", "#333333"


def bars(axes, heights, left, bottom, width, height, color):
    """Draw a small histogram into a box."""
    edges = left + np.arange(len(heights)) * width / len(heights)
    axes.bar(edges, heights / heights.max() * height, 0.85 * width / len(heights), bottom, align="edge", color=color)


def arrow(axes, start, end):
    """Draw an arrow."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.2})


def write(axes, x, y, text, **options):
    """Write text at a position."""
    axes.text(x, y, text, color=options.pop("color", INK), va="center", **options)


def rows(axes, rng):
    """Draw one divergence for each row, and then statistics over rows."""
    for k, top in enumerate((8.1, 6.3, 4.5)):
        bars(axes, rng.dirichlet(np.full(7, 2.0)), 0.2, top, 2.6, 1.2, P)
        bars(axes, rng.dirichlet(np.full(7, 2.0)), 3.2, top, 2.6, 1.2, Q)
        arrow(axes, (6.0, top + 0.5), (6.9, top + 0.5))
        write(axes, 7.0, top + 0.5, f"$D(p_{k + 1}, q_{k + 1})$", fontsize=11)
    write(axes, 3.0, 3.6, "rows (tokens, examples)\narrive in chunks", ha="center", fontsize=8.5)
    arrow(axes, (8.1, 4.4), (8.1, 2.9))
    write(axes, 5, 2.2, r"mean $\pm$ error, quantiles, ... of the $D_i$", ha="center", fontsize=11)
    write(axes, 5, 0.9, "How far apart are $p$ and $q$\non a typical row?", ha="center", style="italic", fontsize=9.5)


def histograms(axes, rng):
    """Draw how the counts of all chunks are added up, for one divergence of the totals."""
    shares = np.array([0.05, 0.15, 0.3, 0.25, 0.15, 0.1]), np.array([0.1, 0.1, 0.15, 0.25, 0.3, 0.1])
    totals = np.zeros((2, 6))
    for top in (8.1, 6.5):
        for side, left, color in ((0, 0.2, P), (1, 5.4, Q)):
            counts = rng.multinomial(40, shares[side]).astype(float)
            totals[side] += counts
            bars(axes, counts, left, top, 2.8, 1.1, color)
    for left in (1.6, 6.8):
        write(axes, left, 7.8 - 0.02, "+", ha="center", fontsize=12)
        arrow(axes, (left, 6.3), (left, 5.5))
    bars(axes, totals[0], 0.2, 3.7, 2.8, 1.7, P)
    bars(axes, totals[1], 5.4, 3.7, 2.8, 1.7, Q)
    write(axes, 8.4, 7.8, "chunks\nof values", fontsize=8.5)
    write(axes, 8.4, 4.5, "totals", fontsize=8.5)
    arrow(axes, (1.6, 3.5), (4.0, 2.6))
    arrow(axes, (6.8, 3.5), (5.2, 2.6))
    write(axes, 4.6, 2.2, "one $D$(total $p$, total $q$) a feature", ha="center", fontsize=11)
    write(axes, 5, 0.9, "Has the distribution of this\nfeature drifted?", ha="center", style="italic", fontsize=9.5)


def support(axes, rng):
    """Draw one pair of distributions that is cut along the support."""
    x = np.linspace(-3, 3, 60)
    for shift, color, bottom in ((-0.4, P, 7.0), (0.4, Q, 4.4)):
        density = np.exp(-((x - shift) ** 2)) + 0.3 * np.exp(-4 * (x - 1.8) ** 2) + 0.04 * rng.random(60)
        bars(axes, density, 0.2, bottom, 9.0, 2.0, color)
    for cut in (3.2, 6.2):
        axes.plot([cut, cut], [4.1, 9.4], color=INK, lw=1, ls="--")
    for k, left in enumerate((1.7, 4.7, 7.7)):
        write(axes, left, 3.8, f"chunk {k + 1}", ha="center", fontsize=8.5)
        arrow(axes, (left, 3.45), (left + (4.7 - left) * 0.35, 2.6))
    write(axes, 4.7, 2.2, "one $D(p, q)$: sums of terms add up", ha="center", fontsize=11)
    write(axes, 4.7, 0.9, "How far apart are these two\nhuge distributions?", ha="center", style="italic", fontsize=9.5)


def main(path):
    """Draw the picture and save it."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    with mpl.rc_context({"svg.hashsalt": "kullback", "svg.fonttype": "path"}):
        figure, panels = plt.subplots(1, 3, figsize=(11.5, 4.2), facecolor="white")
        names = ("RowDivergence", "HistogramDivergence", "SupportDivergence")
        for axes, name, draw in zip(panels, names, (rows, histograms, support), strict=True):
            axes.set(xlim=(0, 10), ylim=(0, 9.9))
            axes.axis("off")
            axes.set_title(name, family="monospace", fontsize=12, color=INK)
            draw(axes, np.random.default_rng(4))
        figure.text(0.02, 0.965, "p", color=P, fontsize=13, weight="bold")
        figure.text(0.037, 0.965, "q", color=Q, fontsize=13, weight="bold")
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]))

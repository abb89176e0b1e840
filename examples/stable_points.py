"""Which points of a map can be believed? Those whose surroundings are the same in maps of other settings and seeds.

    python examples/stable_points.py [--output stable_points.png]

Twelve maps of the digits are made from one neighbour graph, with three perplexities, two exaggerations and two seeds.
On the left is the first map with its classes. On the right is the same map with the stability of each point: the share
of its neighbours that are its neighbours in the other maps too. Points in small tight groups keep their neighbours.
Points between clusters, or inside broad ones, do not.
"""

from __future__ import annotations

import argparse

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import kullback
from kullback import plotting


def draw(X: np.ndarray, labels: np.ndarray, **options: object) -> Figure:
    """Sweep over the settings and draw the first map twice: by class, and by stability."""
    found = kullback.sweep(X, **options)  # type: ignore[arg-type]
    figure = Figure(figsize=(15, 7), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    first = found.settings[0]
    title = f"perplexity {first.perplexity:g}, exaggeration {first.exaggeration:g}, seed {first.seed}"
    plotting.scatter(found.maps[0], labels, ax=left, title=title)
    caption = f"mean over {len(found.maps)} maps: {found.stability.mean():.2f}"
    plotting.scatter(
        found.maps[0], found.stability, ax=right, title="share of neighbours that other maps keep", caption=caption
    )
    return figure


def main() -> None:
    """Read the arguments, draw the picture and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="stable_points.png")
    arguments = parser.parse_args()
    X, labels = load_digits(return_X_y=True)
    figure = draw(X, labels, perplexities=[10, 30, 100], exaggerations=[1, 2], seeds=[0, 1], progress=True)
    figure.savefig(arguments.output)
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()

"""Pictures of embeddings and of their loss. They need matplotlib: ``pip install "kullback[plot]"``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._checks.data import check_positions
from ._checks.labels import check_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["loss", "scatter"]

MAX_CLASSES = 20
"""More distinct numbers than that are drawn as a colour scale. Of more names, the rarest are drawn as "other"."""

INK = "#24292f"
QUIET = "#8c959f"
OTHER = "#d0d7de"

COLOURS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#6b7280", "#bcbd22",
    "#17becf", "#0b3c66", "#b45309", "#14532d", "#7f1d1d", "#4c1d95", "#f59e0b", "#f9a8d4", "#111827",
    "#65a30d", "#67e8f9",
)  # fmt: skip


def __dir__() -> list[str]:
    return __all__


def scatter(
    embedding: npt.ArrayLike,
    labels: npt.ArrayLike | None = None,
    *,
    title: str | None = None,
    caption: str | None = None,
    point_size: float | None = None,
    size_inches: float = 8.0,
    ax: Axes | None = None,
) -> Figure:
    """Draw a two-dimensional embedding as a map: equal scales, no axes, one colour for each class.

    Parameters
    ----------
    embedding : array-like of shape (n_points, 2)
        Positions.
    labels : array-like of shape (n_points,), optional
        Classes, which are named in the legend and at their middle; or more than 20 distinct numbers, which are
        shown as a colour scale.
    title, caption : str, optional
        Lines above and below the map.
    point_size : float > 0, optional
        Area of a point in square points. The default is smaller the more points there are.
    size_inches : float > 0, default 8
        Side of the figure.
    ax : matplotlib Axes, optional
        Draw here instead of on a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        It is made without pyplot, so there is nothing to close; ``figure.savefig("map.png")`` writes it.
    """
    from matplotlib.figure import Figure

    positions = check_positions(embedding, "embedding")
    if positions.shape[1] != 2:
        raise ValueError(f"embedding must have 2 columns to be drawn, got {positions.shape[1]}")
    classes = None if labels is None else check_labels(labels, "labels", len(positions))
    if ax is None:
        ax = Figure(figsize=(size_inches, size_inches), dpi=150, layout="constrained").add_subplot()
    figure: Any = ax.figure
    if point_size is None:
        point_size = float(np.clip(30_000 / len(positions), 1.5, 30))
    # Points of all classes are drawn in one shuffled order, so that no class hides another because of its label.
    order = np.random.default_rng(0).permutation(len(positions))
    style: dict[str, Any] = {
        "s": point_size, "alpha": 0.8 if len(positions) < 20_000 else 0.6, "linewidths": 0,
        "rasterized": True,
    }  # fmt: skip
    x, y = positions[order].T
    if classes is None:
        ax.scatter(x, y, color=COLOURS[0], **style)
    elif _is_scale(classes):
        drawn = ax.scatter(x, y, c=classes[order].astype(float), cmap="viridis", **style)
        bar = figure.colorbar(drawn, ax=ax, shrink=0.4, aspect=25, pad=0.01)
        bar.outline.set_visible(False)
        bar.solids.set_alpha(1)
    else:
        _draw_classes(ax, positions, classes, order, style)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_axis_off()
    ax.margins(0.02)
    if title:
        ax.set_title(title, color=INK, fontsize=13, loc="left")
    if caption:
        ax.text(0, -0.01, caption, transform=ax.transAxes, color=QUIET, fontsize=9, va="top")
    return figure  # type: ignore[no-any-return]


def loss(trace: Any, *, title: str | None = None, size_inches: tuple[float, float] = (8.0, 4.5)) -> Figure:
    """Draw a trace of the loss: KL and cross-entropy against iterations, and H(P), which is their difference.

    Parameters
    ----------
    trace : records with iteration, entropy, cross_entropy and kl_divergence
        A trace such as ``TSNE.loss_``.
    title : str, optional
        Line above the plot.
    size_inches : tuple of two floats
        Width and height.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size_inches, dpi=150, layout="constrained")
    ax = figure.add_subplot()
    for name, label, colour in (
        ("cross_entropy", "cross-entropy H(P, Q)", COLOURS[0]),
        ("kl_divergence", "KL(P || Q) = H(P, Q) - H(P)", COLOURS[3]),
        ("entropy", "entropy H(P)", QUIET),
    ):
        ax.plot(trace["iteration"], trace[name], color=colour, label=label, linewidth=2)
    ax.set_xlabel("iteration")
    ax.set_ylabel("nats")
    ax.set_ylim(bottom=0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    if title:
        ax.set_title(title, color=INK, fontsize=13, loc="left")
    return figure


def _is_scale(classes: npt.NDArray[Any]) -> bool:
    """Return whether labels are numbers that are drawn as a colour scale."""
    return classes.dtype.kind in "fiu" and len(np.unique(classes)) > MAX_CLASSES


def _draw_classes(
    ax: Axes,
    positions: npt.NDArray[Any],
    classes: npt.NDArray[Any],
    order: npt.NDArray[Any],
    style: dict[str, Any],
) -> None:
    """Draw points in the colours of their classes, with the names of the classes and a legend."""
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke

    names, codes, counts = np.unique(classes, return_inverse=True, return_counts=True)
    labels = [_name(name) for name in names]
    if len(names) > MAX_CLASSES:  # only the largest classes keep their names
        kept = np.sort(np.argsort(-counts, kind="stable")[: MAX_CLASSES - 1])
        recode = np.full(len(names), len(kept))
        recode[kept] = np.arange(len(kept))
        codes, labels = recode[codes], [labels[i] for i in kept] + ["other"]
    palette = np.array(COLOURS)
    if labels[-1] == "other" and len(names) > MAX_CLASSES:
        palette[len(labels) - 1] = OTHER
    x, y = positions[order].T
    ax.scatter(x, y, c=palette[codes[order]].tolist(), **style)
    for code, label in enumerate(labels):
        members = positions[codes == code]
        middle = members[np.argmin(np.abs(members - np.median(members, axis=0)).sum(axis=1))]
        if label != "other":
            text = ax.text(
                float(middle[0]),
                float(middle[1]),
                label,
                color=INK,
                fontsize=11,
                weight="bold",
                ha="center",
                va="center",
            )
            text.set_path_effects([withStroke(linewidth=3, foreground="white")])
    dots = [Line2D([], [], linestyle="", marker="o", markersize=7, color=palette[i]) for i in range(len(labels))]
    ax.legend(dots, labels, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, labelcolor=INK,
              handletextpad=0.2, ncols=math.ceil(len(labels) / 20))  # fmt: skip


def _name(value: Any) -> str:
    """Return the name of a class; a whole number has no decimal point."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)

"""Pictures of embeddings and of their loss. They need matplotlib: ``pip install "kullback[plot]"``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._checks.data import check_positions
from ._checks.labels import split_missing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["loss", "scatter"]

MAX_CLASSES = 20
"""More distinct numbers than that are drawn as a colour scale. Of more names, the rarest share one entry, "other"."""

MAX_NAME = 40
"""Longer names of classes are cut to so many characters: a legend that is wider than the figure leaves no map."""

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
        shown as a colour scale. Names are drawn as they are: "$" begins no formula. Points whose label is masked,
        or None or NaN among objects, are no class; they are drawn in grey.
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
    found = None if labels is None else split_missing(labels, "labels", len(positions))
    if ax is None:
        ax = Figure(figsize=(size_inches, size_inches), dpi=150, layout="constrained").add_subplot()
    figure: Any = ax.figure
    if point_size is None:
        point_size = float(np.clip(30_000 / len(positions), 1.5, 30))
    style: dict[str, Any] = {
        "s": point_size, "alpha": 0.8 if len(positions) < 20_000 else 0.6, "linewidths": 0,
        "rasterized": True,
    }  # fmt: skip
    if found is None:
        _draw_points(ax, positions, style, color=COLOURS[0])
    else:
        _draw_labels(ax, positions, *found, style)
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


def _draw_points(
    ax: Axes, positions: npt.NDArray[Any], style: dict[str, Any], *, c: Any = None, color: Any = None, cmap: Any = None
) -> Any:
    """Draw points of all classes in one shuffled order, so that no class hides another because of its label."""
    order = np.random.default_rng(0).permutation(len(positions))
    x, y = positions[order].T
    return ax.scatter(x, y, c=None if c is None else c[order], color=color, cmap=cmap, **style)


def _draw_labels(
    ax: Axes,
    positions: npt.NDArray[Any],
    classes: npt.NDArray[Any],
    missing: npt.NDArray[np.bool_],
    style: dict[str, Any],
) -> None:
    """Draw points in the colours of their labels; ``classes`` holds the labels of those that are not missing."""
    if classes.dtype.kind in "fiu" and len(np.unique(classes)) > MAX_CLASSES:
        if missing.any():
            _draw_points(ax, positions[missing], style, color=OTHER)
        drawn = _draw_points(ax, positions[~missing], style, c=classes.astype(float), cmap="viridis")
        bar: Any = ax.figure.colorbar(drawn, ax=ax, shrink=0.4, aspect=25, pad=0.01)
        bar.outline.set_visible(False)
        bar.solids.set_alpha(1)
        return
    names, present, counts = np.unique(classes, return_inverse=True, return_counts=True)
    labels = [_name(name) for name in names]
    colours = list(COLOURS[: len(names)])
    n_named = len(names)
    if len(names) > MAX_CLASSES:  # only the largest classes keep their names
        n_named = MAX_CLASSES - 1
        kept = np.sort(np.argsort(-counts, kind="stable")[:n_named])
        recode = np.full(len(names), n_named)
        recode[kept] = np.arange(n_named)
        present, labels = recode[present], [labels[i] for i in kept]
        labels.append("all others" if "other" in labels else "other")
        colours = [*COLOURS[:n_named], OTHER]
    codes = np.full(len(positions), len(labels))
    codes[~missing] = present.reshape(-1)
    if missing.any():
        labels.append("no label")
        colours.append(OTHER)
    _draw_points(ax, positions, style, c=np.array(colours)[codes])
    for code in range(n_named):
        _write_name(ax, positions[codes == code], labels[code])
    _draw_legend(ax, labels, colours)


def _write_name(ax: Axes, members: npt.NDArray[Any], label: str) -> None:
    """Write the name of a class at the member that is nearest to the middle of the class."""
    from matplotlib.patheffects import withStroke

    middle = members[np.argmin(np.abs(members - np.median(members, axis=0)).sum(axis=1))]
    x, y = map(float, middle)
    text = ax.text(x, y, label, color=INK, fontsize=11, weight="bold", ha="center", va="center", parse_math=False)
    text.set_usetex(False)
    text.set_path_effects([withStroke(linewidth=3, foreground="white")])


def _draw_legend(ax: Axes, labels: list[str], colours: list[str]) -> None:
    """Draw the legend. Its texts are set afterwards, as matplotlib leaves out those that begin with "_"."""
    from matplotlib.lines import Line2D

    dots = [Line2D([], [], linestyle="", marker="o", markersize=7, color=colour) for colour in colours]
    legend = ax.legend(dots, list(map(str, range(len(dots)))), loc="center left", bbox_to_anchor=(1.0, 0.5),
                       frameon=False, labelcolor=INK, handletextpad=0.2, ncols=math.ceil(len(dots) / 20))  # fmt: skip
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_parse_math(False)
        text.set_usetex(False)
        text.set_text(label)


def _name(value: Any) -> str:
    """Return the name of a class; a whole number has no decimal point, and a long name is cut."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    name = str(value)
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"

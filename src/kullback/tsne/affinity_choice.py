"""Which affinities a fit of `TSNE` embeds: its parameters affinity, perplexity, n_neighbors and supervision."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .._checks.labels import split_missing
from .._checks.scalars import check_choice, check_integer, check_real
from . import affinities
from .affinity_graphs import search_graph
from .joint import Affinities, as_csr, warn_of_copies
from .masses import Masses
from .neighbors import NeighborIndex

if TYPE_CHECKING:
    from .estimator import TSNE

KINDS = ("auto", "perplexity", "multiscale", "uniform")
"""The names that ``affinity`` may have."""

UNIFORM_NEIGHBORS = 15
"""The neighbours of uniform affinities unless a number is given."""


def check_affinity(model: TSNE) -> None:
    """Check the four parameters as far as they can be without data."""
    for value in perplexities_of(model):
        check_real(value, "perplexity", low=0, open_low=True)
    if model.n_neighbors is not None:
        check_integer(model.n_neighbors, "n_neighbors", low=1)
    check_real(model.supervision, "supervision", low=0, high=1)
    if callable(model.affinity):
        if model.n_neighbors is not None:
            raise ValueError(
                f"n_neighbors must be None where affinity is a function, which is given no such number, got "
                f"{model.n_neighbors!r}"
            )
        return
    if not isinstance(model.affinity, str):
        raise TypeError(
            f"affinity must be {', '.join(map(repr, KINDS))} or a function that takes a NeighborIndex, got "
            f"{model.affinity!r:.80}"
        )
    check_choice(model.affinity, "affinity", KINDS)
    if is_sequence(model.perplexity) and model.affinity not in ("auto", "multiscale"):
        raise ValueError(
            f'perplexity must be a number where affinity="{model.affinity}"; several numbers are for '
            f'affinity="multiscale", got {model.perplexity!r}'
        )
    if is_sequence(model.perplexity) and model.n_neighbors is not None and kind_of(model) == "uniform":
        raise ValueError(
            f"n_neighbors={model.n_neighbors!r} asks for uniform affinities, and perplexity={model.perplexity!r} for "
            f'several scales; choose with affinity="uniform" or affinity="multiscale"'
        )


def check_sizes(model: TSNE, n_samples: int, masses: Masses | None) -> None:
    """Check the parameters that depend on the number of points or on their masses."""
    kind = kind_of(model)
    if masses is not None and kind != "perplexity":
        raise ValueError(f"sample_weight must be None where affinities are {kind}: only those of a perplexity take it")
    if kind == "uniform":
        if model.n_neighbors is not None and model.n_neighbors >= n_samples:
            raise ValueError(f"n_neighbors must be less than n_samples = {n_samples}, got {model.n_neighbors!r}")
        return
    if kind == "function":
        return
    for perplexity in perplexities_of(model):
        if masses is not None and perplexity >= masses.sum():
            raise ValueError(
                f"perplexity must be less than the sum of sample_weight, {masses.sum():g}, because it counts rows, "
                f"got {perplexity!r}"
            )
        if masses is None and perplexity >= n_samples:
            raise ValueError(f"perplexity must be less than n_samples = {n_samples}, got {perplexity!r}")


def kind_of(model: TSNE) -> str:
    """Return which affinities the parameters ask for; "auto" is resolved."""
    if callable(model.affinity):
        return "function"
    if model.affinity != "auto":
        return str(model.affinity)
    if model.n_neighbors is not None:
        return "uniform"
    return "multiscale" if is_sequence(model.perplexity) else "perplexity"


def is_sequence(value: Any) -> bool:
    """Whether a perplexity is several numbers."""
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def perplexities_of(model: TSNE) -> list[Any]:
    """Return the perplexities, of which there is at least one."""
    given: Any = model.perplexity
    values = list(given) if is_sequence(given) else [given]
    if not values:
        raise ValueError(f"perplexity must be a number or a sequence of at least one, got {model.perplexity!r}")
    return values


def find_affinities(
    model: TSNE,
    index: NeighborIndex,
    y: Any,
    masses: Masses | None,
    n_threads: int,
    note_search: Callable[[], object] = lambda: None,
) -> Affinities:
    """Return the affinities that the parameters ask for, of the rows of an index.

    ``note_search`` is called when the neighbours have been found.
    """
    kind, n_samples = kind_of(model), index.shape[0]
    if callable(model.affinity):
        note_search()
        joint = as_affinities(model.affinity(index), index, n_threads)
    else:
        n_neighbors, perplexities = model.n_neighbors, [float(value) for value in perplexities_of(model)]
        if n_neighbors is None and (kind == "uniform" or (kind == "perplexity" and model.method == "exact")):
            n_neighbors = min(UNIFORM_NEIGHBORS if kind == "uniform" else n_samples, n_samples - 1)
        graph = search_graph(index, max(perplexities), n_neighbors, masses, n_threads)
        warn_of_copies(graph)
        note_search()
        if kind == "perplexity":
            joint = affinities.perplexity(
                graph, perplexities[0], masses=masses, n_neighbors=n_neighbors, n_threads=n_threads
            )
        elif kind == "multiscale":
            joint = affinities.multiscale(graph, perplexities, n_neighbors=n_neighbors, n_threads=n_threads)
        else:
            joint = affinities.uniform(graph, n_neighbors or UNIFORM_NEIGHBORS, n_threads=n_threads)
    return affinities.supervise(joint, y, model.supervision) if model.supervision else joint


def refuse_supervision(model: TSNE) -> None:
    """Raise where a map with classes is asked to grow, because the classes of its rows are not kept."""
    if model.supervision:
        raise ValueError(
            f"supervision must be 0 for partial_fit, got {model.supervision!r}; fit all rows and their classes together"
        )


def check_classes(model: TSNE, y: Any, n_samples: int) -> None:
    """Raise where supervision is asked for and y does not hold the classes."""
    if not model.supervision:
        return
    if y is None:
        raise ValueError(f"y must hold the classes of the rows where supervision={model.supervision!r}, got None")
    split_missing(y, "y", n_samples)


def as_affinities(found: Any, index: NeighborIndex, n_threads: int) -> Affinities:
    """Return what a function of the user has returned, a joint P or affinities, with the neighbours of the rows."""
    joint = found if isinstance(found, Affinities) else affinities.given(found, n_threads=n_threads)
    if joint.n_points != index.shape[0]:
        raise ValueError(f"affinity must return affinities of {index.shape[0]} points, got {joint.n_points}")
    if joint.neighbors is not None:
        return joint
    graph = index.graph(min(UNIFORM_NEIGHBORS, index.shape[0] - 1), n_threads=n_threads)
    return Affinities(joint.P, as_csr(graph), joint.bandwidths, joint.row_perplexity, graph.recall)


def fewest_neighbors(model: TSNE) -> float:
    """Return about how many neighbours draw a point, at the least. Nothing is known of those of a function."""
    kind = kind_of(model)
    if kind == "uniform":
        return float(UNIFORM_NEIGHBORS if model.n_neighbors is None else model.n_neighbors)
    return math.inf if kind == "function" else min(map(float, perplexities_of(model)))


def perplexity_of_new_rows(model: TSNE, joint: Affinities) -> float:
    """Return the perplexity at which new rows are placed in the map: what a row of the map has in the median."""
    if kind_of(model) == "perplexity":
        return float(perplexities_of(model)[0])
    return max(1.0, float(np.median(joint.row_perplexity)))

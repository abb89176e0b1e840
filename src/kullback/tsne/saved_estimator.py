"""A fitted estimator as a file: its methods ``save`` and ``load``, and how what was read is checked.

A file holds a JSON header and arrays: the parameters, the data of the map and how neighbours are searched in them, P,
and the fitted attributes. What is computed from these on demand is computed again, with the same bits.
"""

from __future__ import annotations

import math
import os
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from .._checks.data import check_masses, check_positions
from .._checks.graphs import check_affinities, check_graph
from .._checks.scalars import check_choice, check_integer, check_real
from .._recall import Recall
from .._states import Arrays, load_state, refuse_unknown, save_state, take
from . import placement
from .joint import Affinities, as_csr
from .masses import Masses
from .metric_searches import EUCLIDEAN_METRICS
from .neighbors import DENSE_ELEMENTS, PLAIN_METRICS, Graph, NeighborIndex
from .new_points import AUDITS, as_it_is
from .parameters import check_parameters
from .repulsion import check_method, choose_accuracy
from .saved_embedding import LOSS_DTYPE, check_iterations

FORMAT, VERSION = "kullback.TSNE", 1

HEADER_KEYS = {"format", "version", "parameters", "index", "reference", "fitted", "output"}

REASONS = ("iterations", "tol", "n_iter_without_progress", "min_grad_norm", "callback", "interrupt")

FLOATS, INDICES = ("float32", "float64"), ("int32", "int64")


class SavedEstimatorMixin:
    """The methods ``save`` and ``load`` of `TSNE`."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to a file, with the data that `transform` and `partial_fit` need.

        The file is an npz without pickles, and it appears under its name only when it is complete. What `load` reads
        goes on as the estimator would, bit for bit.

        Parameters
        ----------
        path : str or path-like
            Name of the file. It takes the bytes of X, 8 to 12 for each non-zero element of P and as many for each
            neighbour.

        Raises
        ------
        TypeError
            If a parameter is a function or another object that a file cannot hold, such as ``callback``. The error
            names it, and nothing is written.
        ValueError
            If a parameter, or ``embedding_``, was set to what it cannot be.
        NotFittedError
            If there is no map.
        OSError
            If the file cannot be written.
        """
        model = as_it_is(self)
        check_is_fitted(model, "embedding_")
        header, arrays = pack(model)
        save_state(path, header, arrays, compress=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote. No pickle is opened, and what is read is checked.

        Parameters
        ----------
        path : str or path-like
            Name of the file.

        Returns
        -------
        TSNE
            A fitted estimator with the same parameters and attributes.

        Raises
        ------
        ValueError
            If the file is damaged, was written by a newer version, or does not hold an estimator.
        OSError
            If the file cannot be read.
        """
        try:
            model = cls(**_unpack_parameters(state := load_state(path), cls))
            _restore(model, state)
        except (TypeError, ValueError, OverflowError, MemoryError) as error:
            raise ValueError(f"cannot load {os.fspath(path)!r}: {error}") from None
        return model


# ---- Packing --------------------------------------------------------------------------------------


def pack(model: Any) -> tuple[dict[str, Any], Arrays]:
    """Return what JSON can hold of a fitted estimator, and its arrays by name."""
    check_parameters(model)
    arrays: Arrays = {}
    reference, graph = model._map, model.affinities_
    index = reference.index
    settings = {"metric": index._metric, "metric_params": index._params, "method": index._method, "seed": index._seed,
                "recall": index._recall}  # fmt: skip
    kinds = {name: getattr(reference, name) for name in ("perplexity", "method", "theta", "dof")}
    fitted = {name: getattr(model, f"{name}_") for name in _FITTED}
    embedding = check_positions(np.asarray(model.embedding_, np.float32), "embedding_")
    if embedding.shape != reference.positions.shape:
        raise ValueError(f"embedding_ must have shape {reference.positions.shape} to be saved, got {embedding.shape}")
    header = {
        "format": FORMAT,
        "version": VERSION,
        "parameters": _pack(model.get_params(deep=False), "parameters", arrays),
        "index": {**_pack(settings, "index", arrays), "shape": list(index.shape)},
        "reference": _pack(kinds, "reference", arrays),
        "fitted": _pack(fitted, "fitted", arrays),
        "output": getattr(model, "_sklearn_output_config", {}).get("transform"),
    }
    for name, matrix in (("X", index._X), ("P", graph.P), ("neighbors", graph.neighbors)):
        if not sparse.issparse(matrix):
            arrays[name] = matrix
            continue
        arrays |= {f"{name}_data": matrix.data, f"{name}_indices": matrix.indices, f"{name}_indptr": matrix.indptr}
    arrays["row_perplexity"] = graph.row_perplexity
    arrays["bandwidths"] = np.empty(0) if graph.bandwidths is None else graph.bandwidths
    arrays["recall"] = np.array([] if graph.recall is None else graph.recall, np.float64)
    arrays["masses"] = np.array([] if reference.masses is None else reference.masses, np.float64)
    arrays["positions"], arrays["embedding"] = reference.positions, embedding
    arrays["loss_iterations"] = np.asarray(model.loss_["iteration"])
    arrays["loss"] = np.stack([model.loss_[name] for name in LOSS_DTYPE.names[1:]], axis=1)  # type: ignore[index]
    if hasattr(model, "feature_names_in_"):
        arrays["feature_names"] = np.asarray(model.feature_names_in_, np.str_)
    return header, arrays


_FITTED = ("n_iter", "learning_rate", "stop_reason", "kl_divergence", "timings")
"""Fitted attributes that JSON can hold, without the underscore at their end."""


def _pack(value: Any, name: str, arrays: Arrays) -> Any:
    """Return a value as JSON holds it. Arrays are None there, and are put among the arrays.

    The name of an array is the way to it through the dictionaries, such as "parameters.init".
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict) and all(isinstance(key, str) and key.isidentifier() for key in value):
        return {key: _pack(item, f"{name}.{key}", arrays) for key, item in value.items()}
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name.partition('.')[2]} must be a number, a name or an array of numbers to be saved, as a "
                        f"file holds no code, got {value!r:.100}")  # fmt: skip
    arrays[name] = array
    return None


# ---- Unpacking ------------------------------------------------------------------------------------


def _unpack_parameters(state: dict[str, Any], cls: Any) -> dict[str, Any]:
    """Return the parameters of the estimator, once the header is known to be of this format and version."""
    header = state["header"]
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"it does not hold a {FORMAT}")
    if header.get("version") != VERSION:
        raise ValueError(f"it is of version {header.get('version')!r:.20}, and this kullback reads version {VERSION}")
    if set(header) != HEADER_KEYS:
        raise ValueError(f"its header must have the keys {sorted(HEADER_KEYS)}")
    known = set(cls._get_param_names())
    parameters: dict[str, Any] = _unpack(header["parameters"], "parameters", state, known)
    if isinstance(parameters["metric_params"], dict):
        parameters["metric_params"] = _unpack(parameters["metric_params"], "parameters.metric_params", state)
    return parameters


def _unpack(value: Any, name: str, arrays: Arrays, keys: set[str] | None = None) -> dict[str, Any]:
    """Return a dictionary of the header with these keys, and with the arrays that belong to it."""
    if not isinstance(value, dict) or (keys is not None and set(value) != keys):
        raise ValueError(
            f"its {name} must be a dictionary" + ("" if keys is None else f" of {', '.join(sorted(keys))}")
        )
    found = {}
    for key, item in value.items():
        place = f"{name}.{key}"
        if isinstance(item, list) or (isinstance(item, dict) and keys is None):
            raise ValueError(f"its {place} must be a number, a name or an array")
        found[key] = arrays.pop(place) if item is None and place in arrays else item
    return found


def _restore(model: Any, state: dict[str, Any]) -> None:
    """Check the arrays, of which none may be left, and give them to the estimator."""
    check_parameters(model)
    header, arrays = state.pop("header"), state
    index = _unpack_index(header["index"], arrays)
    n_points, n_features = index.shape
    given = take(arrays, "masses", "float64", (None,))  # empty where there are none
    masses = check_masses(given, "masses", n_points) if len(given) else None
    graph = _unpack_affinities(arrays, n_points, masses)
    embedding = check_positions(take(arrays, "embedding", "float32", (n_points, None)), "embedding")
    positions = check_positions(take(arrays, "positions", "float32", embedding.shape), "positions")
    fitted = _unpack_fitted(header["fitted"], arrays)
    kinds = _unpack(header["reference"], "reference", arrays, {"perplexity", "method", "theta", "dof"})
    check_real(kinds["perplexity"], "perplexity", low=0, open_low=True)
    theta = check_real(kinds["theta"], "theta", low=0, high=1)
    check_method(kinds["method"], embedding.shape[1], choose_accuracy(theta, None, embedding.shape[1]))
    if "feature_names" in arrays:
        fitted["feature_names_in_"] = take(arrays, "feature_names", "U", (n_features,)).astype(object)
    refuse_unknown(arrays)
    if header["output"] is not None:
        check_choice(header["output"], "output", ("default", "pandas", "polars"))
        model.set_output(transform=header["output"])
    reference = placement.ReferenceMap(index, graph.neighbors, positions, masses=masses, **kinds)
    vars(model).update(fitted, affinities_=graph, embedding_=embedding, n_features_in_=n_features,
                       _map=reference, _audits=dict.fromkeys(AUDITS))  # fmt: skip


def _take_any(arrays: Arrays, name: str, dtypes: tuple[str, ...], shape: tuple[int | None, ...]) -> Any:
    """Remove and return an array of one of several types."""
    found = str(arrays[name].dtype) if name in arrays else dtypes[0]
    return take(arrays, name, found if found in dtypes else dtypes[0], shape)


def _take_csr(arrays: Arrays, name: str, n_rows: int) -> tuple[Any, Any, Any]:
    """Remove and return the columns, values and row starts of a sparse matrix."""
    values = _take_any(arrays, f"{name}_data", FLOATS, (None,))
    columns = _take_any(arrays, f"{name}_indices", INDICES, values.shape)
    return columns, values, _take_any(arrays, f"{name}_indptr", INDICES, (n_rows + 1,))


def _unpack_index(settings: Any, arrays: Arrays) -> NeighborIndex:
    """Return the data of the map, in which neighbours are searched as before."""
    settings = dict(settings) if isinstance(settings, dict) else {}
    shape, params = settings.pop("shape", None), settings.pop("metric_params", None)
    settings = _unpack(settings, "index", arrays, {"metric", "method", "seed", "recall"})
    settings["metric_params"] = _unpack(params, "index.metric_params", arrays)
    seed = check_integer(settings.pop("seed"), "seed", low=0)
    if not isinstance(settings["metric"], str):
        raise ValueError("its metric must be a name")
    if not isinstance(shape, list) or len(shape) != 2:
        raise ValueError("its shape must be two numbers")
    n_points, n_features = (check_integer(length, "shape", low=1) for length in shape)
    if "X" in arrays:
        X: Any = _take_any(arrays, "X", FLOATS, (n_points, n_features))
    else:
        columns, values, starts = _take_csr(arrays, "X", n_points)
        X = sparse.csr_array((values, columns, starts), shape=(n_points, n_features))
        if settings["metric"] != "precomputed" and math.prod(X.shape) <= DENSE_ELEMENTS:
            raise ValueError("its data must be dense")
    index = NeighborIndex(X, copy=False, **settings)
    index._seed = seed
    if params or settings["metric"] not in (*EUCLIDEAN_METRICS, *PLAIN_METRICS, "mahalanobis", "seuclidean"):
        try:
            NeighborIndex(X[:2], copy=False, **settings).graph(1, n_threads=1)
        except Exception as error:  # of scikit-learn and SciPy, which know the other metrics
            raise ValueError(f"its metric cannot be used: {error}") from None
    return index


def _unpack_affinities(arrays: Arrays, n_points: int, masses: Masses | None) -> Affinities:
    """Return P and the neighbours that it was made from."""
    graphs = []
    for name in ("P", "neighbors"):
        columns, values, starts = _take_csr(arrays, name, n_points)
        graphs.append(Graph(columns.astype(np.int32, copy=False), values, starts.astype(np.int64, copy=False)))
    P, neighbors = graphs
    check_graph(*neighbors, "neighbors")
    if P.row_starts[0] != 0 or P.row_starts[-1] != len(P.columns) or (np.diff(P.row_starts) < 0).any():
        raise ValueError("its rows of P must follow each other and end with its values")
    check_affinities(as_csr(P), "P", n_points, P.distances.dtype, symmetric=True, masses=masses)
    bandwidths = _unpack_bandwidths(arrays, n_points)
    row_perplexity = take(arrays, "row_perplexity", "float64", (n_points,))
    if not (row_perplexity >= 0).all():
        raise ValueError("its row_perplexity must be at least 0")
    found = take(arrays, "recall", "float64", (None,))  # empty where neighbours were given
    if not (len(found) in (0, 2) and ((found >= 0) & (found <= 1)).all()):
        raise ValueError("its recall must be a share and its error")
    recall = Recall(*found.tolist()) if len(found) else None
    return Affinities(as_csr(P), as_csr(neighbors), bandwidths, row_perplexity, recall)


def _unpack_bandwidths(arrays: Arrays, n_points: int) -> Any:
    """Return the bandwidths: one of each row, or one for each of several perplexities, or None where there are none."""
    n_axes = arrays["bandwidths"].ndim if "bandwidths" in arrays else 1
    bandwidths = take(arrays, "bandwidths", "float64", (None,) * n_axes)
    if n_axes not in (1, 2) or len(bandwidths) not in (n_points, 0) or not (bandwidths >= 0).all():
        raise ValueError("its bandwidths must be numbers of at least 0, or several, of each row")
    return bandwidths if len(bandwidths) else None


def _unpack_fitted(fitted: Any, arrays: Arrays) -> dict[str, Any]:
    """Return the fitted attributes that are numbers, and the trace of the loss."""
    fitted = _unpack(fitted, "fitted", arrays, set(_FITTED))
    timings = _unpack(fitted["timings"], "fitted.timings", arrays)
    for name, value in {**timings, **{name: fitted[name] for name in ("learning_rate", "kl_divergence")}}.items():
        check_real(value, name, low=-1e300, high=1e300)
    check_choice(fitted["stop_reason"], "stop_reason", REASONS)
    iterations = take(arrays, "loss_iterations", "int64", (None,))
    values = take(arrays, "loss", "float64", (len(iterations), 3))
    if not (np.abs(values) <= 1e300).all():
        raise ValueError("its loss must be finite")
    check_iterations(fitted["n_iter"], iterations)
    records = [(i, *row) for i, row in zip(iterations.tolist(), values.tolist(), strict=True)]
    loss = np.array(records, dtype=LOSS_DTYPE).view(np.recarray)
    return {**{f"{name}_": fitted[name] for name in _FITTED}, "timings_": timings, "loss_": loss}

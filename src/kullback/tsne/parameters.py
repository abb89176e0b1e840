"""The checks of the parameters of `TSNE`, all of which are made before any work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array

from .._checks.data import check_positions
from .._checks.scalars import check_callback, check_choice, check_dof, check_integer, check_real, check_recall
from .._threads import resolve_threads
from .affinity_choice import check_affinity, check_sizes
from .masses import Masses
from .repulsion import METHODS, check_method, choose_accuracy
from .schedules import Schedules, resolve_auto
from .stop_rules import StopRules

if TYPE_CHECKING:
    from .estimator import TSNE

STARTS = ("pca", "spectral", "random")
"""The names that ``init`` may have."""


def check_parameters(model: TSNE) -> int:
    """Check all that can be known of the parameters without data, and return the number of threads.

    Nothing is made that is kept: a descent checks its own options again when it begins.
    """
    n_components = check_integer(model.n_components, "n_components", low=1)
    check_affinity(model)
    check_real(model.early_exaggeration, "early_exaggeration", low=1)
    check_integer(model.max_iter, "max_iter", low=1)
    patience = check_integer(model.n_iter_without_progress, "n_iter_without_progress", low=-1)
    check_real(model.angle, "angle", low=0, high=1)
    check_dof(model.dof)
    if isinstance(model.early_exaggeration_iter, str):
        check_choice(model.early_exaggeration_iter, "early_exaggeration_iter", ("anneal", "auto"))
    else:
        check_integer(model.early_exaggeration_iter, 'early_exaggeration_iter (a number, "anneal" or "auto")', low=0)
    # The number of points is of no account to these checks.
    Schedules(2, model.exaggeration, model.learning_rate, resolve_auto(model.momentum, 0.5), model.max_step)
    StopRules(2, resolve_auto(model.tol, None), max(0, patience), model.min_grad_norm)
    check_callback(model.callback, "callback")
    check_integer(model.callback_every, "callback_every", low=1)
    if not isinstance(model.verbose, bool | np.bool_):
        check_integer(model.verbose, "verbose", low=0)
    check_choice(model.method, "method", METHODS)
    check_method(model.method, n_components, choose_accuracy(model.angle, None, n_components))
    check_metric(model.metric, model.metric_params)
    check_recall(model.recall)
    if isinstance(model.init, str):
        check_start(model.init, model.metric)
    check_random_state(model.random_state)
    return resolve_threads(model.n_jobs, name="n_jobs")


def check_metric(metric: Any, metric_params: Any) -> None:
    """Raise unless these can be a metric and its keyword arguments."""
    if not (isinstance(metric, str) or callable(metric)):
        raise TypeError(f"metric must be a name or a function of two rows, got {metric!r}")
    if not (metric_params is None or isinstance(metric_params, dict)):
        raise TypeError(f"metric_params must be a dict or None, got {metric_params!r}")


def check_start(init: Any, metric: Any) -> None:
    """Raise if a start has no known name, or if it needs data where there are only distances."""
    check_choice(init, "init", STARTS)
    if init == "pca" and isinstance(metric, str) and metric == "precomputed":
        raise ValueError('init must be "spectral", "random" or an array where metric="precomputed", got "pca"')


def check_points(model: TSNE, n_samples: int, masses: Masses | None) -> Any:
    """Check the parameters that depend on the number of points, and return ``init`` as a name or an array."""
    check_sizes(model, n_samples, masses)
    if isinstance(model.init, str):
        return model.init
    init = check_array(model.init, dtype=np.float32, input_name="init", ensure_min_samples=0)
    if init.shape != (n_samples, model.n_components):
        raise ValueError(f"init must have shape {(n_samples, model.n_components)}, got {init.shape}")
    return check_positions(init, "init")

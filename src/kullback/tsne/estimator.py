"""``TSNE``: t-SNE as a scikit-learn estimator."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import validate_data

from .._arrays import FloatArray
from .._checks.arrays import refuse_masked
from .._checks.data import check_masses, float_types, shares_memory
from .._recall import TARGET, Recall
from .._threads import resolve_threads
from . import affinities, gradient, initialization
from .affinity_choice import check_classes, find_affinities
from .embedding import CHECK_EVERY, Embedding, Schedule, State
from .masses import total_mass
from .neighbors import NeighborIndex
from .new_points import NewPointsMixin, as_it_is, fitted_at_once
from .parameters import check_parameters, check_points
from .saved_estimator import SavedEstimatorMixin
from .schedules import descent_phases


class TSNE(SavedEstimatorMixin, NewPointsMixin,
           ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # fmt: skip
    """t-distributed stochastic neighbour embedding: a map of data in which neighbours stay together.

    The parameters have scikit-learn's names, so it can stand in for ``sklearn.manifold.TSNE``.

    Parameters
    ----------
    n_components : int, default 2
        Dimensions of the embedding. The methods "barnes_hut" and "fft" serve up to three.
    perplexity : float or sequence of float, default 30
        Effective number of neighbours of a point, below n_samples. ``3 * perplexity`` neighbours are used. Of several
        numbers, such as ``[30, 500]``, the affinities are the mean: see `kullback.affinities.multiscale`.
    n_neighbors : int, optional
        Neighbours of a point in place of ``3 * perplexity``. Alone, it asks for uniform affinities: 15 neighbours that
        are drawn alike give about the map of perplexity 30, from a sixth of the graph (docs/tsne.md).
    affinity : {"auto", "perplexity", "multiscale", "uniform"} or callable, default "auto"
        How P is made, by the function of this name in `kullback.affinities`. ``"auto"`` is uniform where
        ``n_neighbors`` is given, multiscale where ``perplexity`` is several numbers, and else perplexity. A function
        gets the `kullback.neighbors.NeighborIndex` of the rows and returns affinities or a joint P, such as
        ``lambda index: affinities.fixed_sigma(index, 2.0)``.
    supervision : float in [0, 1], default 0
        By which share points of different classes ``y`` attract each other less: see `kullback.affinities.supervise`.
    early_exaggeration : float, default 12
        Factor on P at the beginning.
    early_exaggeration_iter : int, "anneal" or "auto", default "anneal"
        With ``"anneal"``, the factor falls in a straight line to ``exaggeration`` in 120 iterations, or in two fifths
        of ``max_iter``; momentum, gains and ``tol`` are chosen to suit, and a run takes some 230 to 450 iterations in
        all. With a number, the factor stays for so many iterations, as in scikit-learn and openTSNE: 250 gives the
        descent that these have. With ``"auto"``, it stays until the map has unfolded and the KL divergence falls by
        less than 5 % in 50 iterations, and at the latest for half of ``max_iter``.
    exaggeration : float or callable, default 1
        Factor on P after that, known as late exaggeration. A callable gets the iteration and returns the factor.
        ``learning_rate`` and ``momentum`` may be callables too: see `Embedding.optimize`.
    learning_rate : float, callable or "auto", default "auto"
        ``"auto"`` is n_samples / exaggeration at every iteration (Belkina et al. 2019). It is divided where
        exaggeration is annealed: by 4 below 500 samples, and else by ``dof`` above 1 and by 2 at a perplexity below 8,
        together at most by 4.
    momentum : float, callable or "auto", default "auto"
        Share of the last step that is kept. ``"auto"`` is 0.7 while exaggeration is annealed and 0.95 after that, and
        0.8 where exaggeration is not annealed.
    max_step : float, default 5
        Largest distance that a point moves in one iteration, in units of the map.
    max_iter : int, default 1000
        Largest number of iterations in all.
    n_iter_without_progress : int, default 300
        After early exaggeration, stop when the KL divergence has had no new minimum for so many iterations. -1 is
        taken like 0, as in scikit-learn.
    min_grad_norm : float, default 1e-7
        Stop when the map has unfolded and the norm of the gradient is not above this value.
    tol : float, "auto" or None, default "auto"
        After early exaggeration, stop when the KL divergence falls by less than this share of itself in 50
        iterations, unless a first plateau or a growing gradient tells that more is to come: see `Embedding.optimize`.
        ``"auto"`` is 0.02 where exaggeration is annealed. Elsewhere it is None, and the rule is not applied. 0.002 is
        about the rule of Belkina et al. (2019).
    metric : str or callable, default "euclidean"
        Distance between rows: see `kullback.neighbors.nearest_neighbors`. With ``"precomputed"``, X is a square matrix
        of distances.
    metric_params : dict, optional
        Further keyword arguments of the metric.
    recall : float in (0, 1], default 0.95
        The share of the true neighbours that the search finds at least: see `kullback.neighbors.nearest_neighbors`.
    init : {"pca", "spectral", "random"} or array of shape (n_samples, n_components), default "pca"
        Positions at which the descent starts, with a standard deviation of 1e-4. ``"spectral"`` takes eigenvectors of
        the neighbour graph. An array is taken at its own scale, as in scikit-learn;
        `kullback.tsne.initialization.rescale` gives it the usual one. Points that coincide are parted.
    callback : callable, optional
        ``callback(state)`` is called with a `kullback.tsne.State` every ``callback_every`` iterations. If it returns a
        true value, the fit ends.
    callback_every : int, default 50
        Iterations between two calls.
    verbose : int, default 0
        Above 0, each phase shows a progress bar on standard error.
    random_state : int, RandomState or None, default None
        Seed of the initialisation and of the approximate search for neighbours.
    method : {"auto", "exact", "barnes_hut", "fft"}, default "auto"
        How repulsion is summed: see `kullback.gradient.repulsive_forces`. ``"exact"`` also gives every pair of points
        an entry in P, as in scikit-learn.
    angle : float in [0, 1], default 0.5
        Accuracy against speed: theta of Barnes-Hut, or an FFT grid with the same error.
    dof : float in [1e-6, 1e9], default 1
        Degrees of freedom of the kernel in the map. Below 1, its tails are heavier and clusters finer (Kobak et al.
        2019).
    n_jobs : int, optional
        Number of threads. None and -1 mean all. The bits of the result do not depend on it.

    Attributes
    ----------
    embedding_ : ndarray of shape (n_samples, n_components), float32
        The map.
    kl_divergence_ : float
        KL(P || Q) in nats, of the true P at ``embedding_``. Z is summed by the method of the gradient.
    exact_kl_ : float
        The same with Z summed over all pairs in float64. It is computed when it is first asked for, in O(n_samples^2)
        time (a second for 60,000 points).
    point_kl_ : ndarray of shape (n_samples,)
        What each point contributes to ``kl_divergence_``. It is computed when it is first asked for.
    gradient_error_ : float
        Relative error of the gradient at ``embedding_``, on a sample of 1,000 points: see
        `kullback.gradient.gradient_error`. It is computed when it is first asked for.
    n_iter_ : int
        Number of iterations that ran.
    stop_reason_ : str
        Why the fit ended: see `Embedding`.
    timings_ : dict of str to float
        Seconds for "neighbours", "affinities", "initialisation" and "optimisation".
    loss_ : ndarray of records (iteration, entropy, cross_entropy, kl_divergence)
        H(P), H(P, Q) and KL = H(P, Q) - H(P), in nats, every 50 iterations, every 10 while ``tol`` is applied, and at
        the end.
    affinities_ : kullback.affinities.Affinities
        P, its entropy, and the neighbours that it was made from.
    recall_ : Recall (value, error) or None
        The share of the true neighbours that the search found, and its standard error: see `kullback.neighbors.Graph`.
    learning_rate_ : float
        Learning rate of the last iteration.
    n_features_in_ : int
        Number of features seen in `fit`.

    Notes
    -----
    Ctrl-C during the optimisation ends the fit after the iteration that is running. ``embedding_`` is then the map so
    far, and a ConvergenceWarning says so. Before the optimisation, and when it comes twice, Ctrl-C raises
    KeyboardInterrupt as usual.

    `save` and `load` keep a fitted estimator in a file without pickle.

    Threads may share an estimator. `fit` and `partial_fit` take turns. Until one of them ends, `transform` and the
    attributes are those of the map before.

    References
    ----------
    van der Maaten and Hinton (2008), "Visualizing data using t-SNE"; van der Maaten (2014), "Accelerating
    t-SNE using tree-based algorithms"; Belkina et al. (2019), "Automated optimized parameters for t-SNE".

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from kullback import TSNE
    >>> embedding = TSNE(random_state=0).fit_transform(load_digits().data)
    >>> embedding.shape
    (1797, 2)
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        perplexity: float | Sequence[float] = 30.0,
        n_neighbors: int | None = None,
        affinity: str | Callable[[NeighborIndex], Any] = "auto",
        supervision: float = 0.0,
        early_exaggeration: float = 12.0,
        early_exaggeration_iter: int | str = "anneal",
        exaggeration: Schedule = 1.0,
        learning_rate: Schedule | str = "auto",
        momentum: Schedule | str = "auto",
        max_step: float = 5.0,
        max_iter: int = 1000,
        n_iter_without_progress: int = 300,
        min_grad_norm: float = 1e-7,
        tol: float | str | None = "auto",
        metric: str | Callable[..., float] = "euclidean",
        metric_params: dict[str, Any] | None = None,
        recall: float = TARGET,
        init: str | npt.ArrayLike = "pca",
        callback: Callable[[State], object] | None = None,
        callback_every: int = CHECK_EVERY,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
        method: str = "auto",
        angle: float = 0.5,
        dof: float = 1.0,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.perplexity = perplexity
        self.n_neighbors, self.affinity, self.supervision = n_neighbors, affinity, supervision
        self.early_exaggeration, self.early_exaggeration_iter = early_exaggeration, early_exaggeration_iter
        self.exaggeration = exaggeration
        self.learning_rate, self.momentum, self.max_step = learning_rate, momentum, max_step
        self.max_iter = max_iter
        self.n_iter_without_progress = n_iter_without_progress
        self.min_grad_norm = min_grad_norm
        self.tol = tol
        self.metric, self.metric_params, self.recall = metric, metric_params, recall
        self.init = init
        self.callback, self.callback_every = callback, callback_every
        self.verbose = verbose
        self.random_state = random_state
        self.method, self.angle, self.dof = method, angle, dof
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: object = None, sample_weight: Any = None) -> TSNE:
        """Embed the rows of X.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Data. With ``metric="precomputed"``: distances of shape (n_samples, n_samples).
        y : array-like of shape (n_samples,), optional
            Classes, of which ``supervision`` makes use. Without supervision it is ignored.
        sample_weight : array-like of shape (n_samples,), optional
            How many rows each row stands for: numbers in [1e-9, 1e9], by default 1. Integers give the map of repeated
            rows, whose perplexity counts all rows (docs/tsne.md).

        Returns
        -------
        TSNE
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            If data are not finite, have fewer than 2 rows, or a parameter is out of its range.
        """
        self.fit_transform(X, y, sample_weight=sample_weight)
        return self

    def fit_transform(self, X: Any, y: object = None, sample_weight: Any = None) -> FloatArray:
        """Embed the rows of X and return the embedding.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_components), float32
            A copy of ``embedding_``, which is the caller's to change.
        """
        with fitted_at_once(self) as model:
            model._fit(X, y, sample_weight)
        if model.stop_reason_ == "interrupt":
            warnings.warn(
                f"interrupted after {model.n_iter_} of {model.max_iter} iterations; embedding_ is the map so far",
                ConvergenceWarning,
                stacklevel=2,
            )
        positions: FloatArray = model.embedding_.copy()
        return positions

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> None:
        """Embed the rows of X, and set all attributes at the end."""
        n_threads = check_parameters(self)
        given, X = X, self._check_rows(X, reset=True)
        # Distances are not looked at again once there is a map.
        copy = self.metric != "precomputed" and shares_memory(X, given)
        n_samples = X.shape[0]
        masses = check_masses(sample_weight, "sample_weight", n_samples)
        init = check_points(self, n_samples, masses)
        check_classes(self, y, n_samples)
        random_state = check_random_state(self.random_state)

        clock = [time.perf_counter()]
        index = NeighborIndex(
            X, metric=self.metric, metric_params=self.metric_params, recall=self.recall, random_state=random_state,
            copy=copy,
        )  # fmt: skip
        joint = find_affinities(self, index, y, masses, n_threads, lambda: clock.append(time.perf_counter()))
        clock.append(time.perf_counter())
        embedding = Embedding(
            joint,
            self._initialise(X, init, joint, random_state),
            masses=masses,
            method=self.method,
            theta=self.angle,
            dof=self.dof,
            n_threads=n_threads,
        )
        clock.append(time.perf_counter())
        self._descend(embedding)
        clock.append(time.perf_counter())

        stages = ("neighbours", "affinities", "initialisation", "optimisation")
        loss = embedding.loss.view(np.recarray)
        self._keep_map(
            index,
            masses=masses,
            affinities_=joint,
            embedding_=embedding.positions,
            n_iter_=embedding.n_iter,
            learning_rate_=embedding.learning_rate,
            stop_reason_=embedding.stop_reason,
            loss_=loss,
            kl_divergence_=float(loss.kl_divergence[-1]),
            timings_=dict(zip(stages, np.diff(clock).tolist(), strict=True)),
        )

    @property
    def recall_(self) -> Recall | None:
        """The share of the true neighbours that the search found, and its standard error."""
        recall: Recall | None = self.affinities_.recall
        return recall

    @property
    def exact_kl_(self) -> float:
        """KL(P || Q) in nats, with Z summed over all pairs in float64."""
        loss = self._audit("exact_kl", gradient.tsne_loss, dof=self.dof, exact=True)
        return float(loss.kl_divergence)

    @property
    def point_kl_(self) -> npt.NDArray[np.float64]:
        """What each point contributes to ``kl_divergence_``."""
        options = {"method": self.method, "theta": self.angle, "dof": self.dof}
        points: npt.NDArray[np.float64] = self._audit("point_kl", gradient.point_kl, **options)
        return points.copy()

    @property
    def gradient_error_(self) -> float:
        """Relative error of the gradient at ``embedding_``."""
        options = {"method": self.method, "theta": self.angle, "dof": self.dof}
        return float(self._audit("gradient_error", gradient.gradient_error, **options))

    def _audit(self, name: str, measure: Callable[..., Any], **options: Any) -> Any:
        """Return a measure of the fitted map, which is computed once."""
        model = as_it_is(self)
        audits = model._audits  # before fit this is an AttributeError, as for any other fitted attribute
        if audits.get(name) is None:
            n_threads = resolve_threads(model.n_jobs, name="n_jobs")
            options["masses"] = model._map.masses
            audits[name] = measure(model.affinities_.P, model.embedding_, n_threads=n_threads, **options)
        return audits[name]

    def _check_rows(self, X: Any, *, reset: bool) -> Any:
        """Return rows in a form that we can work with. ``reset`` tells rows to fit from new ones."""
        refuse_masked(X, "X")
        # Without dispatch, arrays of other libraries on the CPU become NumPy's.
        with config_context(array_api_dispatch=False):
            return validate_data(
                self, X, reset=reset, accept_sparse="csr", dtype=float_types(X),
                ensure_min_samples=2 if reset else 1, ensure_non_negative=self.metric == "precomputed",
            )  # fmt: skip

    def _initialise(
        self, X: Any, init: Any, joint: affinities.Affinities, random_state: np.random.RandomState
    ) -> FloatArray:
        """Return the positions at which the descent starts. ``init`` is a name or an array of their shape."""
        if not isinstance(init, str):
            return initialization.part_coinciding(init, random_state=random_state)
        if init == "pca":
            return initialization.pca(X, self.n_components, random_state=random_state)
        if init == "spectral":
            return initialization.spectral(joint, self.n_components, random_state=random_state)
        return initialization.random(X.shape[0], self.n_components, random_state=random_state)

    def _descend(self, embedding: Embedding) -> None:
        """Run both phases: with early exaggeration, and after it."""
        shared: dict[str, Any] = {
            "max_step": self.max_step, "min_grad_norm": self.min_grad_norm, "callback": self.callback,
            "callback_every": self.callback_every, "progress": bool(self.verbose),
        }  # fmt: skip
        n_rows = total_mass(embedding._masses, embedding.n_points)
        for end, options in descent_phases(self, n_rows):
            if embedding.stop_reason not in ("callback", "interrupt") and (end > embedding.n_iter or end == 0):
                embedding.optimize(end - embedding.n_iter, **shared, **options)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = tags.input_tags.positive_only = self.metric == "precomputed"
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return int(self.embedding_.shape[1])

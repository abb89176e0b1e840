"""The methods of ``TSNE`` that deal with new rows: to place them in the map, and to add them to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from .._checks.data import check_masses
from .._checks.scalars import check_flag
from .._threads import lock_of, resolve_threads
from . import placement
from .affinity_choice import find_affinities, perplexity_of_new_rows, refuse_supervision
from .masses import Masses, join_masses
from .neighbors import NeighborIndex
from .parameters import check_parameters

AUDITS = ("exact_kl", "point_kl", "gradient_error")
"""Measures of the map that are computed when they are first asked for. Until then they are None."""


class NewPointsMixin(TransformerMixin):  # type: ignore[misc]
    """The methods ``transform`` and ``partial_fit`` of `TSNE`, whose parameters and attributes they use."""

    loss_: Any
    _map: placement.ReferenceMap
    _audits: dict[str, Any]

    def transform(self, X: Any, *, out: Any = None, return_scores: bool = False) -> Any:
        """Place new rows in the map, each by itself. Rows of the map get their own positions.

        A row's position and score do not depend, in any bit, on the rows that it comes with, on their order, on how
        they are cut into chunks, or on the number of threads.

        Parameters
        ----------
        X : array-like, sparse matrix or dask array of shape (n_samples, n_features)
            New rows. They are placed chunk by chunk, so a memory-mapped file may be larger than memory. With
            ``metric="precomputed"`` they are distances to the rows of the map, of shape (n_samples, n_fitted), dense
            or a sparse graph of neighbours.
        out : ndarray of shape (n_samples, n_components), float32 or float64, optional
            Array to write the positions to, such as a memory map.
        return_scores : bool, default False
            Whether to return scores as well.

        Returns
        -------
        positions : ndarray of shape (n_samples, n_components), float32
            Positions in the map. It is ``out`` if that is given. If X is a dask array, it is a dask array of the same
            blocks.
        scores : ndarray of shape (n_samples,), float64
            Only with ``return_scores``. How far the row is from its neighbours (the last of up to 30), as a multiple
            of how far these are from theirs. It is about 1 for rows like those of the map, whatever the density
            there. The larger it is, the less the position means.

        Raises
        ------
        ValueError, TypeError
            If rows are not finite or have another number of features, or ``out`` does not fit.

        Notes
        -----
        A new point minimises ``- sum_j p_j log w(y - y_j) + u(y) / c``, where u is the sum of w over the map and c the
        mean of u over the points of the map: see docs/new_points.md. A row that is equal to several rows of the map
        gets the position of the first. After the search for neighbours it takes O(n_samples) time.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from kullback import TSNE
        >>> X = load_digits().data
        >>> tsne = TSNE(random_state=0).fit(X[:1000])
        >>> positions, scores = tsne.transform(X[1000:], return_scores=True)
        >>> positions.shape, scores.shape
        ((797, 2), (797,))
        """
        model = as_it_is(self)
        check_is_fitted(model, "embedding_")
        check_flag(return_scores, "return_scores")
        n_threads = resolve_threads(model.n_jobs, name="n_jobs")
        if placement.is_dask(X):
            validate_data(model, X, reset=False, skip_check_array=True)
            if out is not None:
                raise ValueError("out must be None for a dask array, which is computed later")
            positions, scores = placement.place_blocks(model._map, X, n_threads=n_threads)
        else:
            large = isinstance(X, np.ndarray) and X.ndim == 2 and X.size > placement.CHUNK_ELEMENTS
            if large and X.dtype.kind in "fiub":  # checked and cast chunk by chunk
                validate_data(model, X, reset=False, skip_check_array=True)
            else:
                X = model._check_rows(X, reset=False)
            positions, scores = model._map.place(X, n_threads=n_threads, out=out)
        return (positions, scores) if return_scores else positions

    @available_if(lambda self: self.metric != "precomputed")  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: object = None, sample_weight: Any = None) -> Self:
        """Add rows to the map. The old points keep their positions bit for bit, and the new ones settle among them.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows that follow those of the map. Rows that are in the map already are added again. The first call is
            the same as `fit`.
        y : ignored
            Present for scikit-learn's conventions.
        sample_weight : array-like of shape (n_samples,), optional
            How many rows each new row stands for, as in `fit`.

        Returns
        -------
        TSNE
            The estimator itself. ``embedding_``, ``affinities_`` and ``kl_divergence_`` are those of all rows, and
            ``loss_`` has one more record.

        Notes
        -----
        There is no such method with ``metric="precomputed"``, because the distances among new rows are not known.
        New points start at the positions that `transform` gives them. Then they descend together, for 250 iterations,
        on the loss of all points. A call takes the time of the neighbours of all rows and of 250 iterations, whatever
        the number of new rows.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from kullback import TSNE
        >>> X = load_digits().data
        >>> TSNE(random_state=0).fit(X[:500]).partial_fit(X[500:600]).embedding_.shape
        (600, 2)
        """
        with lock_of(self):
            if not hasattr(self, "embedding_"):
                self.fit(X, sample_weight=sample_weight)
                return self
            with fitted_at_once(self) as model:
                model._grow(X, sample_weight)
        return self

    def _grow(self, X: Any, sample_weight: Any) -> None:
        """Add rows to the map, and set all attributes at the end."""
        n_threads = check_parameters(self)
        refuse_supervision(self)
        X = self._check_rows(X, reset=False)
        new_masses = check_masses(sample_weight, "sample_weight", X.shape[0])
        masses = join_masses(self._map.masses, self._map.index.shape[0], new_masses, X.shape[0])
        index = self._map.index.extend(X)
        start, _ = self._map.place(X, n_threads=n_threads)
        joint = find_affinities(self, index, None, masses, n_threads)
        positions, loss = placement.grow(
            self._map, joint, start, masses=masses, n_threads=n_threads, random_state=self.random_state
        )
        n_iter = self.n_iter_ + placement.GROW_ITER
        record = np.array([(n_iter, *loss)], dtype=self.loss_.dtype)
        self._keep_map(
            index,
            masses=masses,
            affinities_=joint,
            embedding_=positions,
            n_iter_=n_iter,
            loss_=np.concatenate([self.loss_, record]).view(np.recarray),
            kl_divergence_=loss.kl_divergence,
        )

    def _keep_map(self, index: NeighborIndex, *, masses: Masses | None = None, **fitted: Any) -> None:
        """Set all fitted attributes together with what `transform` needs, and forget the audits of an earlier map."""
        all_fitted = {**vars(self), **fitted}
        joint = all_fitted["affinities_"]
        reference = placement.ReferenceMap(
            index, joint.neighbors, all_fitted["embedding_"], perplexity=perplexity_of_new_rows(self, joint),
            method=self.method, theta=self.angle, dof=self.dof, masses=masses,
        )  # fmt: skip
        self.__dict__.update(fitted, _map=reference, _audits=dict.fromkeys(AUDITS))


def as_it_is(model: Any) -> Any:
    """Return a twin that keeps the parameters and the fitted attributes of now, whatever another thread fits."""
    twin = object.__new__(type(model))
    vars(twin).update(vars(model))
    return twin


@contextmanager
def fitted_at_once(model: Any) -> Iterator[Any]:
    """Yield a twin of the model to fit, and let the model have at the end what was fitted, in one step.

    Until then, and where the block is left by an exception, be it Ctrl-C, the model is as it was. Threads that fit one
    model take turns.
    """
    with lock_of(model):
        twin = as_it_is(model)
        before = dict(vars(twin))
        yield twin
        after, now = vars(twin), dict(vars(model))
        fitted = {name: value for name, value in after.items() if name not in before or value is not before[name]}
        # What was set meanwhile, say by a callback, stays. scikit-learn deletes the names of features that have none.
        kept = {name: value for name, value in now.items() if name in after or name not in before}
        model.__dict__ = kept | fitted

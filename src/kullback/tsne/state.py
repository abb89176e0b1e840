"""What a callback sees of a descent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._arrays import FloatArray
from ..divergence import Decomposition
from .masses import norm_of_rows

if TYPE_CHECKING:
    from .embedding import Embedding


class State:
    """An embedding as a callback sees it, after ``iteration`` iterations.

    Attributes
    ----------
    iteration : int
        Number of iterations so far, in all calls of `Embedding.optimize`.
    exaggeration, learning_rate, momentum : float
        The numbers that the last step was taken with.
    loss : Decomposition
        H(P), H(P, Q) and KL(P || Q) of the true P at these positions, in nats. It is computed when it is asked for.
    positions : ndarray of shape (n_points, n_components)
        A copy of the positions, in the order of the user's points. It is made when it is asked for.
    gradient_norm : float
        Euclidean norm of the gradient at these positions, with exaggeration. It is computed when it is asked for. Where
        points have masses, it is that of the gradient with respect to all rows.

    Notes
    -----
    A state looks at the embedding itself, so it is valid only during the callback. Keep what you need of it.
    """

    def __init__(self, embedding: Embedding, sum_q: float) -> None:
        self._embedding, self._sum_q = embedding, sum_q
        self.iteration = embedding.n_iter
        rates = embedding._rates
        self.exaggeration, self.learning_rate, self.momentum = rates.exaggeration, rates.learning_rate, rates.momentum

    @property
    def loss(self) -> Decomposition:
        """The loss of the true P."""
        return self._embedding._record_loss(self._sum_q)

    @property
    def positions(self) -> FloatArray:
        """The positions, centred, in the order of the user's points."""
        return self._embedding.positions

    @property
    def gradient_norm(self) -> float:
        """The norm of 4 (exaggeration * attraction - repulsion / Z)."""
        embedding = self._embedding
        attracted, repelled = embedding._attraction, embedding._repelled
        if embedding._masses is not None:
            return norm_of_rows(attracted, repelled, self.exaggeration, 1 / self._sum_q, embedding._masses)
        return 4 * float(np.linalg.norm(self.exaggeration * attracted - repelled / self._sum_q))

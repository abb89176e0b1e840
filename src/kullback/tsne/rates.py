"""The rates of one step of the descent, under the names that they have in the kernel and in its NumPy twin."""

from __future__ import annotations

from typing import NamedTuple

DESCENT_POINTS_PER_THREAD = 50_000
"""Points of a step of the descent that are worth a thread. With fewer points it is bound by memory."""


class Rates(NamedTuple):
    """What one step depends on besides the state and the forces. Saved maps hold the first five in this order."""

    exaggeration: float = 0.0
    """Factor on the attraction."""
    inverse_sum_q: float = 0.0
    """1 / Z, by which the repulsion is multiplied."""
    learning_rate: float = 0.0
    momentum: float = 0.0
    """Share of the last step that is kept."""
    max_step: float = 0.0
    """The longest step of a point."""
    gain_step: float = 0.2
    """What a coordinate's gain grows by while it goes on downhill."""
    gain_decay: float = 0.8
    """What a gain is multiplied by where its coordinate has gone too far."""

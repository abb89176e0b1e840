"""t-SNE: the estimator, the embedding that it optimises, and many maps of one data set."""

from .embedding import Embedding, State
from .estimator import TSNE
from .sweeps import Sweep, align, sweep

__all__ = ["TSNE", "Embedding", "State", "Sweep", "align", "sweep"]

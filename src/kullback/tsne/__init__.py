"""t-SNE: the estimator, the embedding that it optimises, and many maps of one data set."""

from .embedding import Embedding, State
from .estimator import TSNE

__all__ = ["TSNE", "Embedding", "State"]

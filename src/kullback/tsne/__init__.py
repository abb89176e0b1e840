"""t-SNE: the estimator and the embedding that it optimises."""

from .embedding import Embedding
from .estimator import TSNE

__all__ = ["TSNE", "Embedding"]

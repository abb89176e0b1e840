"""The affinities P of t-SNE; see :mod:`kullback.tsne.affinities`."""

from .tsne.affinities import Affinities, fixed_sigma, given, multiscale, perplexity, supervise, uniform

__all__ = ["Affinities", "fixed_sigma", "given", "multiscale", "perplexity", "supervise", "uniform"]


def __dir__() -> list[str]:
    return __all__

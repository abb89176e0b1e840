"""Reductions over probability distributions at the speed of memory, and the t-SNE that is built on them.

Everything grows from ``D_KL(p || q) = H(p, q) - H(p)``. Names load when they are first used (SPEC 1), so that
``import kullback`` costs no more than NumPy. Type checkers and editors read the imports that never run below.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import (
        affinities,
        distributed,
        divergence,
        gradient,
        neighbors,
        plotting,
        quality,
        readers,
        reference,
        streaming,
        tsne,
    )
    from ._config import show_config
    from .divergence import (
        Decomposition,
        alpha_divergence,
        bhattacharyya_distance,
        chi2_divergence,
        compare,
        cross_entropy,
        decompose,
        differential_entropy_from_samples,
        entropy,
        hellinger_distance,
        jeffreys_divergence,
        jensen_shannon_distance,
        jensen_shannon_divergence,
        kl_divergence,
        kl_divergence_from_samples,
        kl_divergence_topk,
        log_loss,
        mutual_information,
        pairwise_divergence,
        perplexity,
        population_stability_index,
        renyi_divergence,
        renyi_entropy,
        total_variation_distance,
        tsallis_entropy,
    )
    from .evaluation import EvaluationInterrupted, evaluate
    from .tsne import TSNE, Embedding, sweep

    __version__: str

__all__ = [
    "TSNE",
    "Decomposition",
    "Embedding",
    "EvaluationInterrupted",
    "affinities",
    "alpha_divergence",
    "bhattacharyya_distance",
    "chi2_divergence",
    "compare",
    "cross_entropy",
    "decompose",
    "differential_entropy_from_samples",
    "distributed",
    "divergence",
    "entropy",
    "evaluate",
    "gradient",
    "hellinger_distance",
    "jeffreys_divergence",
    "jensen_shannon_distance",
    "jensen_shannon_divergence",
    "kl_divergence",
    "kl_divergence_from_samples",
    "kl_divergence_topk",
    "log_loss",
    "mutual_information",
    "neighbors",
    "pairwise_divergence",
    "perplexity",
    "plotting",
    "population_stability_index",
    "quality",
    "readers",
    "reference",
    "renyi_divergence",
    "renyi_entropy",
    "show_config",
    "streaming",
    "sweep",
    "total_variation_distance",
    "tsallis_entropy",
    "tsne",
]

_SUBMODULES = {
    "affinities",
    "distributed",
    "divergence",
    "gradient",
    "neighbors",
    "plotting",
    "quality",
    "readers",
    "reference",
    "streaming",
    "tsne",
}
_MODULE_OF = {
    "Embedding": "tsne",
    "EvaluationInterrupted": "evaluation",
    "TSNE": "tsne",
    "evaluate": "evaluation",
    "show_config": "_config",
    "sweep": "tsne",
}
"""The modules of the names that are neither modules themselves nor in ``divergence``."""


if not TYPE_CHECKING:  # checkers would take any name for one that this function knows

    def __getattr__(name: str) -> object:
        if name in _SUBMODULES:
            value = import_module(f"{__name__}.{name}")
        elif name in __all__:
            value = getattr(import_module(f"{__name__}.{_MODULE_OF.get(name, 'divergence')}"), name)
        elif name == "__version__":
            from importlib.metadata import version

            value = version(__name__)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def _prepare_fork() -> None:
    """Load what lets threads of OpenMP survive a fork, which other libraries may have started before any kernel."""
    import_module(f"{__name__}._kernels")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_prepare_fork)

"""Reductions over probability distributions at the speed of memory, and the t-SNE built on them.

Everything grows from ``D_KL(p || q) = H(p, q) - H(p)``. Names load on first use (SPEC 1), so
``import kullback`` costs no more than NumPy.
"""

from importlib import import_module
from typing import Any

_MODULE_OF = {
    "alpha_divergence": "divergence",
    "bhattacharyya_distance": "divergence",
    "chi2_divergence": "divergence",
    "compare": "divergence",
    "decompose": "divergence",
    "differential_entropy_from_samples": "divergence",
    "hellinger_distance": "divergence",
    "jeffreys_divergence": "divergence",
    "jensen_shannon_distance": "divergence",
    "jensen_shannon_divergence": "divergence",
    "kl_divergence_from_samples": "divergence",
    "kl_divergence_topk": "divergence",
    "log_loss": "divergence",
    "mutual_information": "divergence",
    "pairwise_divergence": "divergence",
    "perplexity": "divergence",
    "population_stability_index": "divergence",
    "renyi_divergence": "divergence",
    "renyi_entropy": "divergence",
    "total_variation_distance": "divergence",
    "tsallis_entropy": "divergence",
    "cross_entropy": "divergence",
    "entropy": "divergence",
    "kl_divergence": "divergence",
    "Decomposition": "divergence",
    "evaluate": "evaluation",
    "EvaluationInterrupted": "evaluation",
    "Embedding": "tsne",
    "TSNE": "tsne",
    "sweep": "tsne",
    "show_config": "_config",
}
_SUBMODULES = ("affinities", "distributed", "divergence", "gradient", "neighbors", "plotting", "quality",
               "readers", "reference", "streaming", "tsne")  # fmt: skip

__all__ = [*sorted(_MODULE_OF), *_SUBMODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    elif name in _SUBMODULES:
        value = import_module(f"{__name__}.{name}")
    elif name == "__version__":
        from importlib.metadata import version

        value = version(__name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

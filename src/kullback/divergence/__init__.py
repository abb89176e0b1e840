"""Reductions over probability distributions: entropies, divergences, and what they decompose into.

- ``basic`` holds the entropy, the cross-entropy and the KL divergence;
- ``distances`` holds divergences that are symmetric or bounded;
- ``orders`` holds the families of an order ``alpha``;
- ``measures`` holds losses of labels, mutual information, and several measures from one read;
- ``pairwise``, ``topk`` and ``samples`` start from other things than pairs of rows.
"""

from .basic import Decomposition, cross_entropy, decompose, entropy, kl_divergence, perplexity
from .distances import (
    bhattacharyya_distance,
    chi2_divergence,
    hellinger_distance,
    jeffreys_divergence,
    jensen_shannon_distance,
    jensen_shannon_divergence,
    population_stability_index,
    total_variation_distance,
)
from .measures import compare, log_loss, mutual_information
from .orders import alpha_divergence, renyi_divergence, renyi_entropy, tsallis_entropy
from .pairwise import pairwise_divergence
from .samples import differential_entropy_from_samples, kl_divergence_from_samples
from .topk import Bounds, kl_divergence_topk

__all__ = [
    "Bounds",
    "Decomposition",
    "alpha_divergence",
    "bhattacharyya_distance",
    "chi2_divergence",
    "compare",
    "cross_entropy",
    "decompose",
    "differential_entropy_from_samples",
    "entropy",
    "hellinger_distance",
    "jeffreys_divergence",
    "jensen_shannon_distance",
    "jensen_shannon_divergence",
    "kl_divergence",
    "kl_divergence_from_samples",
    "kl_divergence_topk",
    "log_loss",
    "mutual_information",
    "pairwise_divergence",
    "perplexity",
    "population_stability_index",
    "renyi_divergence",
    "renyi_entropy",
    "total_variation_distance",
    "tsallis_entropy",
]


def __dir__() -> list[str]:
    return __all__

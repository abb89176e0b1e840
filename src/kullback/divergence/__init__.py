"""Reductions over probability distributions: entropies, divergences, and what they decompose into."""

from .basic import Decomposition, cross_entropy, decompose, entropy, kl_divergence
from .measures import (
    alpha_divergence,
    bhattacharyya_distance,
    chi2_divergence,
    compare,
    hellinger_distance,
    jeffreys_divergence,
    jensen_shannon_distance,
    jensen_shannon_divergence,
    log_loss,
    mutual_information,
    perplexity,
    population_stability_index,
    renyi_divergence,
    renyi_entropy,
    total_variation_distance,
    tsallis_entropy,
)
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

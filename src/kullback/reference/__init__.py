"""The specification: a NumPy twin of every function that has kernels.

A twin has the name and the parameters of the function that it specifies, and takes the same steps in the same order. It
is written to be read and to be tested against; the library itself never calls it.
"""

from .affinities import conditional_probabilities, joint_probabilities
from .descent import descend
from .divergence import Decomposition
from .gradient import attractive_forces, repulsive_forces, tsne_gradient, tsne_loss
from .measures import (
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
from .placement import place_point, placement_loss
from .streaming import (
    RowDivergence,
    accumulate_pairs,
    accumulate_rows,
    add_logits,
    add_probabilities,
    add_products,
    add_values,
    carry,
    compare_counts,
    count_bins,
    survey_logits,
)
from .topk import kl_divergence_topk

__all__ = [
    "Decomposition",
    "RowDivergence",
    "accumulate_pairs",
    "accumulate_rows",
    "add_logits",
    "add_probabilities",
    "add_products",
    "add_values",
    "alpha_divergence",
    "attractive_forces",
    "bhattacharyya_distance",
    "carry",
    "chi2_divergence",
    "compare",
    "compare_counts",
    "conditional_probabilities",
    "count_bins",
    "cross_entropy",
    "decompose",
    "descend",
    "differential_entropy_from_samples",
    "entropy",
    "hellinger_distance",
    "jeffreys_divergence",
    "jensen_shannon_distance",
    "jensen_shannon_divergence",
    "joint_probabilities",
    "kl_divergence",
    "kl_divergence_from_samples",
    "kl_divergence_topk",
    "log_loss",
    "mutual_information",
    "pairwise_divergence",
    "perplexity",
    "place_point",
    "placement_loss",
    "population_stability_index",
    "renyi_divergence",
    "renyi_entropy",
    "repulsive_forces",
    "survey_logits",
    "total_variation_distance",
    "tsallis_entropy",
    "tsne_gradient",
    "tsne_loss",
]


def __dir__() -> list[str]:
    return __all__

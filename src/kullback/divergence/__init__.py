"""Reductions over probability distributions: entropies, divergences, and what they decompose into."""

from .basic import Decomposition, cross_entropy, decompose, entropy, kl_divergence

__all__ = ["Decomposition", "cross_entropy", "decompose", "entropy", "kl_divergence"]

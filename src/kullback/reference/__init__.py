"""Pure NumPy twins: same names, same signatures, written for reading; the specification, never a fallback."""

from .divergence import Decomposition, cross_entropy, decompose, entropy, kl_divergence

__all__ = ["Decomposition", "cross_entropy", "decompose", "entropy", "kl_divergence"]

"""Reductions over probability distributions at the speed of memory, and the t-SNE built on them.

Everything grows from ``D_KL(p || q) = H(p, q) - H(p)``. Names load on first use (SPEC 1), so
``import kullback`` costs no more than NumPy.
"""

from importlib import import_module
from typing import Any

_MODULE_OF = {
    "decompose": "divergence",
    "cross_entropy": "divergence",
    "entropy": "divergence",
    "kl_divergence": "divergence",
    "Decomposition": "divergence",
    "evaluate": "evaluation",
    "EvaluationInterrupted": "evaluation",
    "TSNE": "tsne",
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

"""t-SNE: the estimator, the embedding that it optimises, and many maps of one data set.

Names load on first use, so that ``kullback.neighbors`` does not load the estimator.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .embedding import Embedding
    from .estimator import TSNE
    from .state import State
    from .sweeps import Sweep, align, sweep

__all__ = ["TSNE", "Embedding", "State", "Sweep", "align", "sweep"]

_MODULE_OF = {
    "TSNE": "estimator",
    "Embedding": "embedding",
    "State": "state",
    "Sweep": "sweeps",
    "align": "sweeps",
    "sweep": "sweeps",
}

if not TYPE_CHECKING:  # a type checker would take any name for one that this function returns

    def __getattr__(name: str) -> object:
        """Load a public name."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__

"""Rows from wherever they lie: arrays, npy, zarr, HDF5, safetensors, Parquet, llama.cpp, iterables.

Each reader is a thin adapter over the format's own library, which is imported only when it is used.
"""

from ._open import open_source
from ._source import Source
from .llama import LlamaLogits, LogitsReport, compare_logits

__all__ = ["LlamaLogits", "LogitsReport", "Source", "compare_logits", "open_source"]


def __dir__() -> list[str]:
    return __all__

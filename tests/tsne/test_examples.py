"""The examples in the docstrings of t-SNE run, and print what they say."""

import doctest
import importlib

import pytest

MODULES = (
    "affinities", "embedding", "estimator", "gradient", "initialization", "joint", "neighbors", "new_points",
    "placement", "quality", "sweeps",
)  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name):
    """Each module has examples, and none fails."""
    failed, attempted = doctest.testmod(importlib.import_module(f"kullback.tsne.{name}"))
    assert attempted > 0
    assert failed == 0

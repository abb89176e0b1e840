"""The public names: what ``dir`` lists, what signatures show, whether examples run, and ``python -m kullback``."""

import ast
import doctest
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kullback
from kullback import _options, gradient, reference

MODULES = (
    "affinities", "distributed", "divergence", "evaluation", "gradient", "neighbors", "plotting", "quality", "readers",
    "reference", "streaming", "tsne",
)  # fmt: skip
FUNCTIONS = {
    f"{module}.{name}": value
    for module in MODULES
    for name in importlib.import_module(f"kullback.{module}").__all__
    if inspect.isfunction(value := getattr(importlib.import_module(f"kullback.{module}"), name))
}


@pytest.mark.parametrize("name", MODULES)
def test_dir_lists_the_public_names(name):
    """``dir`` of a public module is its ``__all__``, every name of which exists."""
    module = importlib.import_module(f"kullback.{name}")
    assert dir(module) == sorted(module.__all__)
    for public in module.__all__:
        assert not public.startswith("_") and getattr(module, public) is not None


def test_the_package_lists_what_it_gives():
    """Every name of ``kullback.__all__`` loads, and type checkers see an import of each and of no other."""
    assert dir(kullback) == sorted([*kullback.__all__, "__version__"])
    for name in kullback.__all__:
        assert getattr(kullback, name) is not None
    tree = ast.parse(Path(kullback.__file__).read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    imported = [alias.name for node in checked.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(imported) == sorted(kullback.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_show_every_keyword(name):
    """No public function has a parameter that swallows keywords, and every option has a default."""
    for parameter in inspect.signature(FUNCTIONS[name]).parameters.values():
        assert parameter.kind is not parameter.VAR_KEYWORD
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in ("alpha", "mean_sum", "box"):
            assert parameter.default is not parameter.empty or name.startswith("reference."), parameter


def test_functions_of_rows_show_the_same_options():
    """Their options stand in one order with one default each, and are those that the functions accept."""
    defaults = _options.DEFAULTS
    assert set(defaults) == set(_options.RowOptions.__optional_keys__)
    shown = inspect.signature(kullback.kl_divergence).parameters
    assert [name for name in shown if name in defaults] == list(defaults)
    for name in kullback.divergence.__all__:
        function = getattr(kullback.divergence, name)
        if inspect.isclass(function):
            continue
        options = [p for p in inspect.signature(function).parameters.values() if p.name in defaults]
        assert [p.default for p in options] == [defaults[p.name] for p in options], name


def test_defaults_shown_are_the_defaults():
    """A call with every default that is shown gives the bits of the call without options."""
    p = np.random.default_rng(0).dirichlet(np.ones(7), 5)
    for name in kullback.divergence.__all__:
        function = getattr(kullback.divergence, name)
        parameters = {} if inspect.isclass(function) else inspect.signature(function).parameters
        if "reduction" not in parameters:
            continue
        operands = [p] * len({"p", "q", "y", "counts"} & set(parameters))
        required = {"alpha": 0.3} if "alpha" in parameters else {}
        given = {key: p.default for key, p in parameters.items() if p.kind is p.KEYWORD_ONLY and key != "alpha"}
        np.testing.assert_equal(function(*operands, **required, **given), function(*operands, **required), name)


@pytest.mark.parametrize(
    "call", [kullback.kl_divergence, kullback.compare, kullback.decompose, reference.kl_divergence]
)
def test_unknown_keywords_are_named(call):
    """A keyword that is misspelt raises and is named, and is not ignored."""
    with pytest.raises(TypeError, match="bse"):
        call([0.5, 0.5], [0.5, 0.5], bse=2)


def test_reference_twins_have_the_parameters_of_the_functions():
    """A name that the package and its reference share takes the same arguments, in the same order."""
    shared = [name for name in reference.__all__ if hasattr(kullback, name) or hasattr(gradient, name)]
    assert {"kl_divergence", "entropy", "tsne_gradient", "tsne_loss"} <= set(shared)
    for name in shared:
        ours = getattr(kullback, name, None) or getattr(gradient, name)
        if inspect.isclass(ours):
            assert ours._fields == getattr(reference, name)._fields
            continue
        parameters = inspect.signature(ours).parameters
        twin = inspect.signature(getattr(reference, name)).parameters
        assert list(twin) == list(parameters), name
        for parameter in twin:
            assert twin[parameter].default == parameters[parameter].default, f"{name}: {parameter}"


@pytest.mark.parametrize("name", ["basic", "distances", "measures", "orders", "pairwise", "samples", "topk"])
def test_examples_run(name):
    """The examples of docstrings give what they show."""
    outcome = doctest.testmod(importlib.import_module(f"kullback.divergence.{name}"))
    assert outcome.attempted and not outcome.failed


def test_the_package_runs_as_a_module():
    """``python -m kullback`` is the command line."""
    done = subprocess.run([sys.executable, "-m", "kullback", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: kullback ")

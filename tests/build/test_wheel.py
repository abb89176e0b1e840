"""What is installed: the files of the wheel, the cost of importing, SIMD levels, the stubs of the kernels."""

import ast
import inspect
import multiprocessing
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import kullback
from kullback import _kernels

ROOT = Path(__file__).parents[2]
PACKAGE = Path(kullback.__file__).parent
STEMS = sorted(path.stem for path in (ROOT / "ext").glob("*/*.pyx") if path.stem != "cpu")


def run(code, timeout=120, **environment):
    """Run Python code in a fresh process; return the finished process."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=timeout, check=False)


def test_importing_loads_nothing_heavier_than_numpy():
    """``import kullback`` loads neither SciPy nor scikit-learn, faiss or matplotlib."""
    code = """
import sys, numpy
before = set(sys.modules)
import kullback
dir(kullback)
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}))
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    heavy = {"scipy", "sklearn", "faiss", "matplotlib", "tqdm", "pandas", "torch", "dask"}
    assert not heavy & set(done.stdout.split())


def test_importing_costs_at_most_a_tenth_of_a_second_over_numpy():
    """The best of five fresh processes: the minimum is the cost, the rest is the machine's noise."""
    code = """
import time, numpy
start = time.perf_counter()
import kullback
print(time.perf_counter() - start)
"""
    assert min(float(run(code).stdout) for _ in range(5)) <= 0.1


@pytest.mark.parametrize("name", _kernels.USABLE_LEVELS)
def test_a_level_can_be_forced(name):
    """KULLBACK_SIMD chooses the module that is loaded, and the functions run on it."""
    code = "import kullback; from kullback._kernels import descent as d; print(d.__name__)"
    done = run(code, KULLBACK_SIMD=name)
    assert done.stdout.strip() == f"kullback._kernels.{name}.descent", done.stderr


def test_a_level_that_is_not_available_is_refused():
    """The message lists the choices."""
    done = run("from kullback import _kernels", KULLBACK_SIMD="v9")
    assert done.returncode != 0
    assert f"KULLBACK_SIMD must be one of {', '.join(_kernels.USABLE_LEVELS)} here, got 'v9'" in done.stderr


def test_every_kernel_has_every_level():
    """No kernel is missing at a level that others have."""
    for stem in STEMS:
        for level in _kernels.USABLE_LEVELS:
            assert _kernels.load(stem, level).__name__.endswith(f"{level}.{stem}")
    with pytest.raises(AttributeError, match="has no kernel 'nothing'"):
        _kernels.nothing  # noqa: B018 - the lookup is what is tested


@pytest.mark.parametrize("stem", [*STEMS, "cpu"])
def test_stub_says_what_the_kernel_takes(stem):
    """Each .pyi names the functions of its kernel, with the same parameters in the same order."""
    module = _kernels.cpu if stem == "cpu" else _kernels.load(stem)
    tree = ast.parse((PACKAGE / "_kernels" / f"{stem}.pyi").read_text())
    stubs = {node.name: [a.arg for a in node.args.args] for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert stubs
    kinds = {"cython_function_or_method", "fused_cython_function"}
    kernels = {name for name, value in vars(module).items() if type(value).__name__ in kinds}
    assert {name for name in kernels if not name.startswith(("_", "fuse_"))} == set(stubs)
    for name, parameters in stubs.items():
        assert _parameters(getattr(module, name)) == parameters, name


def _parameters(function):
    """Return the names of a kernel's parameters, from its signature or the first line of its docstring."""
    if hasattr(function, "__signatures__"):  # a fused kernel: every specialisation has the same names
        function = next(iter(function.__signatures__.values()))
    try:
        return list(inspect.signature(function).parameters)
    except ValueError:
        first = (function.__doc__ or "").splitlines()[0]
        inside = first[first.index("(") + 1 : first.rindex(")")]
        return [part.split("=")[0].split()[-1] for part in inside.split(",") if part.strip()]


def test_version_is_the_distribution():
    """One version, from the metadata."""
    assert kullback.__version__ == metadata.version("kullback")
    assert "TSNE" in dir(kullback)
    with pytest.raises(AttributeError, match="has no attribute 'kl'"):
        kullback.kl  # noqa: B018 - the lookup is what is tested


def test_show_config(capsys):
    """It prints what a bug report needs."""
    kullback.show_config()
    printed = capsys.readouterr().out
    for word in ("kullback", "SIMD levels", "SIMD chosen", "OpenMP", "threads", "compiler"):
        assert word in printed
    assert _kernels.LEVEL in printed


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_children_run_after_their_parent_used_threads(method, tmp_path):
    """A forked child that asks for threads does not hang."""
    code = f"""
import multiprocessing, sys
import numpy as np
import kullback

def work(n_threads):
    p = np.full((3000, 64), 1 / 64)
    return float(kullback.kl_divergence(p, p, n_threads=n_threads).sum())

if __name__ == "__main__":
    work(2)
    with multiprocessing.get_context({method!r}).Pool(1) as pool:
        print(pool.apply_async(work, (2,)).get(60))
    print(work(2))
"""
    script = tmp_path / "child.py"  # a file, because the child must be able to import the main module
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["0.0", "0.0"], done.stderr


def test_the_wheel_carries_no_sources():
    """Only modules, stubs, compiled kernels and the licence are packaged."""
    files = metadata.files("kullback") or []
    installed = [str(file) for file in files if str(file).startswith("kullback/")]
    if not any(
        name.endswith((".so", ".pyd")) for name in installed
    ):  # an editable install: look at what the wheel would hold
        from setuptools import find_packages

        packages = find_packages(str(ROOT / "src"))
        installed = [
            str(path.relative_to(ROOT / "src"))
            for package in packages
            for path in (ROOT / "src" / package.replace(".", "/")).iterdir()
            if path.suffix in (".py", ".pyi", ".typed", ".so", ".c", ".pyx", ".pxd", ".h")
        ]
    suffixes = {Path(name).suffix for name in installed if "__pycache__" not in name}
    assert suffixes <= {".py", ".pyi", ".typed", ".so", ".pyd", ""}
    assert "kullback/py.typed" in installed
    assert "kullback/_kernels/descent.pyi" in installed

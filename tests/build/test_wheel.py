"""What is built and installed: the wheel, the cost of importing, SIMD levels, builds without OpenMP."""

import ast
import inspect
import os
import shutil
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


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_run_after_their_parent_used_threads(method):
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
    if method == "fork":
        done = run(code)
    else:  # the child must be able to import the main module
        folder = Path(os.environ.get("PYTEST_TMPDIR", "/tmp"))
        script = folder / f"kullback_child_{os.getpid()}.py"
        script.write_text(code)
        try:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True,
                                  timeout=120, check=False)  # fmt: skip
        finally:
            script.unlink()
    assert done.stdout.split() == ["0.0", "0.0"], done.stderr


@pytest.fixture(scope="module")
def built_without_openmp(tmp_path_factory):
    """Build a few kernels at one level with a compiler that refuses OpenMP; return the folder."""
    if not (ROOT / "setup.py").exists():
        pytest.skip("an installed copy of the tests has no setup.py to build from")
    pytest.importorskip("Cython")
    folder = tmp_path_factory.mktemp("plain")
    (folder / "src").mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        (folder / name).write_text((ROOT / name).read_text())
    package = folder / "src" / "kullback"
    for path in (ROOT / "src" / "kullback").rglob("*.py*"):
        if path.suffix in (".py", ".pyi"):
            target = package / path.relative_to(ROOT / "src" / "kullback")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(path.read_text())
    few = ("cpu", "descent", "perplexity", "symmetrize")
    shutil.copytree(
        ROOT / "ext",
        folder / "ext",
        ignore=lambda _, names: [name for name in names if name.endswith(".pyx") and Path(name).stem not in few],
    )
    compiler = folder / "cc"
    compiler.write_text('#!/bin/sh\ncase " $* " in *" -fopenmp "*|*x86-64-v[34]*) exit 1;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    environment = {**os.environ, "CC": str(compiler), "LDSHARED": f"{compiler} -shared", "CFLAGS": "-O0"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def test_a_build_without_openmp_runs_on_one_thread(built_without_openmp):
    """It says so, holds only the level that the compiler can make, and gives the same P."""
    code = """
import numpy as np, kullback
from kullback import _kernels, _threads, affinities
assert _kernels.cpu.openmp() == 0 and _kernels.USABLE_LEVELS == ("baseline",), _kernels.USABLE_LEVELS
assert _threads.available_threads() == _threads.resolve_threads(8) == 1
P = affinities.perplexity(np.random.default_rng(0).normal(size=(80, 4)), 10).P
print(abs(P - P.T).max(), round(P.sum(), 12), kullback.__file__)
kullback.show_config()
"""
    done = run(code, PYTHONPATH=os.pathsep.join([str(built_without_openmp / "src"), *filter(None, sys.path)]))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"0.0 1.0 {built_without_openmp}")
    assert "none (single-threaded build)" in done.stdout


def test_the_wheel_carries_no_sources():
    """Only modules, stubs, compiled kernels and the licence are packaged."""
    files = metadata.files("kullback") or []
    installed = [str(file) for file in files if str(file).startswith("kullback/")]
    if not any(name.endswith(".so") for name in installed):  # an editable install: look at what the wheel would hold
        from setuptools import find_packages

        packages = find_packages(str(ROOT / "src"))
        installed = [
            str(path.relative_to(ROOT / "src"))
            for package in packages
            for path in (ROOT / "src" / package.replace(".", "/")).iterdir()
            if path.suffix in (".py", ".pyi", ".typed", ".so", ".c", ".pyx", ".pxd", ".h")
        ]
    suffixes = {Path(name).suffix for name in installed if "__pycache__" not in name}
    assert suffixes <= {".py", ".pyi", ".typed", ".so", ""}
    assert "kullback/py.typed" in installed
    assert "kullback/_kernels/descent.pyi" in installed

"""How the package is built: what the sdist holds, what an edit rebuilds, and a wheel made from the sdist."""

import importlib.util
import os
import shlex
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FEW = ("cpu", "descent", "perplexity", "symmetrize")
"""The kernels of the wheel that is built here: enough for affinities, and soon compiled."""

if not (ROOT / "setup.py").exists():
    pytest.skip("there is no setup.py beside these tests", allow_module_level=True)
pytest.importorskip("Cython")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """Build the sdist, unpack it and return the folder of the sources."""
    folder = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", folder, "sdist", "-d", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("kullback-*/"))


@pytest.fixture
def setup_module(monkeypatch):
    """Return setup.py as a module, as seen from the root of the sources."""
    monkeypatch.chdir(ROOT)
    spec = importlib.util.spec_from_file_location("kullback_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_sdist_holds_what_builds_and_tests_read(sdist):
    """Every source of the kernels and of the package, every test, and the files that tests open are there."""
    folders = ("ext", "src", "tests", "bench", "docs", "examples")
    suffixes = {".py", ".pyi", ".pyx", ".pxd", ".h", ".md", ".typed"}
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    expected = {str(path.relative_to(ROOT)) for path in files} | {"setup.py", "pyproject.toml", "Makefile", "README.md"}
    held = {str(path.relative_to(sdist)) for path in sdist.rglob("*") if path.is_file()}
    assert expected - held == set()
    assert {Path(name).suffix for name in held} & {".so", ".pyd", ".pyc", ".c"} == set()


def test_an_edit_rebuilds_what_includes_the_file(setup_module, monkeypatch, tmp_path):
    """Files that are included by others count, beside the file or from ext/, and nothing else does."""
    sources = {
        "room/one.pyx": "from libc.math cimport exp\nfrom room.shared cimport (a,\n    b)\n",
        "room/two.pyx": 'cdef extern from "other/fast.h" nogil:\n    pass\nimport numpy.linalg\n',
        "room/shared.pxd": 'cimport other.deep\ncdef extern from "room/loops.h":\n    pass\n',
        "other/deep.pxd": "",
        "other/fast.h": "",
        "room/loops.h": '#include <math.h>\n#include "beside.h"\n#  include "other/fast.h"\n',
        "room/beside.h": "",
    }
    for name, text in sources.items():
        path = tmp_path / "ext" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    one, two = (setup_module.files_that_matter(Path("ext/room", name)) for name in ("one.pyx", "two.pyx"))
    assert one == {Path("ext", name) for name in set(sources) - {"room/two.pyx"}}
    assert two == {Path("ext/room/two.pyx"), Path("ext/other/fast.h")}


def test_every_header_belongs_to_a_kernel(setup_module):
    """An include in a form that setup.py does not see would leave its header to none."""
    headers = {path for path in Path("ext").rglob("*") if path.suffix in {".h", ".pxd"}}
    kernels = [*setup_module.SOURCES.values(), Path("ext/common/cpu.pyx")]
    assert headers - set().union(*map(setup_module.files_that_matter, kernels)) == set()


def test_levels_are_found_where_flags_ask_for_a_sanitizer(setup_module, monkeypatch, tmp_path):
    """What CFLAGS instruments is linked with the library for it, in the programs that ask the compiler, too."""
    (tmp_path / "program.c").write_text("int main(void) { return 0; }")
    command = [*shlex.split(os.environ.get("CC", "cc")), "-fsanitize=address", "program.c", "-o", "program"]
    if sys.platform == "win32" or subprocess.run(command, cwd=tmp_path, check=False).returncode:
        pytest.skip("the compiler has no address sanitizer")
    monkeypatch.setenv("CFLAGS", "-fsanitize=address")
    monkeypatch.setattr(setup_module, "CFLAGS", ["-fsanitize=address"])
    from setuptools import Distribution
    from setuptools.command import build_ext

    build = setup_module.BuildKernels(Distribution())
    build.compiler = build_ext.new_compiler()
    build_ext.customize_compiler(build.compiler)
    assert "baseline" in build.chosen_levels()


@pytest.fixture(scope="module")
def plain_wheel(sdist):
    """Build a wheel of a few kernels from the sdist, by a compiler without OpenMP; return where it is unpacked."""
    if sys.platform == "win32":
        pytest.skip("the compiler is a shell script")
    for path in (sdist / "ext").glob("*/*.pyx"):
        if path.stem not in FEW:
            path.unlink()
    compiler = sdist / "cc"
    compiler.write_text('#!/bin/sh\ncase " $* " in *" -fopenmp "*|*x86-64-v[34]*) exit 1;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    environment = {**os.environ, "CC": str(compiler), "LDSHARED": f"{compiler} -shared", "CFLAGS": "-O0"}
    command = [sys.executable, "setup.py", "-q", "bdist_wheel"]
    done = subprocess.run(command, cwd=sdist, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "[-W" not in done.stderr, "the compiler warned"
    with zipfile.ZipFile(next((sdist / "dist").glob("*.whl"))) as wheel:
        wheel.extractall(sdist / "installed")
    return sdist / "installed"


def test_a_wheel_without_openmp_runs_on_one_thread(plain_wheel):
    """It says so, holds only the level that the compiler can make, and gives a symmetric P of sum 1."""
    code = """
import numpy as np, kullback
from kullback import _kernels, _threads, affinities
assert _kernels.cpu.openmp() == 0 and _kernels.USABLE_LEVELS == ("baseline",), _kernels.USABLE_LEVELS
assert _threads.available_threads() == _threads.resolve_threads(8) == 1
P = affinities.perplexity(np.random.default_rng(0).normal(size=(80, 4)), 10).P
print(abs(P - P.T).max(), round(P.sum(), 12), kullback.__file__)
kullback.show_config()
"""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(plain_wheel), *filter(None, sys.path)])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"0.0 1.0 {plain_wheel}")
    assert "none (single-threaded build)" in done.stdout

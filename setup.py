"""Compile every kernel of ext/ once per SIMD level; everything else is in pyproject.toml.

Cython makes one C file of each ``ext/ROOM/NAME.pyx``, and the compiler makes the modules
``kullback._kernels.LEVEL.NAME`` of it. Three environment variables choose what is built:

- ``KULLBACK_LEVELS`` names the levels: ``native`` (the default: those that this machine runs), ``best`` (the highest of
  them), ``all`` (for wheels that others install), or names joined by commas.
- ``KULLBACK_ABI3``: with ``1``, the modules use the stable ABI, so that one wheel serves CPython 3.11 and later.
  Free-threaded interpreters have no stable ABI and ignore it.
- ``CC`` and ``CFLAGS``: any compiler that knows GNU C, and flags that come last, so they override those given here.

Compilers, wheels and releases are described in devel/building.md.
"""

import copy
import os
import platform
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError, LinkError, SetupError

X86 = platform.machine().lower() in {"x86_64", "amd64"}
LEVELS = {"baseline": ["-march=x86-64-v2"] if X86 else []}
if X86:
    LEVELS |= {"v3": ["-march=x86-64-v3"], "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"]}

OPTIMISE = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"]
# Sums may be vectorised. At compile time only, see docs/architecture.md.
REDUCE = ["-fassociative-math"]
# The order of operations is the meaning of these kernels, so they do without REDUCE.
EXACT = {"divergence_pairs", "divergence_rows", "exact_sum", "support"}
# Loads that gcc moves across the selections of terms.h would keep its loops from being vectorised, and calls of memset
# would cost more than the few vectors that they clear.
OF_LANES = ["-fno-tree-pre", "-fno-tree-loop-distribute-patterns"]
# Copies of functions for single callers would take a fifth of the time to compile, and bring no speed.
OF_LANES += ["-fno-ipa-cp-clone", "--param=inline-unit-growth=15"]
LANES = {"divergence_pairs", "divergence_rows"}
# Cython's own code has these, and no compiler needs to say so.
QUIET = ["-Wno-sign-compare", "-Wno-unused-function", "-Wno-unused-but-set-variable", "-Wno-maybe-uninitialized"]
# A compiler without OpenMP, such as Apple's, gives a build of one thread, which keeps the simd loops if it can.
OPENMP = [["-fopenmp"], ["-fopenmp-simd"], []]
# The units that take longest are compiled first, so that no core waits for them in the end.
LONGEST = ("divergence_rows", "repulsion_barnes_hut", "divergence_pairs")

CFLAGS = shlex.split(os.environ.get("CFLAGS", ""))
KERNELS = "kullback._kernels"
CPU = f"{KERNELS}.cpu"
# What Cython's memoryviews need is compiled once here instead of in each kernel, which saves 8 s of compiling in each.
UTILITY = f"{KERNELS}._cyutility"
ABI3 = os.environ.get("KULLBACK_ABI3") == "1" and not sysconfig.get_config_var("Py_GIL_DISABLED")
# The kernels are GNU C, and gcc misaligns vectors on the stack of Windows: clang with MinGW's headers does neither.
OPTIONS: dict[str, dict[str, str]] = {"bdist_wheel": {"py_limited_api": "cp311"}} if ABI3 else {}
if sys.platform == "win32":
    OPTIONS["build_ext"] = {"compiler": "mingw32"}
    os.environ.setdefault("CC", "clang")


def files_that_matter(path: Path, seen: set[Path] | None = None) -> set[Path]:
    """Return ``path`` and all that it cimports or includes, directly or by others, beside what was ``seen``."""
    seen = set() if seen is None else seen
    if path in seen or not path.exists():
        return seen
    seen.add(path)
    text = path.read_text()
    for name in re.findall(r"^\s*(?:from|cimport) (\w+\.\w+)", text, re.MULTILINE):
        files_that_matter(Path("ext", name.replace(".", "/") + ".pxd"), seen)
    for name in re.findall(r"(?:#\s*include|cdef extern from) \"([\w./]+\.h)\"", text):
        beside = path.parent / name
        files_that_matter(beside if beside.exists() else Path("ext", name), seen)
    return seen


def kernel(name: str, source: str) -> Extension:
    """Return one extension module that is made again when this file or one that its source includes changes."""
    macros = [("Py_LIMITED_API", "0x030B0000")] if ABI3 else []
    files = ["setup.py", *sorted(map(str, files_that_matter(Path(source))))]
    return Extension(name, [source], include_dirs=["ext"], define_macros=macros, py_limited_api=ABI3, depends=files)


def translate(extensions: list[Extension], n_jobs: int) -> None:
    """Let Cython make a C file of each source, on all cores, and put it in the source's place."""
    directives = {"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True,
                  "initializedcheck": False, "embedsignature": True}  # fmt: skip
    sources = sorted({extension.sources[0] for extension in extensions})
    for source in sources:
        made = Path("build", source).with_suffix(".c")
        newest = max(path.stat().st_mtime for path in [*files_that_matter(Path(source)), Path("setup.py")])
        if made.exists() and made.stat().st_mtime < newest and Path(source).exists():
            made.unlink()
    units = [Extension(f"{KERNELS}.{Path(source).stem}", [source]) for source in sources]
    options = {"build_dir": "build", "include_path": ["ext"], "shared_utility_qualified_name": UTILITY}
    units = cythonize(units, nthreads=n_jobs, quiet=True, compiler_directives=directives, **options)
    c_file_of = dict(zip(sources, (unit.sources[0] for unit in units), strict=True))
    for extension in extensions:
        extension.sources = [c_file_of[extension.sources[0]]]


class BuildKernels(build_ext):
    """Build the levels that were asked for and that the compiler can make, on all cores, and say what is being done."""

    def probe(self, flags: list[str], source: str = "int main(void) { return 0; }") -> int | None:
        """Return what a program exits with: None if it does not compile without a warning, -1 if it cannot be run."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "probe.c")
            path.write_text(source + "\n")
            try:
                objects = self.compiler.compile([str(path)], folder, None, ["ext"], extra_postargs=["-Werror", *flags])
                # setuptools links programs without CFLAGS, and objects that a sanitizer instruments need its library
                self.compiler.link_executable(objects, "probe", folder, extra_postargs=[*flags, *CFLAGS])
                return subprocess.run([str(Path(folder, "probe"))], check=False).returncode
            except (CompileError, LinkError):
                return None
            except OSError:  # made for another machine
                return -1

    def chosen_levels(self) -> list[str]:
        """Return the levels that KULLBACK_LEVELS names and that the compiler can make."""
        asked = os.environ.get("KULLBACK_LEVELS", "native")
        levels = list(LEVELS) if asked in ("native", "best", "all") else [level.strip() for level in asked.split(",")]
        if not set(levels) <= set(LEVELS):
            raise SetupError(f"KULLBACK_LEVELS must be native, best, all or of {', '.join(LEVELS)}, got {asked!r}")
        if asked in ("native", "best"):
            highest = self.probe([], '#include "common/cpu.h"\nint main(void) { return kullback_simd_level(); }')
            levels = levels[: highest + 1] if highest is not None and highest >= 0 else levels
        levels = [level for level in levels if self.probe(LEVELS[level]) is not None]
        return levels[-1:] if asked == "best" else levels

    def set_flags(self, extension: Extension, openmp: list[str]) -> None:
        """Attach the flags of one kernel; ``cythonize`` would leak them to the other levels if it saw them."""
        *_, level, stem = extension.name.split(".")
        flags = [*OPTIMISE, *LEVELS.get(level, []), *openmp]
        flags += ["-O1"] if stem == "_cyutility" else []  # nothing in it is called in a loop
        flags += REDUCE if stem in SOURCES and stem not in EXACT else []
        flags += [flag for flag in [*QUIET, *OF_LANES] if flag in self.accepted and (stem in LANES or flag in QUIET)]
        extension.extra_compile_args = [*flags, *CFLAGS]
        extension.extra_link_args = openmp

    def build_extensions(self) -> None:
        """Translate and compile what has changed."""
        levels = self.chosen_levels()
        openmp = next(flags for flags in OPENMP if self.probe(flags) is not None)
        self.extensions = [ext for ext in self.extensions if ext.name.split(".")[2] in (*levels, "cpu", "_cyutility")]
        self.accepted = {flag for flag in [*QUIET, *OF_LANES] if self.probe([flag]) is not None}
        for extension in self.extensions:
            self.set_flags(extension, openmp)
        self.remove_stale()
        self.parallel = self.parallel or os.cpu_count()
        print(f"Translating {len(SOURCES)} kernels to C and compiling them for {', '.join(levels)}", flush=True)
        translate(self.extensions, self.parallel)
        self.extensions.sort(key=lambda extension: not extension.name.endswith(LONGEST))
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        """Compile one module, and say how long it took unless there was nothing to do."""
        start = time.perf_counter()
        command = copy.copy(self)  # object files of each level in a folder of their own
        command.build_temp = str(Path(self.build_temp, ext.name.split(".")[2]))
        build_ext.build_extension(command, ext)
        seconds = time.perf_counter() - start
        if seconds > 0.2:
            print(f"  {ext.name.removeprefix(KERNELS + '.')}: {seconds:.0f} s", flush=True)

    def remove_stale(self) -> None:
        """Remove modules of kernels or levels that are not wanted, which setuptools would package."""
        outputs = {Path(self.get_ext_fullpath(extension.name)).resolve() for extension in self.extensions}
        for path in Path(self.get_ext_fullpath(CPU)).parent.rglob("*"):
            if path.suffix in {".so", ".pyd"} and path.resolve() not in outputs:
                path.unlink()


class BuildModules(build_py):
    """Copy the Python files anew, so that no module is packaged whose source is gone."""

    def run(self) -> None:
        """Remove the copies of an earlier build first."""
        if not self.editable_mode:
            for path in [*Path(self.build_lib).rglob("*.py"), *Path(self.build_lib).rglob("*.pyi")]:
                path.unlink()
        super().run()


SOURCES = {path.stem: path for path in sorted(Path("ext").glob("*/*.pyx")) if path.stem != "cpu"}

if __name__ == "__main__":
    setup(
        ext_modules=[
            kernel(CPU, "ext/common/cpu.pyx"),
            kernel(UTILITY, "ext/common/_cyutility.c"),
            *(kernel(f"{KERNELS}.{level}.{stem}", str(path)) for level in LEVELS for stem, path in SOURCES.items()),
        ],
        cmdclass={"build_ext": BuildKernels, "build_py": BuildModules},
        options=OPTIONS,
    )

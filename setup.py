"""Compile every kernel of ext/ once per SIMD level; everything else is in pyproject.toml.

Cython makes one C file of each ``ext/ROOM/NAME.pyx``, and the compiler makes the modules
``kullback._kernels.LEVEL.NAME`` of it. The environment variable ``KULLBACK_LEVELS`` chooses the levels: ``native``
(the default: those that this machine runs), ``best`` (the highest of them), ``all`` (for wheels that others install),
or names joined by commas.
"""

import copy
import os
import platform
import re
import subprocess
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
KEEP_LOOPS = ["-fno-tree-pre", "-fno-tree-loop-distribute-patterns"]
LANES = {"divergence_pairs", "divergence_rows"}
# The units that take longest are compiled first, so that no core waits for them in the end.
LONGEST = ["divergence_rows", "repulsion_barnes_hut", "divergence_pairs"]

KERNELS = "kullback._kernels"
CPU = f"{KERNELS}.cpu"
# What Cython's memoryviews need is compiled once here instead of in each kernel, which saves 8 s of compiling in each.
UTILITY = f"{KERNELS}._cyutility"
SOURCES = {path.stem: path for path in sorted(Path("ext").glob("*/*.pyx"))}


def files_that_matter(path: Path, seen: set[Path]) -> set[Path]:
    """Return ``path`` and all that it cimports or includes, directly or by others; also add them to ``seen``."""
    if path in seen or not path.exists():
        return seen
    seen.add(path)
    text = path.read_text()
    for name in re.findall(r"^\s*(?:from (\w+\.\w+) cimport|cimport (\w+\.\w+))", text, re.MULTILINE):
        files_that_matter(Path("ext", *"".join(name).split(".")).with_suffix(".pxd"), seen)
    for name in re.findall(r"(?:#\s*include|cdef extern from) \"([\w/]+\.h)\"", text):
        files_that_matter(Path("ext", name), seen)
    return seen


def kernel(name: str, source: str) -> Extension:
    """Return one extension module that is made again when this file or one that its source includes changes."""
    depends = sorted(str(path) for path in files_that_matter(Path(source), set()))
    return Extension(name, [source], include_dirs=["ext"], depends=["setup.py", *depends])


def translate(extensions: list[Extension], n_jobs: int) -> None:
    """Let Cython make a C file of each source, on all cores, and put it in the source's place."""
    directives = {"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True,
                  "initializedcheck": False, "embedsignature": True}  # fmt: skip
    names = {extension.sources[0]: f"{KERNELS}.{Path(extension.sources[0]).stem}" for extension in extensions}
    for source, name in names.items():
        made = Path("build", source).with_suffix(".c")
        newest = max(path.stat().st_mtime for path in files_that_matter(Path(source), set()) | {Path("setup.py")})
        if made.exists() and made.stat().st_mtime < newest and name != UTILITY:
            made.unlink()
    made = cythonize(
        [Extension(name, [source]) for source, name in names.items()],
        build_dir="build",
        include_path=["ext"],
        compiler_directives=directives,
        shared_utility_qualified_name=UTILITY,
        nthreads=n_jobs,
        quiet=True,
    )
    c_files = dict(zip(names, (extension.sources[0] for extension in made), strict=True))
    for extension in extensions:
        extension.sources = [c_files[extension.sources[0]]]


class BuildKernels(build_ext):
    """Build the levels that were asked for and that the compiler can make, on all cores, and say what is being done."""

    def probe(self, source: str, flags: list[str]) -> int | None:
        """Return what a program exits with: None if it cannot be compiled, -1 if this machine cannot run it."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "probe.c")
            path.write_text(source)
            try:
                objects = self.compiler.compile([str(path)], folder, include_dirs=["ext"], extra_postargs=flags)
                self.compiler.link_executable(objects, "probe", folder, extra_postargs=flags)
                return subprocess.run([str(Path(folder, "probe"))], check=False).returncode
            except (CompileError, LinkError):
                return None
            except OSError:  # made for another machine
                return -1

    def accepts(self, flags: list[str]) -> bool:
        """Return whether the compiler takes the flags and links with them."""
        return self.probe("int main(void) { return 0; }\n", flags) is not None

    def chosen_levels(self) -> list[str]:
        """Return the levels that KULLBACK_LEVELS names."""
        asked = os.environ.get("KULLBACK_LEVELS", "native")
        if asked in ("native", "best"):
            highest = self.probe('#include "common/cpu.h"\nint main(void) { return kullback_simd_level(); }\n', [])
            runnable = list(LEVELS)[: highest + 1] if highest is not None and highest >= 0 else list(LEVELS)
            runnable = [level for level in runnable if self.accepts(LEVELS[level])]
            return runnable[-1:] if asked == "best" else runnable
        levels = list(LEVELS) if asked == "all" else [level.strip() for level in asked.split(",")]
        if not set(levels) <= set(LEVELS):
            raise SetupError(f"KULLBACK_LEVELS must be native, best, all or of {', '.join(LEVELS)}, got {asked!r}")
        return [level for level in levels if self.accepts(LEVELS[level])]

    def set_flags(self, extension: Extension, level: str, openmp: list[str]) -> None:
        """Attach the flags of one kernel; ``cythonize`` would leak them to the other levels if it saw them."""
        stem = extension.name.rpartition(".")[2]
        flags = [*OPTIMISE, *LEVELS.get(level, []), *openmp]
        if extension.name == UTILITY:
            flags = ["-O1", "-g0"]  # nothing in it is called in a loop
        elif extension.name != CPU and stem not in EXACT:
            flags += REDUCE
        if stem in LANES:
            flags += [flag for flag in KEEP_LOOPS if self.accepts([flag])]
        extension.extra_compile_args = flags
        extension.extra_link_args = [flag for flag in openmp if flag == "-fopenmp"]

    def build_extensions(self) -> None:
        """Translate and compile what has changed."""
        levels = self.chosen_levels()
        openmp = [flag for flag in ("-fopenmp", "-fopenmp-simd") if self.accepts([flag])]
        wanted = []
        for extension in self.extensions:
            level = extension.name.removeprefix(f"{KERNELS}.").rpartition(".")[0]
            if level in ("", *levels):
                self.set_flags(extension, level, openmp)
                wanted.append(extension)
        self.extensions = wanted
        self.remove_stale()
        self.parallel = self.parallel or os.cpu_count()
        print(f"Translating {len(SOURCES)} kernels to C and compiling them for {', '.join(levels)}", flush=True)
        translate(wanted, self.parallel)
        stems = [extension.name.rpartition(".")[2] for extension in wanted]
        order = [*LONGEST, *sorted(set(stems) - set(LONGEST))]
        self.extensions = sorted(wanted, key=lambda extension: order.index(extension.name.rpartition(".")[2]))
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
        folder = Path(self.get_ext_fullpath(CPU)).parent
        for path in [*folder.glob("*.so"), *folder.glob("*/*.so"), *folder.glob("*.pyd"), *folder.glob("*/*.pyd")]:
            if path.resolve() not in outputs:
                path.unlink()


class BuildModules(build_py):
    """Copy the Python files anew, so that no module is packaged whose source is gone."""

    def run(self) -> None:
        """Remove the copies of an earlier build first."""
        if not self.editable_mode:
            for path in Path(self.build_lib).rglob("*.py*"):
                if path.suffix in {".py", ".pyi"}:
                    path.unlink()
        super().run()


setup(
    ext_modules=[
        kernel(CPU, str(SOURCES.pop("cpu"))),
        kernel(UTILITY, "ext/common/_cyutility.c"),
        *(kernel(f"{KERNELS}.{level}.{stem}", str(path)) for level in LEVELS for stem, path in SOURCES.items()),
    ],
    cmdclass={"build_ext": BuildKernels, "build_py": BuildModules},
)

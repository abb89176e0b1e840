"""Compile every kernel in ext/ once per SIMD level; everything else is in pyproject.toml."""

import os
import platform
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

X86 = platform.machine().lower() in {"x86_64", "amd64"}
LEVELS = {"baseline": ["-march=x86-64-v2"] if X86 else []}
if X86:
    LEVELS |= {"v3": ["-march=x86-64-v3"], "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"]}
OPTIMISE = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"]
REDUCE = ["-fassociative-math"]  # lets sums vectorise; compile time only, see docs/architecture.md
# kernels whose order of operations is their meaning: no REDUCE
EXACT = {"divergence_pairs", "divergence_rows", "exact_sum", "support"}
HEADERS = [str(path) for path in sorted(Path("ext").glob("*.h"))]
LANES = {"divergence_pairs", "divergence_rows"}
# loads moved across the selections of lanes.h would keep its loops from vectorising, and calls of memset cost more
# than the few vectors that they clear
KEEP_LOOPS = ["-fno-tree-pre", "-fno-tree-loop-distribute-patterns"]
CPU = "kullback._kernels.cpu"


def kernels(level: str) -> list[Extension]:
    """Return the extension modules of one level, or of the CPU probe, which has none."""
    if level == "cpu":
        sources = {CPU: "ext/cpu.pyx"}
    else:
        stems = sorted(path.stem for path in Path("ext").glob("*.pyx") if path.stem != "cpu")
        sources = {f"kullback._kernels.{stem}_{level}": f"ext/{stem}.pyx" for stem in stems}
    directives = {"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True,
                  "initializedcheck": False, "embedsignature": True}  # fmt: skip
    return cythonize(
        [Extension(name, [source], include_dirs=["ext"], depends=HEADERS) for name, source in sources.items()],
        build_dir=f"build/cython-{level}",  # a directory each: one source makes several modules
        include_path=["ext"],
        compiler_directives=directives,
        nthreads=0,
    )


class BuildKernels(build_ext):
    """Attach the flags that this compiler takes, leaving out levels that it cannot make."""

    def accepts(self, flags: list[str]) -> bool:
        """Return whether the compiler takes the flags and links with them."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text("int main(void) { return 0; }\n")
            try:
                objects = self.compiler.compile([str(source)], folder, extra_postargs=flags)
                self.compiler.link_executable(objects, str(Path(folder, "probe")), extra_postargs=flags)
            except (CompileError, LinkError):
                return False
        return True

    def build_extensions(self) -> None:
        """Build the levels that the compiler can make, on all cores."""
        flags = {level: march for level, march in LEVELS.items() if self.accepts(march)} | {"cpu": []}
        openmp = ["-fopenmp"] if self.accepts(["-fopenmp"]) else []
        simd = ["-fopenmp-simd"] if self.accepts(["-fopenmp-simd"]) else []  # the pragma of ext/_numeric.pxd
        keep_loops = [flag for flag in KEEP_LOOPS if self.accepts([flag])]
        built = []
        for extension in self.extensions:
            stem, _, level = extension.name.removeprefix("kullback._kernels.").rpartition("_")
            if extension.name != CPU and level not in flags:
                continue
            reduce = [] if stem in EXACT or extension.name == CPU else REDUCE
            reduce = [*reduce, *keep_loops] if stem in LANES else reduce
            march = flags["cpu" if extension.name == CPU else level]
            extension.extra_compile_args = [*OPTIMISE, *reduce, *march, *simd, *openmp]
            extension.extra_link_args = list(openmp)
            built.append(extension)
        self.extensions = built
        self.parallel = self.parallel or os.cpu_count()
        super().build_extensions()


setup(
    ext_modules=[module for level in ["cpu", *LEVELS] for module in kernels(level)],
    cmdclass={"build_ext": BuildKernels},
)

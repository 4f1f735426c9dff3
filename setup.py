"""Builds the extension modules: the Cython wrapper with the C kernels it calls, and the fast path of a repeated call of a
compiled function; and the README as a package index can show it. Everything else is in pyproject.toml.

TINYGRAD_RNN_PURE=1 in the environment builds none of them: a wheel for every platform, which works in plain numpy."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError, CompileError

# No -ffast-math: NaN, infinity and signed zero go through kernels as IEEE 754 says. What these flags give up is
# errno and the floating-point exception flags, which nobody reads and which would forbid vector code. -g0: Python's own flags
# ask for debug information, which makes the modules five times larger and the build half as long again.
STANDARD = ["-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math"]
UNIX = [*STANDARD, "-g0", "-pthread"]  # gcc and clang, MinGW's included
CLANG_CL = ["/O2", *[f"/clang:{flag}" for flag in STANDARD]]
CACHE = Path("build", "modules")  # what was built before, by the hash of everything that it was built from
ADVICE = """
tinygrad_rnn's C kernels could not be built: {error}.
Building them takes gcc or clang and the Python headers. Debian and Ubuntu: apt-get install gcc python3-dev. macOS:
xcode-select --install. Windows: Visual Studio's build tools with LLVM's clang-cl in PATH, for cl knows no vector types.
To go without, set TINYGRAD_RNN_PURE=1 and install again: everything then works in plain numpy, slowly."""


def extensions():
    import numpy
    from Cython.Build import cythonize

    macros = [("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")]
    native = Extension(
        "tinygrad_rnn._native",
        sources=[
            "csrc/kernels_avx512.c",  # the longest first
            "csrc/kernels_avx2.c",
            "tinygrad_rnn/_native.pyx",
            "csrc/kernels_baseline.c",
            "csrc/dispatch.c",
            "csrc/program.c",
            "csrc/threads.c",
        ],
        depends=sorted(glob("csrc/*")),
        include_dirs=["csrc", numpy.get_include()],
        define_macros=macros,
    )
    shortcut = Extension(
        "tinygrad_rnn.compiler._shortcut",
        sources=["tinygrad_rnn/compiler/_shortcut.pyx"],
        include_dirs=[numpy.get_include()],
        define_macros=macros,
    )
    return cythonize([native, shortcut])


class BuildExtension(build_ext):
    """Compiles the files of a module side by side, and none of them where the same sources were built before: the second
    `pip install` of a checkout, with other extras, takes the module of the first."""

    def run(self):
        try:
            super().run()
        except (BaseError, CCompilerError) as error:
            raise CompileError(ADVICE.format(error=str(error).rstrip("."))) from error

    def build_extension(self, ext):
        self._choose_flags(ext)
        target = Path(self.get_ext_fullpath(ext.name))
        built = CACHE / self._key(ext) / target.name
        if built.is_file() and not self.force:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(built, target)
            return
        one_by_one = self.compiler.compile

        def side_by_side(sources, *args, **options):
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
            with ThreadPoolExecutor(cores) as pool:
                found = pool.map(lambda source: one_by_one([source], *args, **options), sources)
                return [item for objects in found for item in objects]

        self.compiler.compile = side_by_side
        try:
            super().build_extension(ext)
        finally:
            self.compiler.compile = one_by_one
        built.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(target, built)

    def _choose_flags(self, ext):
        """The flags of the compiler in use. Visual Studio's is replaced by clang-cl, which takes the same command line."""
        if self.compiler.compiler_type != "msvc":
            ext.extra_compile_args = UNIX
            ext.extra_link_args = ["-pthread", *(["-Wl,--strip-all"] if sys.platform == "linux" else [])]
            return
        clang = shutil.which("clang-cl")
        if clang is None:
            raise CompileError("clang-cl is not in PATH")
        if not self.compiler.initialized:
            self.compiler.initialize()
        self.compiler.cc = clang
        ext.extra_compile_args = CLANG_CL

    def _key(self, ext):
        """A hash of the sources, the flags, the compiler, and what else goes into the module."""
        import Cython
        import numpy

        flags = (ext.extra_compile_args, ext.extra_link_args, ext.define_macros)
        settings = [os.environ.get(name) or sysconfig.get_config_var(name) for name in ("CC", "CFLAGS", "LDFLAGS", "ARCHFLAGS")]
        parts = [repr(flags), repr(settings), self._compiler_version()]
        parts += [sysconfig.get_config_var("EXT_SUFFIX"), numpy.__version__, Cython.__version__]
        written = sorted({*glob("csrc/*"), *glob("tinygrad_rnn/**/*.pyx", recursive=True)})
        digest = hashlib.sha256("\0".join(map(str, parts)).encode())
        for path in [*written, __file__]:
            digest.update(Path(path).name.encode() + b"\0" + Path(path).read_bytes())
        return digest.hexdigest()[:32]

    def _compiler_version(self):
        """What the compiler says of itself; nothing where it cannot be asked: then compiling says why."""
        command = getattr(self.compiler, "compiler", None) or [self.compiler.cc]
        try:
            return subprocess.run([command[0], "--version"], capture_output=True, text=True).stdout
        except OSError:
            return ""


def description():
    """The README without relative paths, which an index cannot follow: a picture is its description, a link its text."""
    text = Path("README.md").read_text(encoding="utf-8")
    return re.sub(r"(!?)\[([^]]*)\]\((?!https?:)[^)]*\)", lambda m: f"*{m[2]}*" if m[1] else m[2], text)


def pure():
    """Whether TINYGRAD_RNN_PURE asks for a package without compiled modules."""
    value = os.environ.get("TINYGRAD_RNN_PURE", "") or "0"
    if value not in ("0", "1"):
        raise SystemExit(f"error: TINYGRAD_RNN_PURE is 1 or 0, not {value!r}")
    return value == "1"


if __name__ == "__main__":
    setup(
        ext_modules=[] if pure() else extensions(),
        cmdclass={"build_ext": BuildExtension},
        long_description=description(),
        long_description_content_type="text/markdown",
    )

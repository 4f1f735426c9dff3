"""Builds the extension modules: the Cython wrapper with the C kernels it calls, and the fast path of a repeated call of a
compiled function. Everything else is in pyproject.toml."""

import hashlib
import os
import shutil
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path

import Cython
import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# No -ffast-math: NaN, infinity and signed zero go through kernels as IEEE 754 says. What these flags give up is
# errno and the floating-point exception flags, which nobody reads and which would forbid vector code. -g0: Python's own flags
# ask for debug information, which makes the modules five times larger and the build half as long again.
FLAGS = ["-std=gnu11", "-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-pthread"]
CACHE = Path("build", "modules")  # what was built before, by the hash of everything that it was built from

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
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
    extra_compile_args=FLAGS,
    extra_link_args=["-pthread"],
)

shortcut = Extension(
    "tinygrad_rnn.compiler._shortcut",
    sources=["tinygrad_rnn/compiler/_shortcut.pyx"],
    include_dirs=[numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
    extra_compile_args=FLAGS,
)


class BuildExtension(build_ext):
    """Compiles the files of a module side by side, and none of them where the same sources were built before: the second
    `pip install` of a checkout, with other extras, takes the module of the first."""

    def build_extension(self, ext):
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

    def _key(self, ext):
        """A hash of the sources, the flags, the compiler, and what else goes into the module."""
        flags = (ext.extra_compile_args, ext.extra_link_args, ext.define_macros)
        compiler = [os.environ.get(name) or sysconfig.get_config_var(name) for name in ("CC", "CFLAGS", "LDFLAGS")]
        parts = [repr(flags), repr(compiler), sysconfig.get_config_var("SOABI"), numpy.__version__, Cython.__version__]
        written = sorted({*glob("csrc/*"), *glob("tinygrad_rnn/**/*.pyx", recursive=True)})
        digest = hashlib.sha256("\0".join(map(str, parts)).encode())
        for path in [*written, __file__]:
            digest.update(Path(path).name.encode() + b"\0" + Path(path).read_bytes())
        return digest.hexdigest()[:32]


setup(ext_modules=cythonize([native, shortcut]), cmdclass={"build_ext": BuildExtension})

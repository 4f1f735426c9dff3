"""Builds the extension modules: the Cython wrapper with the C kernels it calls, and the way of a repeated call of a compiled
function. Everything else is in pyproject.toml."""

from glob import glob

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

# No -ffast-math: NaN, infinity and signed zero go through kernels as IEEE 754 says. What these flags give up is
# errno and the floating-point exception flags, which nobody reads and which would forbid vector code.
FLAGS = ["-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-pthread"]

native = Extension(
    "tinygrad_rnn._native",
    sources=[
        "tinygrad_rnn/_native.pyx",
        "csrc/dispatch.c",
        "csrc/program.c",
        "csrc/threads.c",
        "csrc/kernels_baseline.c",
        "csrc/kernels_avx2.c",
        "csrc/kernels_avx512.c",
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

setup(ext_modules=cythonize([native, shortcut]))

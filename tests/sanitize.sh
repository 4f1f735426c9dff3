#!/usr/bin/env bash
# Builds the kernels with AddressSanitizer and UndefinedBehaviorSanitizer in a copy of the tree, and runs the tests that call them:
#
#     bash tests/sanitize.sh [more arguments for pytest]
#
# Needs gcc with its sanitizer libraries, and an environment that has what `pip install -e '.[test]'` installs; PYTHON names its
# interpreter. Left out are two tests that start interpreters without the sanitizers. Takes some minutes. Any report ends the run with an error.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r csrc tests tinygrad_rnn setup.py pyproject.toml README.md LICENSE "$copy"
cd "$copy"
find . -name '*.so' -delete
flags="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g"
CFLAGS="$flags" LDFLAGS="-fsanitize=address,undefined" "$python" setup.py -q build_ext --inplace
# numpy's own cache of small blocks would hide the bounds of arrays below 1 KB: the tests' sentinels and NaNs watch those
ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
    PYTHONPATH="$copy" "$python" -m pytest tests/test_kernels.py tests/test_ops.py tests/test_conv.py tests/test_compiler.py -p no:cacheprovider \
    -k "not build_info and not number_of_threads" "$@"

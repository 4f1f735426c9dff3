"""Blocks the compiled modules, as on a machine where they were not built: `pytest -p without_kernels`, with tests/ in PYTHONPATH,
or `import without_kernels` before tinygrad_rnn."""

import sys

COMPILED = ("tinygrad_rnn._native", "tinygrad_rnn.compiler._shortcut")


class Blocked:
    """A finder that finds nothing, and says so before others look."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in COMPILED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Blocked)

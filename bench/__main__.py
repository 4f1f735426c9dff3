"""python -m bench [kernels] [nodes] [functions] [rnn] [tasks] [--quick] [--json FILE]"""

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "XLA_FLAGS"):
    # before any library is loaded: one thread each, so that ratios compare code and not core counts
    os.environ.setdefault(
        _variable, "1" if _variable != "XLA_FLAGS" else "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    )

import argparse
import json
import platform
from importlib import import_module

from tinygrad_rnn import build_info

from .peers import versions
from .timing import one_core

TABLES = ("kernels", "nodes", "functions", "rnn", "tasks")


def main() -> None:
    """Run the named tables (all unless told otherwise) on one core and print them."""
    p = argparse.ArgumentParser(
        prog="python -m bench", description="Speed as ratios against peers, verified, then timed; and what nets learn."
    )
    p.add_argument("tables", nargs="*", metavar="table", help=f"any of {', '.join(TABLES)} (default: all)")
    p.add_argument("--quick", action="store_true", help="few shapes and short timings: a check that everything runs")
    p.add_argument("--json", metavar="FILE", help="write every number there too")
    a = p.parse_args()
    unknown = set(a.tables) - set(TABLES)
    if unknown:
        p.error(f"unknown table {', '.join(sorted(unknown))}; expected any of {', '.join(TABLES)}")
    one_core()
    machine = {"python": platform.python_version(), "machine": platform.machine(), "build": build_info(), "peers": versions()}
    print(f"{build_info()['isa']} kernels, {build_info()['compiler']}; peers: {machine['peers']}\n")
    numbers = {"machine": machine}
    for name in a.tables or TABLES:
        text, numbers[name] = import_module(f".{name}", __package__).run(a.quick)
        print(text, flush=True)
    if a.json:
        with open(a.json, "w", encoding="utf-8") as file:
            json.dump(numbers, file, indent=1)


if __name__ == "__main__":
    main()

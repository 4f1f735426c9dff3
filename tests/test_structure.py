"""The rooms: imports run downward only, and nothing but numpy is needed at run time."""

import ast
import pathlib
import re
import subprocess
import sys

import ops_table
import pytest

import tinygrad_rnn

ROOT = pathlib.Path(tinygrad_rnn.__file__).parent
README = pathlib.Path(__file__).parents[1] / "README.md"  # beside the tests; the package may be installed elsewhere

# From the ground up. A module may import from its own room and from rooms below it, never from one above.
ROOMS = [
    {"_native", "_reference"},
    {"backends"},
    {"states"},
    {"writes"},
    {"generator"},
    {"ops"},
    {"tape"},
    {"tensor"},
    {"algebra"},
    {"functions"},
    {"nn"},
    {"data"},
    {"optim"},
    {"checkpoint"},
    {"graph"},
    {"compare"},
    {"flow"},
    {"compiler"},
    {"testing"},
    {"experiment"},
    {"report"},
    {"cli"},
    {"__init__", "__main__"},
]
FLOOR = {name: i for i, room in enumerate(ROOMS) for name in room}
# Rules get their kernels as `k`: ops may not reach for a backend themselves.
FORBIDDEN = {
    ("ops", "backends"),
    ("ops", "_native"),
    ("ops", "_reference"),
    ("tensor", "backends"),
    ("nn", "backends"),
    ("functions", "backends"),
}
OPTIONAL = {"matplotlib", "tqdm", "sklearn"}  # imported inside functions only


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield path, parts


def imported_rooms(path, parts):
    """(room imported, line) for every import from inside the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = parts[: len(parts) - node.level]
            target = [*base, *(node.module.split(".") if node.module else [])]
            names = [target[0]] if target else [a.name for a in node.names]
            for name in names:
                yield (name if name in FLOOR else "__init__"), node.lineno
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            assert not any(n.split(".")[0] == "tinygrad_rnn" for n in names), f"{path}:{node.lineno}: import relatively"


def test_every_module_has_a_room():
    for path, parts in modules():
        assert parts[0] in FLOOR, f"{path} is in no room: give it a place in ROOMS"


def test_imports_run_downward():
    for path, parts in modules():
        for room, line in imported_rooms(path, parts):
            if parts[-1] == "__init__" and len(parts) == 1:
                continue
            # names that the package itself offers (the version) are for the command alone
            if room == "__init__":
                assert parts[0] in ("cli", "__main__"), f"{path}:{line} imports from the package itself"
                continue
            assert FLOOR[room] <= FLOOR[parts[0]], f"{path}:{line}: {parts[0]} must not import {room}"
            assert (parts[0], room) not in FORBIDDEN, f"{path}:{line}: {parts[0]} must not import {room}"


def test_the_check_finds_an_upward_import(tmp_path):
    bad = tmp_path / "tape.py"
    bad.write_text("from .nn.layers import Linear\nfrom . import graph")
    assert [room for room, _ in imported_rooms(bad, ("tape",))] == ["nn", "graph"]
    assert FLOOR["nn"] > FLOOR["tape"]


def test_numpy_alone_is_needed():
    allowed = {"numpy", "__future__"} | set(sys.stdlib_module_names)
    for path, _ in modules():
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            else:
                continue
            for name in names:
                top = name.split(".")[0]
                assert top in allowed or (top in OPTIONAL and node not in tree.body), f"{path}:{node.lineno} imports {name}"


def test_importing_the_package_is_light():
    code = "import sys, tinygrad_rnn; print(sorted({m.split('.')[0] for m in sys.modules} & {'matplotlib', 'torch', 'tqdm', 'hypothesis', 'safetensors', 'sklearn', 'pydoc_data'}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_public_names_have_docstrings():
    for name in tinygrad_rnn.__all__:
        thing = getattr(tinygrad_rnn, name)
        assert thing.__doc__, name


def test_what_the_readme_shows_is_there():
    checkout = README.parent
    readme = README.read_text()
    for path in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (checkout / path).is_file(), path
        tracked = subprocess.run(["git", "ls-files", "--error-unmatch", path], cwd=checkout, capture_output=True)
        assert tracked.returncode == 0 or not (checkout / ".git").exists(), f"{path} is not in the repository"


def test_the_table_of_ops_is_fresh():
    assert ops_table.PAGE.read_text() == ops_table.page(), "docs/OPS.md is stale: python tests/ops_table.py"


@pytest.mark.kernels
def test_the_readmes_python_runs():
    readme = README.read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, re.S)
    assert len(blocks) >= 2
    code = "\n".join(blocks)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "identical: " in run.stdout
    assert "VANISHING" in run.stdout

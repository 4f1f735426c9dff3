"""What is given away: the text an index shows, the flags of each compiler, what a failed build says."""

import importlib.util
import os
import re
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest

import tinygrad_rnn

ROOT = Path(__file__).parents[1]


@pytest.fixture
def setup(monkeypatch):
    monkeypatch.chdir(ROOT)
    pytest.importorskip("setuptools", minversion="77")
    spec = importlib.util.spec_from_file_location("setup_of_tinygrad_rnn", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_version():
    assert metadata("tinygrad-rnn")["Version"] == tinygrad_rnn.__version__


def test_an_index_gets_no_relative_path(setup):
    readme, shown = (ROOT / "README.md").read_text(), setup.description()
    paths = r"\]\((?!https?:)"
    assert re.search(paths, readme) and not re.search(paths, shown)
    changed = re.findall(r"!?\[[^]]*\]\([^)]*\)", readme)
    rest = readme
    for link in changed:
        rest = rest.replace(link, "\0")
    assert all(part in shown for part in rest.split("\0")), "nothing but links and pictures is changed"
    assert re.search(r"!\[([^]]*)\]", readme)[1] in shown, "the picture is described"


class Compiler:
    initialized, cc, compiler_type = True, "cl.exe", "unix"


def build_extension(setup, kind):
    command = setup.BuildExtension(setup.setup.__globals__["distutils"].dist.Distribution())
    command.compiler = Compiler()
    command.compiler.compiler_type = kind
    return command, setup.Extension("x", [])


def test_flags_go_by_the_compiler(setup, monkeypatch):
    for kind in ("unix", "mingw32"):
        command, ext = build_extension(setup, kind)
        command._choose_flags(ext)
        assert "-fno-trapping-math" in ext.extra_compile_args and not any(f.startswith("/") for f in ext.extra_compile_args)
    command, ext = build_extension(setup, "msvc")
    monkeypatch.setattr(setup.shutil, "which", lambda name: f"C:\\llvm\\{name}.exe")
    command._choose_flags(ext)
    assert command.compiler.cc == "C:\\llvm\\clang-cl.exe"
    assert all(flag.startswith("/") for flag in ext.extra_compile_args) and not ext.extra_link_args
    monkeypatch.setattr(setup.shutil, "which", lambda name: None)
    with pytest.raises(setup.CompileError, match="clang-cl is not in PATH"):
        command._choose_flags(ext)


def test_a_failed_build_says_what_to_do(setup, monkeypatch):
    def fail(self):
        raise setup.CompileError("command 'gcc' failed: No such file or directory")

    monkeypatch.setattr(setup.build_ext, "run", fail)
    command, _ = build_extension(setup, "unix")
    with pytest.raises(
        setup.CompileError, match=r"(?s)'gcc' failed: No such file.*apt-get install gcc.*set TINYGRAD_RNN_PURE=1"
    ):
        command.run()


def test_the_switch_of_a_pure_build(setup, monkeypatch):
    for value, expected in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv("TINYGRAD_RNN_PURE", value)
        assert setup.pure() is expected
    monkeypatch.setenv("TINYGRAD_RNN_PURE", "yes")
    with pytest.raises(SystemExit, match="TINYGRAD_RNN_PURE is 1 or 0, not 'yes'"):
        setup.pure()


def test_a_pure_wheel_is_for_every_platform(setup, tmp_path):
    if not (ROOT / "tinygrad_rnn").is_dir():
        pytest.skip("the sources are not here")
    env = os.environ | {"TINYGRAD_RNN_PURE": "1"}
    build = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", tmp_path, "build", "--build-base", tmp_path / "build"]
    done = subprocess.run([*build, "bdist_wheel", "--dist-dir", tmp_path], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [p.name for p in tmp_path.glob("*.whl")] == [f"tinygrad_rnn-{tinygrad_rnn.__version__}-py3-none-any.whl"]

"""The command: what it prints, writes and refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn
from tinygrad_rnn.cli import main
from tinygrad_rnn.data import Text
from tinygrad_rnn.report.said import power
from tinygrad_rnn.report.text import shown_lags

pytest.importorskip("matplotlib")

SMALL = ["--hidden", "12", "--steps", "9", "--updates", "3"]
FEW = ["--nets", "1", "--draws", "3"]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("to be, or not to be: that is the question. naïve café. " * 20, encoding="utf-8")
    return str(path)


def test_prints_draws_and_writes_numbers(text, tmp_path, capsys):
    out, numbers = tmp_path / "picture.png", tmp_path / "numbers.json"
    assert main([*SMALL, "--layers", "2", "--text", text, "--out", str(out), "--json", str(numbers)]) == 0
    printed = capsys.readouterr().out
    for expected in ("Before training", "After 3 updates", "VANISHING", "Split:", "the same graph", "of values is 0, of gradients 0",
                     "9 paths; the longest crosses 11 matrix products", "Untied: 40 MLPs", "trained entries shuffled anew in every",
                     "3 nets, 3 updates each", "Remedies, applied", "Nobody chose 9 layers"):  # fmt: skip
        assert expected in " ".join(printed.split()), expected
    assert out.read_bytes().startswith(PNG)
    found = json.loads(numbers.read_text())
    assert found["options"]["layers"] == 2
    for section in (found["before"], found["after"]):
        assert section["identity"] == {
            "identical": True, "difference": None, "nodes": section["identity"]["nodes"], "edges": section["identity"]["edges"],
            "parameters": 11, "tied": True, "value_difference": 0.0, "grad_difference": 0.0,
        }  # fmt: skip
        assert len(section["log_norm_by_lag"]) == 9
        split = section["split"]
        assert sum(map(sum, split.values())) == pytest.approx(section["total_nats"])
        assert sum(section["terms"]["shares"]) == pytest.approx(1, abs=1e-5)
        # the untied nets have weights of their own, and other ones in every draw
        assert len({*section["untied"]["total_nats"], section["total_nats"]}) == 41
        assert len({*section["tied"]["total_nats"], section["total_nats"]}) == 41
    assert sorted(p.name for p in tmp_path.iterdir()) == ["numbers.json", "picture.png", "text.txt"]  # no scratch files


@pytest.mark.parametrize("nonlinearity", ["relu", "sigmoid", "identity"])
@pytest.mark.parametrize("init", ["orthogonal", "identity", "zeros"])
def test_every_option_runs(nonlinearity, init, text, tmp_path, capsys):
    out = tmp_path / "p.svg"
    assert main([*SMALL, *FEW, "--text", text, "--nonlinearity", nonlinearity, "--init", init, "--out", str(out)]) == 0
    assert b"<svg" in out.read_bytes()
    assert "nan" not in capsys.readouterr().out


def test_two_steps_and_no_updates(text, tmp_path, capsys):
    assert main(["--hidden", "3", "--steps", "2", "--updates", "0", "--text", text, "--out", str(tmp_path / "p.png")]) == 0
    assert "After" not in capsys.readouterr().out


def test_the_same_seed_gives_the_same_numbers(text, tmp_path):
    found = []
    for i, seed in enumerate(("1", "1", "2")):
        path = tmp_path / f"{i}.json"
        assert main([*SMALL, *FEW, "--text", text, "--seed", seed, "--out", str(tmp_path / "p.png"), "--json", str(path)]) == 0
        found.append(json.loads(path.read_text()))
    assert found[0]["after"] == found[1]["after"]
    assert found[0]["after"] != found[2]["after"]


def refused(arguments, capsys):
    """The one line that the command refuses with."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"too short", "9 characters; a window of 50 steps needs at least 51"),
        (b"\x89PNG\x00\x01" * 50, "not a text: it contains NUL bytes"),
        ("caf\xe9 ".encode("latin-1") * 50, "is not UTF-8: byte 0xe9 at position 3"),
        (b"a" * 1000, "repeats one character, 'a'"),
    ],
)
def test_unusable_texts(content, reason, tmp_path, capsys):
    path = tmp_path / "t"
    path.write_bytes(content)
    assert reason in refused(["--text", str(path)], capsys)


def test_unusable_paths(text, tmp_path, capsys):
    assert "No such file or directory" in refused(["--text", str(tmp_path / "none")], capsys)
    assert "Is a directory" in refused(["--text", str(tmp_path)], capsys)
    assert "cannot write there" in refused(["--text", text, "--out", str(tmp_path / "none" / "p.png")], capsys)
    assert "is a directory" in refused(["--text", text, "--out", str(tmp_path)], capsys)
    assert "cannot write there" in refused(
        ["--text", text, "--json", str(tmp_path / "none" / "p.json"), "--out", str(tmp_path / "p.png")], capsys
    )
    assert "unknown picture format 'docx'" in refused(["--text", text, "--out", str(tmp_path / "p.docx")], capsys)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["text.txt"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--hidden", "0"],
        ["--steps", "1"],
        ["--updates", "-1"],
        ["--nonlinearity", "swish"],
        ["--seed", "x"],
        ["extra"],
        ["--nets", "0"],
        ["--draws", "1"],
    ],
)
def test_wrong_options_end_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_picture_that_was_there_survives_a_failure(text, tmp_path, monkeypatch, capsys):
    from tinygrad_rnn.report import picture

    out = tmp_path / "p.png"
    out.write_bytes(b"old")

    def fails(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fails)
    assert main([*SMALL, *FEW, "--text", text, "--out", str(out)]) == 2
    assert "No space left" in capsys.readouterr().err
    assert out.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    assert picture


def test_as_a_module_and_without_matplotlib(text, tmp_path):
    hidden = tmp_path / "matplotlib"
    hidden.mkdir()
    (hidden / "__init__.py").write_text("raise ImportError")
    checkout = Path(tinygrad_rnn.__file__).parents[1]
    command = [sys.executable, "-m", "tinygrad_rnn", *SMALL, *FEW, "--text", text]
    run = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{checkout}"}
    )
    assert run.returncode == 0, run.stderr
    assert "No picture: matplotlib is not installed" in run.stdout
    assert not (tmp_path / "gradient_by_lag.png").exists()


def test_numbers_below_the_smallest_float_are_printed():
    assert power(-2302.585092994046) == "1.0e-1000"
    assert power(0) == "1"
    assert power(-np.inf) == "0"
    assert power(float("nan")) == "nan"
    assert shown_lags(2) == [0, 1]
    assert shown_lags(50)[-1] == 49


def test_links_and_devices_are_written_through(text, tmp_path):
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("old")
    link.symlink_to(real)
    assert main([*SMALL, *FEW, "--text", text, "--out", str(tmp_path / "p.png"), "--json", str(link)]) == 0
    assert link.is_symlink()
    assert json.loads(real.read_text())
    assert main([*SMALL, *FEW, "--text", text, "--out", str(tmp_path / "p.png"), "--json", "/dev/null"]) == 0
    assert not os.path.isfile("/dev/null")


def test_output_names_that_cannot_be_meant(text, tmp_path, capsys):
    same = str(tmp_path / "x.png")
    assert "name the same file" in refused(["--text", text, "--out", same, "--json", same], capsys)
    assert "an empty one" in refused(["--text", text, "--out", ""], capsys)
    assert "an empty one" in refused(["--text", text, "--out", same, "--json", ""], capsys)


def short_answer(arguments, text, tmp_path, capsys):
    assert main([*arguments, "--text", text, "--out", str(tmp_path / "p.png")]) == 0
    printed = capsys.readouterr().out
    assert "nan" not in printed
    assert max(map(len, printed.splitlines()[1:])) <= 80
    return " ".join(printed[printed.index("In short") :].split())


def test_the_answer_says_what_the_numbers_say(text, tmp_path, capsys):
    isometric = [
        "--nonlinearity",
        "identity",
        "--init",
        "orthogonal",
        "--hidden",
        "16",
        "--steps",
        "20",
        "--updates",
        "0",
        "--draws",
        "3",
    ]
    found = short_answer(isometric, text, tmp_path, capsys)
    assert "Here the gradient stays within a factor of ten" in found
    assert "No two draws of a kind differ by more than" in found
    assert "does not show what is lost" not in found
    default = short_answer(
        ["--hidden", "32", "--steps", "30", "--updates", "2", "--draws", "20", "--nets", "1"], text, tmp_path, capsys
    )
    assert (
        default.index("Nobody chose 30 layers")
        < default.index("One matrix W")
        < default.index("The sum dE/dW")
        < default.index("Tied luck")
    )
    assert "to the power" in default
    two = short_answer(["--layers", "2", *SMALL, *FEW], text, tmp_path, capsys)
    assert "The same 2 matrices serve each of them" in two
    lost = short_answer(["--init", "zeros", "--hidden", "8", "--steps", "9", "--updates", "0", *FEW], text, tmp_path, capsys)
    assert "At lag 8, nothing is left of dE/dh." in lost


def test_a_gradient_that_grows_is_not_called_kept(text, tmp_path, capsys):
    growing = [
        "--nonlinearity",
        "identity",
        "--init",
        "kaiming_normal",
        "--hidden",
        "12",
        "--steps",
        "40",
        "--updates",
        "0",
        "--draws",
        "9",
    ]
    found = short_answer(growing, text, tmp_path, capsys)
    assert "the median RNN ends at +" in found
    assert "loses" not in found
    assert "lost" not in found


def test_an_exploded_net_is_not_reported_as_vanished():
    from tinygrad_rnn.experiment import Run, Setting, examine, follow
    from tinygrad_rnn.report.answer import answer, remedies
    from tinygrad_rnn.report.picture import draw
    from tinygrad_rnn.report.text import findings

    text = Text.of("to be, or not to be: that is the question. " * 5, 60)
    setting = Setting(text, hidden=8, layers=1, nonlinearity="identity", init="normal", steps=60, updates=0, look=0)
    model = setting.build(0)
    model.net.weight_hh_l0.value *= 60
    found = examine(model, text, steps=60, seed=0, draws=3, fresh=True)
    run = Run(setting, 0, found, courses=[follow(model, setting, 0)])
    printed = findings("Exploded", found) + remedies(run) + answer(run)
    assert draw(run)
    assert found.verdict.kind == "not finite"
    assert "NOT FINITE" in printed
    assert "lost" not in printed
    assert "nan" not in printed


def test_training_that_explodes_is_said(text, tmp_path, capsys):
    exploding = [
        "--nonlinearity",
        "identity",
        "--init",
        "kaiming_normal",
        "--hidden",
        "12",
        "--steps",
        "260",
        "--nets",
        "1",
        "--draws",
        "2",
    ]
    assert main([*exploding, "--updates", "2", "--text", text, "--out", str(tmp_path / "p.png")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "NOT FINITE" in printed
    assert "After 1 update " in printed
    assert "In 1 of 1 net the loss was no longer finite, and training stopped." in printed
    assert "nan" not in printed

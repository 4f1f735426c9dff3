"""The command: what it prints, writes and refuses."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tinygrad_rnn.cli import main
from tinygrad_rnn.data import Text
from tinygrad_rnn.report.text import power, shown_lags

pytest.importorskip("matplotlib")

SMALL = ["--hidden", "12", "--steps", "9", "--updates", "3"]
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
    for expected in ("Before training", "After 3 updates", "VANISHING", "Split:", "the same graph", "of values 0, of gradients 0",
                     "9 paths; the longest crosses 11 matrix products", "Untied: 40 MLPs", "trained entries in a random order"):  # fmt: skip
        assert expected in " ".join(printed.split()), expected
    assert out.read_bytes().startswith(PNG)
    found = json.loads(numbers.read_text())
    assert found["options"]["layers"] == 2
    for section in (found["before"], found["after"]):
        assert section["identity"] == {
            "identical": True, "difference": None, "nodes": section["identity"]["nodes"], "edges": section["identity"]["edges"],
            "tied": True, "value_difference": 0.0, "grad_difference": 0.0,
        }  # fmt: skip
        assert len(section["log_norm_by_lag"]) == 9
        split = section["split"]
        assert sum(split["saturation"]) + sum(split["weights"]) + sum(split["other"]) == pytest.approx(section["total_nats"])
        assert sum(section["terms"]["shares"]) == pytest.approx(1, abs=1e-5)
        # the untied nets have weights of their own, and other ones in every draw
        assert len({*section["untied_total_nats"], section["total_nats"]}) == 41
    assert sorted(p.name for p in tmp_path.iterdir()) == ["numbers.json", "picture.png", "text.txt"]  # no scratch files


@pytest.mark.parametrize("nonlinearity", ["relu", "sigmoid", "identity"])
@pytest.mark.parametrize("init", ["orthogonal", "identity", "zeros"])
def test_every_option_runs(nonlinearity, init, text, tmp_path, capsys):
    out = tmp_path / "p.svg"
    assert main([*SMALL, "--text", text, "--nonlinearity", nonlinearity, "--init", init, "--out", str(out)]) == 0
    assert b"<svg" in out.read_bytes()
    assert "nan" not in capsys.readouterr().out


def test_two_steps_and_no_updates(text, tmp_path, capsys):
    assert main(["--hidden", "3", "--steps", "2", "--updates", "0", "--text", text, "--out", str(tmp_path / "p.png")]) == 0
    assert "After" not in capsys.readouterr().out


def test_the_same_seed_gives_the_same_numbers(text, tmp_path):
    found = []
    for i, seed in enumerate(("1", "1", "2")):
        path = tmp_path / f"{i}.json"
        assert main([*SMALL, "--text", text, "--seed", seed, "--out", str(tmp_path / "p.png"), "--json", str(path)]) == 0
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
    [["--hidden", "0"], ["--steps", "1"], ["--updates", "-1"], ["--nonlinearity", "swish"], ["--seed", "x"], ["extra"]],
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
    assert main([*SMALL, "--text", text, "--out", str(out)]) == 2
    assert "No space left" in capsys.readouterr().err
    assert out.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    assert picture


def test_as_a_module_and_without_matplotlib(text, tmp_path):
    hidden = tmp_path / "matplotlib"
    hidden.mkdir()
    (hidden / "__init__.py").write_text("raise ImportError")
    command = [sys.executable, "-m", "tinygrad_rnn", *SMALL, "--text", text]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
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
    assert main([*SMALL, "--text", text, "--out", str(tmp_path / "p.png"), "--json", str(link)]) == 0
    assert link.is_symlink()
    assert json.loads(real.read_text())
    assert main([*SMALL, "--text", text, "--out", str(tmp_path / "p.png"), "--json", "/dev/null"]) == 0
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
    isometric = ["--nonlinearity", "identity", "--init", "orthogonal", "--hidden", "16", "--steps", "30", "--updates", "0"]
    found = short_answer(isometric, text, tmp_path, capsys)
    assert "Not with these weights" in found
    assert "Why does nobody see it" not in found
    assert "What to do" not in found
    default = short_answer(["--hidden", "32", "--steps", "30", "--updates", "2"], text, tmp_path, capsys)
    assert "Hardly, for a typical draw" in default
    assert "luck adds up" in default
    assert "Why does nobody see it" in default
    assert 'Try first: init="orthogonal"' in default
    lost = short_answer(["--init", "zeros", "--hidden", "8", "--steps", "9", "--updates", "2"], text, tmp_path, capsys)
    assert "Is an RNN a deep MLP? Yes" in lost


def test_an_exploded_net_is_not_reported_as_vanished():
    from tinygrad_rnn.experiment import build, examine
    from tinygrad_rnn.report.text import answer, findings

    text = Text.of("to be, or not to be: that is the question. " * 5, 60)
    model = build(text, hidden=8, layers=1, nonlinearity="identity", init="normal", seed=0)
    model.net.weight_hh_l0.value *= 60
    found = examine(model, text, steps=60, seed=0, draws=3, fresh=True)
    printed = findings("Exploded", found) + answer(found, None)
    assert found.verdict.kind == "not finite"
    assert "NOT FINITE" in printed
    assert "lost" not in printed
    assert "nan" not in printed

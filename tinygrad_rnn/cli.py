"""The command: where does the gradient of a character RNN go, and why?"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from . import __version__
from .backends import build_info
from .data import Text, read_text
from .experiment import build, examine, train
from .nn.init import INITS
from .nn.layers import NONLINEARITIES
from .report import picture, text
from .report.files import check_writable, replace_file

DRAWS = 40  # untied MLPs (and fresh RNNs) in a band


def _count(least: int):
    def parse(value: str) -> int:
        try:
            number = int(value)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"expected an integer of at least {least}, got {value!r}")
        return number

    return parse


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="tinygrad-rnn",
        description="Train a character RNN on real text, then follow the gradient of its last prediction back through time: by "
        "lag, against the same net unrolled into a deep MLP, and against MLPs with untied weights; with the exact split of "
        "the decay and a verdict, before and after training.",
    )
    p.add_argument("--text", metavar="FILE", help="a UTF-8 text (default: the English reference text inside CPython)")
    p.add_argument("--hidden", type=_count(1), default=128, metavar="H", help="width of the RNN (default %(default)s)")
    p.add_argument("--layers", type=_count(1), default=1, metavar="L", help="stacked layers (default %(default)s)")
    p.add_argument("--steps", type=_count(2), default=50, metavar="T", help="characters to unroll (default %(default)s)")
    p.add_argument("--nonlinearity", choices=list(NONLINEARITIES), default="tanh", help="of the RNN (default %(default)s)")
    p.add_argument("--init", choices=list(INITS), default="default", help="recurrent weights; default: PyTorch's")
    p.add_argument("--updates", type=_count(0), default=400, metavar="N", help="training updates (default %(default)s)")
    p.add_argument("--seed", type=_count(0), default=0, metavar="S", help="of weights, windows and draws (default %(default)s)")
    p.add_argument("--out", default="gradient_by_lag.png", metavar="FILE", help="picture to write (default %(default)s)")
    p.add_argument("--json", metavar="FILE", help="write every number there too")
    p.add_argument("--version", action="version", version=f"tinygrad-rnn {__version__} ({build_info()['isa']} kernels)")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, or 2 with one line on standard error when the input cannot be used."""
    arguments = parser().parse_args(argv)
    try:
        # what can be wrong with the input is found here, before a minute of training, and any later error is a bug to see
        corpus = Text.of(read_text(arguments.text), arguments.steps)
        can_draw = _can_draw()
        outputs = [arguments.out] * can_draw + [arguments.json] * (arguments.json is not None)
        for path in outputs:
            check_writable(path)
        if len({os.path.realpath(path) for path in outputs}) < len(outputs):
            raise ValueError(f"--out and --json name the same file, {arguments.json}")
        if can_draw:
            _check_format(arguments.out)
    except (ValueError, OSError) as error:
        return _refuse(error)
    try:
        _run(arguments, corpus, can_draw)
    except BrokenPipeError:
        # whoever read our output has gone (| head): nothing to tell, and nobody to tell it to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        print("tinygrad-rnn: interrupted", file=sys.stderr)
        return 130
    return 0


def _refuse(error: Exception) -> int:
    reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
    print(f"tinygrad-rnn: {reason}", file=sys.stderr)
    return 2


def _run(a: argparse.Namespace, corpus: Text, can_draw: bool) -> None:
    started = time.perf_counter()
    model = build(corpus, hidden=a.hidden, layers=a.layers, nonlinearity=a.nonlinearity, init=a.init, seed=a.seed)
    print(
        f"{len(corpus.codes):,} characters, {len(corpus.alphabet)} different; {a.nonlinearity} RNN of {a.layers} x {a.hidden} "
        f"units, {sum(p.size for p in model.parameters()):,} parameters; unrolled over {a.steps} steps\n"
    )
    # both examinations look at the same windows
    look = {"steps": a.steps, "seed": a.seed + 1, "draws": DRAWS}
    sections = [("Before training", examine(model, corpus, fresh=True, **look))]
    print(text.wrapped([text.LEGEND], hang="  ") + "\n")
    print(text.findings(*sections[0]), flush=True)
    if a.updates:
        losses = _train_with_bar(model, corpus, a)
        recent = losses[-20:]
        ended = "" if len(losses) == a.updates else "; stopped, the loss is no longer finite"
        print(f"Trained: {len(losses)} updates, {losses[0]:.3f} -> {sum(recent) / len(recent):.3f} nats a character{ended}\n")
        sections.append((f"After {len(losses)} updates", examine(model, corpus, fresh=False, **look)))
        print(text.findings(*sections[1]))
    print(text.answer(sections[0][1], sections[1][1] if a.updates else None))
    if can_draw:
        title = f"Where the gradient of the last of {a.steps} characters goes ({a.nonlinearity} RNN, {a.layers} x {a.hidden})"
        picture.save(picture.draw(sections, title), a.out)
        print(f"Picture: {a.out}")
    else:
        print("No picture: matplotlib is not installed (pip install 'tinygrad-rnn[report]').")
    if a.json is not None:
        _write_json(a, sections)
        print(f"Numbers: {a.json}")
    print(f"{time.perf_counter() - started:.1f} s")


def _train_with_bar(model, corpus: Text, a: argparse.Namespace) -> list[float]:
    try:
        from tqdm import tqdm
    except ImportError:
        return train(model, corpus, steps=a.steps, updates=range(a.updates), seed=a.seed)
    with tqdm(total=a.updates, desc="training", unit=" updates", disable=None) as bar:

        def report(loss: float) -> None:
            bar.set_postfix_str(f"{loss:.3f} nats a character", refresh=False)
            bar.update()

        return train(model, corpus, steps=a.steps, updates=range(a.updates), seed=a.seed, report=report)


def _can_draw() -> bool:
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def _check_format(path: str) -> None:
    from matplotlib.backend_bases import FigureCanvasBase

    suffix, known = Path(path).suffix[1:].lower(), FigureCanvasBase.get_supported_filetypes()
    if suffix and suffix not in known:
        raise ValueError(f"{path}: unknown picture format {suffix!r}; expected one of {', '.join(sorted(known))}")


def _write_json(a: argparse.Namespace, sections) -> None:
    options = {k: v for k, v in vars(a).items() if k not in ("out", "json")}
    numbers = {
        "options": options,
        "build": build_info(),
        **{name: text.as_json(f) for name, f in zip(("before", "after"), (f for _, f in sections), strict=False)},
    }

    def write(name: str) -> None:
        with open(name, "w", encoding="utf-8") as file:
            json.dump(numbers, file, indent=1, allow_nan=False)

    replace_file(a.json, write)


if __name__ == "__main__":
    sys.exit(main())

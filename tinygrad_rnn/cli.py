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
from .experiment import (
    Progress,
    Run,
    Setting,
    Trained,
    apply_remedy,
    choose_remedies,
    compare,
    examine,
    follow,
)
from .nn.init import INITS
from .nn.layers import NONLINEARITIES
from .report import answer, numbers, picture, text
from .report.files import check_writable, replace_file

FEWER = 4  # the first net is compared with `draws` shuffles, each other one with this part of them


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
        description="Train character RNNs on real text, and follow the gradient of their last prediction back through time: by "
        "lag, against the same net unrolled into a deep MLP, and against MLPs with untied weights; with the exact split of "
        "the decay and a verdict, before and after training. Then apply remedies, and train them, too.",
    )
    p.add_argument("--text", metavar="FILE", help="a UTF-8 text (default: the English reference text inside CPython)")
    p.add_argument("--hidden", type=_count(1), default=128, metavar="H", help="width of the RNN (default %(default)s)")
    p.add_argument("--layers", type=_count(1), default=1, metavar="L", help="stacked layers (default %(default)s)")
    p.add_argument("--steps", type=_count(2), default=50, metavar="T", help="characters to unroll (default %(default)s)")
    p.add_argument("--nonlinearity", choices=list(NONLINEARITIES), default="tanh", help="of the RNN (default %(default)s)")
    p.add_argument("--init", choices=list(INITS), default="default", help="recurrent weights; default: PyTorch's")
    p.add_argument("--updates", type=_count(0), default=400, metavar="N", help="training updates (default %(default)s)")
    p.add_argument("--nets", type=_count(1), default=3, metavar="N", help="nets to train of each kind (default %(default)s)")
    p.add_argument("--draws", type=_count(2), default=40, metavar="N", help="random nets to compare with (default %(default)s)")
    p.add_argument(
        "--seed", type=_count(0), default=0, metavar="S", help="of the first net; the next has S + 1 (default %(default)s)"
    )
    p.add_argument("--out", default="gradient_by_lag.png", metavar="FILE", help="picture to write (default %(default)s)")
    p.add_argument("--json", metavar="FILE", help="write every number there too")
    kernels = build_info()["isa"] or "reference"
    p.add_argument("--version", action="version", version=f"tinygrad-rnn {__version__} ({kernels} kernels)")
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
    setting = Setting(corpus, a.hidden, a.layers, a.nonlinearity, a.init, a.steps, a.updates, look=a.seed + 1)
    run = _examined(a, setting)
    if a.updates:
        print(answer.nets(run), flush=True)
    _remedied(a, run)
    print(answer.remedies(run))
    print(answer.answer(run))
    if can_draw:
        picture.save(picture.draw(run), a.out)
        print(f"Picture: {a.out}")
    else:
        print("No picture: matplotlib is not installed (pip install 'tinygrad-rnn[report]').")
    if a.json is not None:
        _write_json(a, run)
        print(f"Numbers: {a.json}")
    print(f"{time.perf_counter() - started:.1f} s")


def _examined(a: argparse.Namespace, setting: Setting) -> Run:
    """The plain nets: the first one examined before and after training, the others trained and compared."""
    seeds, progress = range(a.seed, a.seed + a.nets), _progress()
    models = [setting.build(seed) for seed in seeds]
    parameters = sum(p.size for p in models[0].parameters())
    print(
        f"{len(setting.text.codes):,} characters, {len(setting.text.alphabet)} different. {a.nonlinearity} RNN of {a.layers} x "
        f"{a.hidden} units, {parameters:,} parameters, unrolled over {a.steps} steps.\n"
    )
    look = {"steps": a.steps, "seed": setting.look, "draws": a.draws, "progress": progress}
    run = Run(setting, a.seed, examine(models[0], setting.text, fresh=True, **look), parameters=parameters)
    print(text.wrapped(text.LEGEND, hang="  ") + "\n")
    print(text.findings("Before training", run.before), flush=True)
    for n, (seed, model) in enumerate(zip(seeds, models, strict=True), 1):
        course = follow(model, setting, seed, f"training {n}/{a.nets}", progress)
        run.courses.append(course)
        if a.updates and seed == a.seed:
            run.after = after = examine(model, setting.text, fresh=False, **look)
            run.trained.append(Trained(seed, course, after.near, after.untied, after.tied))
            print(text.findings(_after(a, len(course.losses)), after), flush=True)
        elif a.updates:
            run.trained.append(compare(model, setting, seed, course, max(a.draws // FEWER, 2), progress))
    return run


def _after(a: argparse.Namespace, updates: int) -> str:
    return f"After {updates} update{'s' * (updates != 1)}" + (f", the first of {a.nets} nets" if a.nets > 1 else "")


def _remedied(a: argparse.Namespace, run: Run) -> None:
    """The remedies, applied with the seeds of the plain nets."""
    chosen, run.known = choose_remedies(run.setting, a.seed)
    run.remedies = [apply_remedy(r, run.setting, range(a.seed, a.seed + a.nets), _progress()) for r in chosen]


def _progress() -> Progress:
    """Bars on standard error where tqdm is installed and somebody watches."""
    try:
        from tqdm import tqdm
    except ImportError:
        return lambda items, name: items
    return lambda items, name: tqdm(items, desc=name, disable=None, leave=False)


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


def _write_json(a: argparse.Namespace, run: Run) -> None:
    options = {k: v for k, v in vars(a).items() if k not in ("out", "json")}
    found = {"options": options, "build": build_info(), **numbers.as_json(run)}

    def write(name: str) -> None:
        with open(name, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1, allow_nan=False)

    replace_file(a.json, write)


if __name__ == "__main__":
    sys.exit(main())

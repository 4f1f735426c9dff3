"""Runs the cases of a fuzz in a process that may die or hang, and watches it."""

import argparse
import faulthandler
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HANGS = 300  # seconds that no case takes


def main(description, check, choices):
    """The command line of a fuzz. check(seed, number, chosen) -> (what the case uses, its kind, what is wrong or None); chosen, where
    not None, is the one of `choices` that a case is to use."""
    p = argparse.ArgumentParser(description=description.split("\n")[0])
    p.add_argument("--cases", type=int, default=10**9, help="how many (default: as many as the seconds allow)")
    p.add_argument("--seconds", type=float, default=0)
    p.add_argument("--seed", type=int, default=secrets.randbits(32))
    p.add_argument("--only", type=int, help="the number of the one case to run, in this process")
    p.add_argument("--choose", choices=choices)
    for hidden, kind in (("--worker", str), ("--start", int), ("--deadline", float)):
        p.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    options = p.parse_args()
    if options.worker:
        _work(check, options)
    print(f"seed {options.seed}", flush=True)
    if options.only is not None:
        faulthandler.enable()
        print(*check(options.seed, options.only, options.choose), sep="; ")
        return
    if not options.seconds and options.cases == 10**9:
        p.error("--cases or --seconds?")
    sys.exit(_watch(options, choices) > 0)


def _work(check, options):
    """Run the cases from `start` on, noting in a file which one is under way."""
    faulthandler.enable()
    file = os.open(options.worker, os.O_WRONLY)
    used, kinds, wrong = Counter(), Counter(), 0
    for number in range(options.start, options.cases):
        if options.deadline and time.time() > options.deadline:
            break
        os.pwrite(file, b"%-20d" % number, 0)
        names, kind, text = check(options.seed, number, options.choose)
        used.update(names)
        kinds[kind] += 1
        if text:
            wrong += 1
            print(f"case {number}, {text}", flush=True)
        if number % 200 == 0:
            _say(used, kinds)
    _say(used, kinds)
    os.pwrite(file, b"%-20d" % -1, 0)
    sys.exit(wrong > 0)


def _say(used, kinds):
    for what, counts in (("used", used), ("kind", kinds)):
        for key, n in counts.items():
            print(f"{what} {n} {key}")
        counts.clear()
    sys.stdout.flush()


def _watch(options, choices):
    """Run all cases in processes that may die; returns how many went wrong."""
    counts, wrong, start = {"used": Counter(), "kind": Counter()}, 0, 0
    deadline = time.time() + options.seconds if options.seconds else 0
    again = f"python {Path(sys.argv[0]).name} --seed {options.seed} --only"
    with tempfile.TemporaryDirectory() as folder:
        progress = Path(folder, "progress")
        while start < options.cases and (not deadline or time.time() < deadline):
            progress.write_text(f"{start:<20d}")
            command = [
                sys.executable,
                sys.argv[0],
                "--worker",
                str(progress),
                "--start",
                str(start),
                "--deadline",
                str(deadline),
            ]
            command += ["--seed", str(options.seed), "--cases", str(options.cases)]
            command += ["--choose", options.choose] if options.choose else []
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            os.set_blocking(child.stdout.fileno(), False)
            seen, since, rest = start, time.time(), b""
            while True:
                ended = child.poll() is not None
                *lines, rest = (rest + (child.stdout.read() or b"")).split(b"\n")
                for line in map(bytes.decode, lines):
                    what, _, text = line.partition(" ")
                    if what in counts:
                        n, _, key = text.partition(" ")
                        counts[what][key] += int(n)
                    else:
                        wrong += what == "case"
                        print(line, flush=True)
                if ended:
                    break
                time.sleep(0.05)
                if (now := int(progress.read_text() or seen)) != seen:
                    seen, since = now, time.time()
                elif time.time() - since > HANGS:
                    child.send_signal(signal.SIGABRT)  # and see where it is
            at = int(progress.read_text())
            if at < 0:
                break
            wrong += 1
            print(f"case {at} ends the process with status {child.returncode}: {again} {at}", flush=True)
            start = at + 1
    kinds, used = counts["kind"], counts["used"]
    least = min(choices, key=lambda name: used[name])
    print(f"{sum(kinds.values()):,} cases: {', '.join(f'{n:,} {key}' for key, n in sorted(kinds.items()))}")
    print(f"{len(used)} of {len(choices)} choices used, {least} the least often: {used[least]:,} times; {wrong} wrong")
    return wrong

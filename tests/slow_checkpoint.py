"""Kills while saving and files that were changed at random, as many as one likes; pytest does not collect this:

    python tests/slow_checkpoint.py --kills 1000 --files 5000

It prints what happened, and ends with 1 where a version was lost, a file gave other numbers, or a process crashed. The last
figures, of that line: of 1,000 kills, 760 within a save, 0 versions lost, 0 leftovers; of 5,000 changed files within 256 MB more,
0 crashes, 4,705 refused, 138 with the same numbers, 157 with others, all of them of another program and without a checksum."""

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from test_checkpoint import FORMATS, everything, leftovers, net

import tinygrad_rnn as tr

MORE_MEMORY = 256 * 2**20  # bytes of address space that loading may take


# ---- kills


def kill_saves(kills, seed, folder):
    """Save version after version in a child, kill it at a random moment, and look at what is there, again and again."""
    chance, outcomes = random.Random(seed), Counter()
    for n in range(kills):
        path = folder / f"run{FORMATS[n % 2]}"
        kept = version_of(path) if path.exists() else 0
        readable, writable = os.pipe()
        child = os.fork()
        if not child:
            os.close(readable)
            save_for_ever(path, kept, writable)
        os.close(writable)
        with os.fdopen(readable, "rb", 0) as pipe:
            said = [int(pipe.readline()) for _ in range(1 + n % 3)] if path.exists() or n % 2 else []
            time.sleep(chance.uniform(0, 0.004))
            os.kill(child, signal.SIGKILL)
            said += [int(line) for line in pipe.read().split()]
        os.waitpid(child, 0)
        last = said[-1] if said else kept
        found = version_of(path) if path.exists() else 0
        outcomes["lost" if found not in (last, last + 1) else "whole"] += 1
        outcomes["killed within a save"] += len(leftovers(folder))
        if len(leftovers(folder)) > 1:
            outcomes["leftovers that were not removed"] += 1
    for suffix in FORMATS:
        tr.save(folder / f"run{suffix}", {"x": np.ones(1)})
    outcomes["leftovers that were not removed"] += len(leftovers(folder))
    return outcomes


def save_for_ever(path, version, writable):
    try:
        while True:
            version += 1
            tr.save(path, {"a": np.full(4000, version), "b": {"c": np.full((50, 30), float(version))}})
            os.write(writable, b"%d\n" % version)
    finally:
        os._exit(1)


def version_of(path):
    """The version that a file holds; -1 where it is not whole."""
    try:
        found = tr.load(path)
    except tr.CheckpointError:
        return -1
    version = int(found["a"][0])
    return version if np.all(found["a"] == version) and np.all(found["b.c"] == version) else -1


# ---- changed files


def originals(folder):
    """(path, its bytes, its arrays, whether it has checksums) of files of ours and of others."""
    from safetensors.numpy import save_file

    small, state = {"x": np.arange(5.0), "empty": np.zeros((2, 0)), "n": np.array(3)}, net().state_dict()
    for suffix in FORMATS:
        for name, thing, metadata in (("all", everything(), {"epoch": "3"}), ("small", small, None)):
            path = folder / f"{name}{suffix}"
            tr.save(path, thing, metadata)
            yield path, True
    save_file(state, folder / "theirs.safetensors", {"format": "np"})
    yield folder / "theirs.safetensors", False
    np.savez(folder / "theirs.npz", **state)
    yield folder / "theirs.npz", True


def changed(good, chance):
    """The bytes of a file, damaged: bits, bytes, lengths, blocks and numbers in headers."""
    bad, kind = bytearray(good), chance.randrange(9)
    at, more = chance.randrange(len(bad)), chance.randrange(1, 200)
    if kind == 0:
        bad[at] ^= 1 << chance.randrange(8)
    elif kind == 1:
        for _ in range(chance.randrange(1, 9)):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
    elif kind == 2:
        del bad[at:]
    elif kind == 3:
        del bad[at : at + more]
    elif kind == 4:
        bad[at:at] = chance.randbytes(more)
    elif kind == 5:
        bad[at : at + more] = bytes(len(bad[at : at + more]))
    elif kind == 6:  # a piece of it elsewhere
        bad[at : at + more] = good[(start := chance.randrange(len(good))) : start + more]
    elif kind == 7:  # sizes and offsets in binary
        at = chance.choice([0, at, max(len(bad) - 22 + chance.randrange(20), 0)])
        value = chance.choice([0, 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1, len(bad), chance.getrandbits(64)])
        bad[at : at + 8] = value.to_bytes(8, "little")
    else:  # numbers in text
        digits = [i for i, c in enumerate(good) if 48 <= c <= 57] or [at]
        at = chance.choice(digits)
        bad[at : at + 1] = chance.choice([b"99999999999", b"-1", b"1e9", b"0", b'"', b"[", b"2305843009213693952"])
    return bytes(bad)


def load_changed(files, seed, folder):
    """Load files that were changed at random, in little memory; the outcomes, and the first that are wrong."""
    given = [(path, path.read_bytes(), tr.load(path), checked) for path, checked in originals(folder)]
    chance, outcomes, wrong = random.Random(seed), Counter(), []
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MORE_MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for n in range(files):
        path, good, state, checked = given[n % len(given)]
        bad = changed(good, chance)
        path.write_bytes(bad)
        print(n, file=sys.stderr, flush=True)  # the last one, where this process crashes
        try:
            found = tr.load(path)
        except tr.CheckpointError as error:
            outcomes["refused for want of memory" if isinstance(error.__cause__, MemoryError) else "refused"] += 1
            continue
        except BaseException as error:
            outcomes["another error"] += 1
            wrong.append(f"{n}: {type(error).__name__}: {error}")
            continue
        same = set(found) == set(state) and all(found[k].tobytes() == x.tobytes() for k, x in state.items())
        # a file that lost the name of its checksum has none
        if not same and checked and (path.suffix == ".npz" or tr.checkpoint.CHECKSUM.encode() in bad):
            outcomes["other numbers"] += 1
            wrong.append(f"{n}: other numbers in {path.name}")
        else:
            outcomes["the same numbers" if same else "other numbers, without a checksum"] += 1
    return outcomes, wrong[:20]


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=1000)
    options.add_argument("--files", type=int, default=5000)
    options.add_argument("--seed", type=int, default=None, help="a fresh one unless given")
    options.add_argument("--load", metavar="FOLDER", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.load:
        print(json.dumps(load_changed(given.files, given.seed, Path(given.load))))
        return 0
    seed = random.SystemRandom().randrange(2**32) if given.seed is None else given.seed
    print(f"seed {seed}")
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        outcomes = kill_saves(given.kills, seed, Path(folder))
        print(f"{given.kills} kills: {dict(outcomes)}")
        failed |= bool(outcomes["lost"] or outcomes["leftovers that were not removed"])
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--load", folder, "--files", str(given.files), "--seed", str(seed)]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            print(f"{given.files} changed files: crashed with {run.returncode} at file {run.stderr[-2000:]}")
            return 1
        outcomes, wrong = json.loads(run.stdout)
        print(f"{given.files} changed files within {MORE_MEMORY >> 20} MB more: 0 crashes, {outcomes}")
        print("\n".join(wrong), end="\n" if wrong else "")
        failed |= bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m benchmarks.flames NAME --save FILE [WORK ...]`: in which functions publishing and draining spend CPU.

py-spy looks 250 times a second at the producer of a round, or at its workers, and notes the functions of the thread
that holds the interpreter; what waits, and a system call under way, is not counted. The samples are multiplied to the
CPU that an event takes while nobody looks (the median of three rounds), so that graphs of two builds have one scale. A
build other than this checkout's is measured by a copy of `benchmarks/` and `console/bench/` in its own: NAME says which
is which, and `python -m benchmarks.report` draws what the file holds.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import dropwhile
from pathlib import Path

from benchmarks import contestant
from benchmarks.contestant import Contestant
from benchmarks.results import machine
from benchmarks.works import WARM, WORKS, finish, go, turn

SPY = Path(sys.executable).with_name("py-spy")
RATE = 250
LEAST = 0.004  # of the whole: what took less is left in its caller
WAYS = {"publish-one": ("one", 40_000), "publish-bulk": ("bulk", 200_000), "drain": ("bulk", 100_000)}
_PROCESS, _NUMBER = re.compile(r'process \d+:"[^"]*";?'), re.compile(r":\d+\)$")
_BEGINNINGS = (
    "_bootstrap", "_bootstrap_inner", "run", "run_until_complete", "run_forever", "_run_module_as_main", "_run_code",
    "<module>", "main",
)  # fmt: skip

Stacks = Counter[tuple[str, ...]]
"""Microseconds of CPU an event, by functions from the outermost in; each is `name (file)`."""


def main() -> None:
    """Record the works that are named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flames", description=__doc__)
    parser.add_argument("name", help="of the build, as its graphs are headed")
    parser.add_argument("work", nargs="*", help=f"of {', '.join(WAYS)}; all without")
    parser.add_argument("--save", type=Path, required=True, metavar="FILE", help="added to")
    arguments = parser.parse_intermixed_args()
    if unknown := set(arguments.work) - set(WAYS):
        sys.exit(f"There is no work {', '.join(sorted(unknown))}; there are: {', '.join(WAYS)}.")
    found = json.loads(arguments.save.read_text()) if arguments.save.exists() else {"works": {}}
    found["machine"] = machine()
    if not SPY.exists():
        sys.exit(f"There is no {SPY.name} beside this interpreter: install benchmarks/requirements.txt.")
    ours = contestant.load("eventbus")
    for work in arguments.work or WAYS:
        samples = drained(ours) if work == "drain" else published(ours, work)
        stacks = pruned(folded(samples, unwatched_us(ours, work)))
        written = {";".join(stack): round(us, 3) for stack, us in stacks.items()}
        found["works"].setdefault(work, {})[arguments.name] = written
        arguments.save.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{work}: {stacks.total():.1f} us of CPU an event", file=sys.stderr)


def unwatched_us(ours: Contestant, work: str) -> float:
    """Return the microseconds of CPU that an event takes of its producer, or a delivery of the workers."""
    figure = "worker_us" if work == "drain" else "producer_us"
    measured = next(one for one in WORKS if one.name == work)
    return statistics.median(measured.run(ours)[figure] for _ in range(3))


def published(ours: Contestant, work: str) -> list[str]:
    """Return samples of a producer that publishes."""
    way, count = WAYS[work]
    with turn(ours, count) as at:
        producer = at.producer(way, 0, count)
        with watched(producer.pid) as samples:
            finish(go(producer))
        return samples


def drained(ours: Contestant) -> list[str]:
    """Return samples of two workers that find everything waiting."""
    way, count = WAYS["drain"]
    with turn(ours, WARM + count) as at:
        at.start_workers()
        at.signal(signal.SIGSTOP)
        at.publish(way, WARM, count)
        with watched(at.pids[0]) as samples:
            at.signal(signal.SIGCONT)
            at.ledger.wait(WARM + count, 120)
        return samples


@contextmanager
def watched(pid: int) -> Iterator[list[str]]:
    """Have a process and its children looked at; the list that is given holds lines of samples after the block."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory(prefix="eventbus-flames-") as home:
        samples = Path(home) / "samples"
        command = [
            str(SPY), "record", "--pid", str(pid), "--subprocesses",
            "--gil", "--function", "--format", "raw", "--rate", str(RATE), "--output", str(samples),
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as spy:
            time.sleep(1.0)  # until it looks
            try:
                yield lines
            finally:
                if spy.poll() is None:
                    spy.send_signal(signal.SIGINT)
            _, said = spy.communicate(timeout=60)
        if not samples.exists():
            raise RuntimeError(f"py-spy wrote no samples: {said}")
        lines += samples.read_text().splitlines()


def folded(lines: list[str], us: float) -> Stacks:
    """Return the samples of lines like `a;b;c 12`, multiplied to a sum of so many microseconds.

    Raises:
        RuntimeError: there is none.
    """
    stacks: Stacks = Counter()
    for line in lines:
        frames, _, samples = _PROCESS.sub("", line).rpartition(" ")
        named = [_NUMBER.sub(")", frame).rpartition("<locals>.")[2] for frame in frames.split(";") if frame]
        stacks[tuple(dropwhile(_is_beginning, named))] += int(samples)
    if not (whole := stacks.total()):
        raise RuntimeError("py-spy has seen nobody hold the interpreter.")
    return Counter({stack: samples / whole * us for stack, samples in stacks.items()})


def _is_beginning(frame: str) -> bool:
    return frame.partition(" ")[0].rpartition(".")[2] in _BEGINNINGS


def pruned(stacks: Stacks) -> Stacks:
    """Return them without frames that took less than a few thousandths of the whole; their time is their callers'."""
    inside: Counter[tuple[str, ...]] = Counter()
    for stack, us in stacks.items():
        for depth in range(len(stack) + 1):
            inside[stack[:depth]] += us
    least, left = stacks.total() * LEAST, Counter[tuple[str, ...]]()
    for stack, us in stacks.items():
        while inside[stack] < least:
            stack = stack[:-1]
        left[stack] += us
    return left


if __name__ == "__main__":
    main()

"""What is measured, a class each; one `run` is one contestant's turn in one round, on a server of its own."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.contestant import Contestant
from benchmarks.results import Figures
from benchmarks.server import Server
from console.bench import meter
from console.bench.ledger import VARIABLE, Ledger

PROCESSES = 2
WARM = 200
_WAIT_S = 60.0

ROOT = Path(__file__).resolve().parents[1]


class Round:
    """A server, a ledger and the processes of one turn."""

    def __init__(
        self, contestant: Contestant, server: Server, home: Path, size: int, environment: Mapping[str, str]
    ) -> None:
        self.contestant, self.server, self.home = contestant, server, home
        self.ledger = Ledger(home / "ledger", size)
        self.environment = {
            **os.environ,
            VARIABLE: str(self.ledger.path),
            "REDIS_URL": server.url,
            "EVENTBUS_HOME": str(home),
            "BENCH_REDIS_URL": server.url,
            "PYTHONPATH": str(ROOT),
            **environment,
        }
        self._workers: list[subprocess.Popen[bytes]] = []

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._workers]

    def prepare(self) -> None:
        if self.contestant.can(("prepare",)):
            code = f"from benchmarks.peers import {self.contestant.name} as m; m.prepare({self.server.url!r})"
            subprocess.run([self.contestant.python, "-c", code], env=self.environment, check=True)

    def producer(self, way: str, first: int, count: int) -> subprocess.Popen[str]:
        """Start a producer, and wait until it may be told to go."""
        arguments = [self.contestant.name, way, self.server.url, str(first), str(count)]
        process = subprocess.Popen(
            [self.contestant.python, "-m", "benchmarks.producer", *arguments],
            env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            process.wait()
            raise RuntimeError(f"The producer of {self.contestant.name} ended with {process.returncode}.")
        return process

    def publish(self, way: str, first: int, count: int) -> dict[str, Any]:
        """Publish, and return what the producer says: `took_s`, `cpu_s`."""
        return finish(go(self.producer(way, first, count)))

    def launch(self) -> None:
        """Start workers."""
        with open(self.home / "workers.log", "ab") as log:
            for command in self.contestant.module.workers(self.contestant.python, self.server.url, PROCESSES):
                self._workers.append(
                    subprocess.Popen(
                        command, env=self.environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
                    )
                )

    def start_workers(self) -> None:
        """Start them, and wait until they have handled the first events."""
        self.launch()
        self.publish("bulk", 0, WARM)
        self.ledger.wait(WARM, 60)
        time.sleep(1.0)  # until what starts late has started

    def signal(self, number: signal.Signals) -> None:
        for pid in (pid for root in self.pids for pid in meter.tree(root)):
            os.kill(pid, number)

    def stop_workers(self) -> None:
        """End them as a deploy does; what is left after ten seconds is killed."""
        everyone = [pid for root in self.pids for pid in meter.tree(root)]
        for process in self._workers:
            process.terminate()
        for process in self._workers:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in everyone:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._workers.clear()


@contextmanager
def turn(contestant: Contestant, size: int, environment: Mapping[str, str] | None = None) -> Iterator[Round]:
    """A round's server and ledger, prepared; everything is ended with it.

    Args:
        size: events in the ledger. environment: of its processes, beyond what every round's have.

    Raises:
        RuntimeError, TimeoutError: naming the contestant, with the end of its workers' log.
    """
    with tempfile.TemporaryDirectory(prefix="eventbus-bench-") as home, Server() as server:
        found = Round(contestant, server, Path(home), size, environment or {})
        try:
            found.prepare()
            yield found
        except (RuntimeError, TimeoutError, subprocess.CalledProcessError) as error:
            log = Path(home) / "workers.log"
            said = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise RuntimeError(f"{contestant.module.LABEL}: {error}\n{said}") from None
        finally:
            found.stop_workers()


def go(producer: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """Let a producer begin."""
    assert producer.stdin is not None
    producer.stdin.write("go\n")
    producer.stdin.flush()
    return producer


def finish(producer: subprocess.Popen[str]) -> dict[str, Any]:
    """Return what a producer has said at its end."""
    assert producer.stdout is not None
    said: dict[str, Any] = json.loads(producer.stdout.read() or "{}")
    if producer.wait():
        raise RuntimeError(f"A producer ended with {producer.returncode}.")
    return said


class Work:
    """Something to measure.

    Attributes:
        name: as the command line names it. title: a line over its table.
        needs: names that a contestant's module must have. count: events in a turn.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    count: int

    def run(self, contestant: Contestant) -> Figures:
        """Take one turn; every figure is per second, in microseconds, commands or bytes, as its name says."""
        raise NotImplementedError


class Publish(Work):
    """Publishing alone, nobody handles."""

    def __init__(self, name: str, way: str, title: str, count: int) -> None:
        self.name, self.title, self.count, self._way = name, title, count, way
        self.needs = (f"publish_{way}",)

    def run(self, contestant: Contestant) -> Figures:
        with turn(contestant, self.count) as at:
            producer = at.producer(self._way, 0, self.count)
            before = at.server.spent()
            said = finish(go(producer))
            spent = at.server.spent().since(before)
        return {
            "per_s": self.count / said["took_s"],
            "producer_us": said["cpu_s"] / self.count * 1e6,
            "server_us": spent.cpu_s / self.count * 1e6,
            "commands": spent.commands / self.count,
            "bytes": (spent.bytes_in + spent.bytes_out) / self.count,
        }


class Drain(Work):
    """Two worker processes that have warmed up find everything waiting."""

    name, title, needs = "drain", "Drain: two worker processes, no-op handlers, one event a call", ("workers",)
    count = 20_000

    def run(self, contestant: Contestant) -> Figures:
        with turn(contestant, WARM + self.count) as at:
            at.start_workers()
            at.signal(signal.SIGSTOP)
            at.publish("bulk", WARM, self.count)
            cpu, before, began = meter.cpu_s(at.pids), at.server.spent(), time.monotonic()
            at.signal(signal.SIGCONT)
            ended = at.ledger.wait(WARM + self.count, _WAIT_S)
            time.sleep(0.2)  # what is settled last
            spent, cpu = at.server.spent().since(before), meter.cpu_s(at.pids) - cpu
            repeats = at.ledger.repeats()
        return {
            "per_s": self.count / (ended - began),
            "worker_us": cpu / self.count * 1e6,
            "server_us": spent.cpu_s / self.count * 1e6,
            "commands": spent.commands / self.count,
            "bytes": (spent.bytes_in + spent.bytes_out) / self.count,
            "repeats": repeats,
        }


class EndToEnd(Work):
    """One producer publishes while two worker processes handle."""

    def __init__(self, name: str, way: str, title: str, count: int) -> None:
        self.name, self.title, self.count, self._way = name, title, count, way
        self.needs = ("workers", f"publish_{way}")

    def run(self, contestant: Contestant) -> Figures:
        with turn(contestant, WARM + self.count) as at:
            at.start_workers()
            producer = at.producer(self._way, WARM, self.count)
            cpu, before, began = meter.cpu_s(at.pids), at.server.spent(), time.monotonic()
            go(producer)
            ended = at.ledger.wait(WARM + self.count, _WAIT_S)
            said = finish(producer)
            time.sleep(0.2)
            spent, cpu = at.server.spent().since(before), meter.cpu_s(at.pids) - cpu
            repeats = at.ledger.repeats()
        return {
            "per_s": self.count / (ended - began),
            "producer_us": said["cpu_s"] / self.count * 1e6,
            "worker_us": cpu / self.count * 1e6,
            "server_us": spent.cpu_s / self.count * 1e6,
            "repeats": repeats,
        }


class Idle(Work):
    """An event comes when nothing else is under way: how long until it is handled, and what idling costs."""

    name, title, needs = "idle", "Idle to handled, one event every 30 ms", ("workers", "publish_one")
    count = 200
    quiet_s = 5.0

    def run(self, contestant: Contestant) -> Figures:
        with turn(contestant, WARM + self.count) as at:
            at.start_workers()
            before, cpu, began = at.server.spent(), meter.cpu_s(at.pids), time.monotonic()
            time.sleep(self.quiet_s)
            took = time.monotonic() - began
            spent, cpu = at.server.spent().since(before), meter.cpu_s(at.pids) - cpu
            latencies = sorted(finish(go(at.producer("paced", WARM, self.count)))["latencies_s"])
        return {
            "p50_ms": statistics.median(latencies) * 1e3,
            "p99_ms": latencies[int(len(latencies) * 0.99) - 1] * 1e3,
            "commands_per_s": spent.commands / took,
            "worker_cpu_percent": cpu / took * 100,
        }


WORKS: tuple[Work, ...] = (
    Publish("publish-one", "one", "Publish, one awaited after another", 5_000),
    Publish("publish-hundred", "hundred", "Publish, a hundred at once, each awaited", 20_000),
    Publish("publish-bulk", "bulk", "Publish, in bulk", 20_000),
    Drain(),
    EndToEnd("end-to-end-one", "one", "End to end: one producer, one after another", 5_000),
    EndToEnd("end-to-end-bulk", "bulk", "End to end: one producer, in bulk", 20_000),
    Idle(),
)

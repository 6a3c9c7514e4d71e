"""What the browser tests look at: a real demo run, an application whose handlers fail, workers, and a web process.

Several test processes share one: a process of its own keeps it until nobody holds the lock `users` any more. To work on
the pages, it is started by hand and kept until Ctrl-C: `python -m tests.web.browser.ground DIRECTORY PORT`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.console.command import COMMAND, ROOT, Place
from tests.waiting import wait_until

DEADLINE_S = 120
SCRIPT = "<script>window.planted=1</script>"
# What a name may hold and a page must show as text: markup, quotes, text that runs the other way, and length.
HOSTILE_NAME = f"\"><img src=x onerror=planted()>{SCRIPT}'&amp; שלום {{7*7}}"
LONG_NAME = "a-very-long-name-" * 11
HOSTILE_ID = "EV-<b>/../\"'&#%?"
HOSTILE_LATER = f"{HOSTILE_ID}{SCRIPT}"
HOSTILE_TEXT = f"{SCRIPT}\u202etxt.exe\u202c '\"><svg onload=planted()> {{{{config}}}} {'wide' * 300}"


@dataclass
class Ground:
    """Processes in a directory of their own, and the address at which the console is served."""

    place: Place
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, name: str, *arguments: object, **variables: str) -> subprocess.Popen[bytes]:
        """Start a command whose output goes to a file of its name."""
        with open(self.place.directory / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [*COMMAND, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.place.directory, env=self.place.environ(variables),
            )  # fmt: skip
        self.processes.append(process)
        return process

    def log(self, name: str) -> str:
        return (self.place.directory / f"{name}.log").read_text()[-3000:]

    def ask(self, path: str, body: Any = None, token: str = "") -> Any:
        """Return what the API answers."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/api/v1{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()}") from None

    def serve(self, port: int, **variables: str) -> Ground:
        """Start a web process on the same ground; return it as it is seen there."""
        other = Ground(self.place, port, self.processes)
        other.start(f"web-{port}", "web", "--port", port, **variables)
        wait_until(lambda: _answers(f"{other.url}/livez"), DEADLINE_S, f"the web process; {other.log(f'web-{port}')}")
        return other

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def standing(directory: Path, port: int) -> Iterator[Ground]:
    """Enter a ground on which the demo has run and everything else is running."""
    ground = Ground(_place(directory), port)
    try:
        ground.serve(port)
        with _watching(ground):  # so that the charts have the demo's course in steps of seconds
            demo = ground.start("demo", "demo")
            assert demo.wait(3 * DEADLINE_S) == 0, ground.log("demo")
            _populate(ground)
        yield ground
    finally:
        ground.close()


def _populate(ground: Ground) -> None:
    ground.start("dev", "dev", "--app", "console.demo.pipeline:bus")
    ground.start("worker", "worker", "--app", "tests.web.browser.episodes:bus", "--processes", 1, "--grace", 1)
    wait_until(lambda: _declared(ground), DEADLINE_S, f"the workers; {ground.log('worker')}")
    ground.ask("/events/batch", _episodes())
    # Two of the seven episodes fail at once, and one at the platform's second try.
    wait_until(lambda: len(_letters(ground)) >= 3, DEADLINE_S, f"the dead letters; {ground.log('worker')}")
    wait_until(lambda: _settled(ground), DEADLINE_S, "everything else to be done, and archived")
    ground.ask("/events?delay=30h", _event("EPISODE_PLANNED", "episode-9", "Editor", {"episode": 9}))
    ground.ask("/subscribers/Newsletter/pause", {})
    ground.ask("/events", _event("EPISODE_CUT", "episode-8", "Editor", {"episode": 8}))


@contextlib.contextmanager
def hostile(ground: Ground) -> Iterator[Ground]:
    """Enter another namespace of the same servers, in which every field holds what a page must not take for markup."""
    namespace = {"EVENTBUS_NAMESPACE": f"hostile-{os.getpid()}"}
    other = Ground(ground.place, free_port())
    try:
        other.serve(other.port, **namespace)
        other.start("hostile", "dev", "--app", "tests.web.browser.episodes:bus", "--grace", 1, **namespace)
        wait_until(lambda: _workers(other, "Hostile"), DEADLINE_S, f"the worker; {other.log('hostile')}")
        other.ask("/events/batch", _hostile())
        other.ask("/events?delay=30h", _event("HOSTILE", HOSTILE_NAME, HOSTILE_NAME, {}) | {"event_id": HOSTILE_LATER})
        wait_until(lambda: len(_letters(other)) == 2, DEADLINE_S, f"the dead letters; {other.log('hostile')}")
        wait_until(lambda: other.ask(f"/timeline?project={LONG_NAME}")["marks"], DEADLINE_S, "the events")
        wait_until(lambda: len(other.ask("/deliveries")["deliveries"]) == 2, DEADLINE_S, "the archived deliveries")
        yield other
    finally:
        other.close()


def _workers(ground: Ground, subscriber: str) -> int:
    """How many processes handle a subscriber's events: none before its routes are written."""
    return int(ground.ask("/lag").get(subscriber, {"workers": 0})["workers"])


def _episodes() -> list[dict[str, Any]]:
    cut = [_event("EPISODE_CUT", f"episode-{n}", "Editor", {"episode": n, "minutes": 20 + n}) for n in range(1, 8)]
    return [*cut, _event("REVIEW_WANTED", "episode-7", "Editor", {"episode": 7})]


def _hostile() -> list[dict[str, Any]]:
    payload = {"text": HOSTILE_TEXT, HOSTILE_NAME: [SCRIPT, {"</script>": None}], "numbers": [1, 2.5, True, []]}
    first = _event("HOSTILE", HOSTILE_NAME, HOSTILE_NAME, payload) | {
        "event_id": HOSTILE_ID, "blackboard_pointer": HOSTILE_NAME, "metadata": {"cost": 0.5, "currency": SCRIPT},
    }  # fmt: skip
    second = _event("HOSTILE", LONG_NAME, LONG_NAME, payload) | {"causation_id": HOSTILE_ID, "metadata": {"cost": 1}}
    return [first, second]


def _event(type: str, project: str, actor: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {"type": type, "project_id": project, "actor": actor, "payload": payload, "metadata": {"cost": 0.004}}


def _letters(ground: Ground) -> list[Any]:
    found: list[Any] = ground.ask("/dead-letters")["dead_letters"]
    return found


def _declared(ground: Ground) -> bool:
    found = {one["subscriber"]: one for one in ground.ask("/subscribers")["subscribers"]}
    return all(name in found and found[name]["workers"] for name in ("Platform", "Reviewer", "VideoGen"))


def _settled(ground: Ground) -> bool:
    found = ground.ask("/overview")
    waits = sum(one["ready"] + one["waiting"] for one in found["subscribers"])
    return not waits and ground.ask("/timeline?project=episode-7")["marks"] != []


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def _watching(ground: Ground) -> Iterator[None]:
    """Hold a live overview open, so that the web process looks at the bus every two seconds."""
    with urllib.request.urlopen(f"{ground.url}/api/v1/overview/stream", timeout=DEADLINE_S):
        yield


@contextlib.contextmanager
def shared(directory: Path) -> Iterator[Ground]:
    """Enter the ground of a directory, which another test process may have made, and may go on using."""
    directory.mkdir(parents=True, exist_ok=True)
    keeper: subprocess.Popen[bytes] | None = None
    with open(directory / "users", "w") as users, open(directory / "starting", "w") as starting:
        fcntl.flock(users, fcntl.LOCK_SH)
        fcntl.flock(starting, fcntl.LOCK_EX)
        told = directory / "told"
        if not told.exists():
            command = [sys.executable, "-m", "tests.web.browser.ground", str(directory), str(free_port()), "shared"]
            keeper = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
            wait_until(lambda: told.exists() or keeper.poll() is not None, 6 * DEADLINE_S, "the ground")
        fcntl.flock(starting, fcntl.LOCK_UN)
        port = told.read_text() if told.exists() else ""
        assert port.isdecimal(), f"The ground of the browser tests cannot be made: {port}"
        yield Ground(_place(directory), int(port))
    if keeper is not None:
        keeper.wait()  # it ends when the last test process has let go


def _place(directory: Path) -> Place:
    return Place(directory, {"EVENTBUS_WEB_TOKEN": "", "EVENTBUS_WEB_READ_TOKEN": ""})


def _keep(directory: Path, port: int, is_shared: bool) -> None:
    """Keep a ground: until nobody uses it, or for ever."""
    told = directory / "told"
    try:
        with standing(directory, port), open(directory / "users", "w") as users:
            _tell(told, str(port))
            while not (is_shared and _is_unused(users)):
                time.sleep(1)
    except BaseException as error:
        _tell(told, f"{type(error).__name__}: {error}")
        raise


def _tell(told: Path, text: str) -> None:
    """Write a file that is there whole, or not at all."""
    draft = told.with_name("told.draft")
    draft.write_text(text)
    draft.replace(told)


def _is_unused(users: Any) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    _keep(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] == ["shared"])

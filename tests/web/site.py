"""A web process for tests: started on a free port, asked by HTTP, ended by its pid."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.fleet.fleet import World
from tests.waiting import wait_until
from tests.web.described import check

_LISTENS = re.compile(r"running on http://([\d.]+):(\d+)")


@dataclass
class Site:
    """A web process.

    Attributes:
        world: its servers. http: asks it. process: it.
    """

    world: World
    http: httpx.Client
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return str(self.http.base_url).rstrip("/")

    @property
    def address(self) -> tuple[str, int]:
        return self.http.base_url.host, self.http.base_url.port or 80

    def get(self, path: str, **parameters: Any) -> Any:
        """Return the JSON of a page of the API that is answered with 200, and as the document says."""
        answer = self.http.get(f"/api/v1{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        check("GET", f"/api/v1{path}", 200, answer.json())
        return answer.json()

    def history(self, **parameters: Any) -> list[Any]:
        """Return every event that matches, page by page: the archiver may move on in the middle of one."""
        found, after, complete = [], 0, False
        while not complete:
            page = self.get("/events", **parameters, after=after, limit=1000)
            found += page["events"]
            after, complete = page["last"], page["complete"]
        return found

    def post(self, path: str, body: Any, status: int = 200) -> Any:
        answer = self.http.post(f"/api/v1{path}", json=body)
        assert answer.status_code == status, answer.text
        found = answer.json() if answer.content else None
        check("POST", f"/api/v1{path}", status, found)
        return found

    def published(self, **fields: Any) -> dict[str, Any]:
        """Publish an event over HTTP; return its receipt."""
        event = {"project_id": "film", "type": "QA_REPORT", "actor": "tester", **fields}
        answer = self.http.post("/api/v1/events", json=event)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def problem(self, method: str, path: str, status: int, **how: Any) -> dict[str, Any]:
        """Return the problem that a request is answered with."""
        answer = self.http.request(method, path, **how)
        assert answer.status_code == status, (answer.status_code, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        found: dict[str, Any] = answer.json()
        assert found["status"] == status and found["detail"] and found["title"]
        return found


def start(world: World, *arguments: str, name: str = "web", **environment: str) -> Site:
    """Start a web process and wait until it listens."""
    command = [sys.executable, "-m", "console.main", "web", "--port", "0", *arguments]
    before = len(world.log(name))
    process = world.run(command, name, **environment)

    def listens() -> re.Match[str] | None:
        assert process.poll() is None, world.log(name)
        return _LISTENS.search(world.log(name), before if before < 3000 else 0)

    found = wait_until(listens, 60, "the web process to listen")
    host = "127.0.0.1" if found[1] == "0.0.0.0" else found[1]
    return Site(world, httpx.Client(base_url=f"http://{host}:{found[2]}", timeout=30), process)


def messages(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Iterate over the messages of a stream: id, event and data, what has no data too."""
    message: dict[str, Any] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            message[name] = json.loads(value) if name == "data" else value
        elif message:
            yield message
            message = {}


class Cut:
    """Asks a web process, and cuts the connection in the middle of the answer."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address

    def request(self, path: str, headers: dict[str, str], most_bytes: int, last: bytes) -> bytes:
        """Return the first bytes of a response, at least to where `last` is."""
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in headers.items())]
        with socket.create_connection(self.address, 30) as connection:
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            got = b""
            while (
                len(got) < most_bytes
                and last not in got
                and (some := connection.recv(min(4096, most_bytes - len(got))))
            ):
                got += some
        return got


def folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path

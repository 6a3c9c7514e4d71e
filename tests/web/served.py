"""A web process's server in a thread of the test, which may move its limits and hold its threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from console.web.serving import Server, made
from events.settings import Settings
from tests.waiting import wait_until

WAIT_S = 30


@dataclass
class Served:
    """A server that listens.

    Attributes:
        server: it. http: asks it. address: where it listens.
    """

    server: Server
    http: httpx.Client
    address: tuple[str, int]

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Begin something on the server's loop; return its future."""
        return asyncio.run_coroutine_threadsafe(call, self.server.servers[0].get_loop())


@contextmanager
def served(settings: Settings) -> Iterator[Served]:
    """Enter a server on a free port; at the end it stops, as by a signal."""
    server = made(settings, "127.0.0.1", 0, "warning")
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, 60, "the server to listen")
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    with httpx.Client(base_url=f"http://{host}:{port}", timeout=WAIT_S) as client:
        yield Served(server, client, (host, port))
    server.servers[0].get_loop().call_soon_threadsafe(server.handle_exit, 15, None)
    thread.join(WAIT_S)
    assert not thread.is_alive(), "the server does not end"
